"""Who computes first where the cores do not suffice for all."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

AUTOGROUP = Path("/proc/self/autogroup")


def give_way(nice: int) -> None:
    """Let other processes go first, by so many steps from 0 to 19. It cannot be taken back.

    On Linux a process's own niceness counts only among those of its session, and sessions share the cores evenly, each
    by a niceness of its group (sched(7), "The autogroup feature"). A worker has a session of its own, so both are set.
    On Windows nothing is.
    """
    if not hasattr(os, "nice"):
        return
    os.nice(nice)
    with suppress(OSError):  # a kernel without such groups, or a container that shows none
        AUTOGROUP.write_text(str(nice), "ascii")
