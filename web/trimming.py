"""Gives memory that nothing uses any more back to the system, once nobody talks.

glibc keeps what was freed between two blocks that are still in use. Over hours, the server's memory grew by that alone.
"""

from __future__ import annotations

import asyncio
import ctypes
from collections.abc import Callable

AFTER_S = 10.0
"""Seconds after a conversation, when what it used has been let go."""


def give_back() -> None:
    """Does nothing where the C library has no such function (macOS, Windows, musl)."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, TypeError, OSError):
        return
    trim(0)


class Trimmer:
    def __init__(self, give_back: Callable[[], object] = give_back) -> None:
        self._give_back = give_back
        self._timer: asyncio.TimerHandle | None = None

    def talk(self, talking: bool) -> None:
        """Note whether somebody talks now."""
        self.end()
        if not talking:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(AFTER_S, loop.run_in_executor, None, self._give_back)

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
