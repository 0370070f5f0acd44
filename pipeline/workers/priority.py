"""Which processes compute first if there are too few cores for all."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

AUTOGROUP = Path("/proc/self/autogroup")


def give_way(nice: int) -> None:
    """Lower this process's priority by `nice` steps, 0 to 19. This cannot be undone.

    On Linux a process's own niceness counts only within its session; sessions share the cores evenly, weighted by the
    niceness of their autogroup (sched(7), "The autogroup feature"). A worker has its own session, so both are set. On
    Windows neither is.
    """
    if not hasattr(os, "nice"):
        return
    os.nice(nice)
    with suppress(OSError):  # a kernel without autogroups, or a container that hides them
        AUTOGROUP.write_text(str(nice), "ascii")
