"""How many conversations this machine holds at once."""

from __future__ import annotations

import os

import psutil

PER_CORE = 5
"""By benchmarks/capacity.py: 20 on four cores with the offline profile, each user speaking a third of the time."""

ENGINES_BYTES = 1_500_000_000
"""What the engines of the offline profile, the server and the system around them need."""

EACH_BYTES = 120_000_000
"""A conversation's share: mostly the decoder that listens to it."""


def capacity(cores: int, memory_bytes: int) -> int:
    """At least one: whoever has the machine to themselves may try."""
    return max(1, min(PER_CORE * cores, (memory_bytes - ENGINES_BYTES) // EACH_BYTES))


def of_this_machine() -> int:
    return capacity(os.cpu_count() or 1, psutil.virtual_memory().total)
