"""Closing a console window on Windows ends a program in good order, as SIGHUP does elsewhere.

Windows calls a handler in a thread of its own and ends the process as soon as the handler returns, after 5 s at the
latest (learn.microsoft.com/windows/console/handlerroutine). So the handler asks the program to end, and waits for it.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event

CLOSED, LOGGED_OFF, SHUT_DOWN = 2, 5, 6
"""Windows' numbers of these events; Ctrl-C and Ctrl-Break reach Python as signals."""
WAIT_S = 5.0

Handler = Callable[[int], bool]
Register = Callable[[Handler, bool], object]


@contextmanager
def closing_ends(end: Callable[[], None], register: Register | None = None) -> Iterator[None]:
    """Call `end` when the console is closed, and keep Windows waiting until the block is left.

    Args:
        end: asks the program to leave the block; it is called in another thread.
        register: adds (True) and removes (False) a handler; None is Windows' own function, and nothing elsewhere.
    """
    register = register or windows()
    left = Event()

    def handler(event: int) -> bool:
        if event not in (CLOSED, LOGGED_OFF, SHUT_DOWN):
            return False
        end()
        left.wait(WAIT_S)
        return True

    register(handler, True)
    try:
        yield
    finally:
        left.set()
        register(handler, False)


if sys.platform == "win32":

    def windows() -> Register:
        made: dict[Handler, object] = {}  # Windows calls it later, so it must not be collected

        def register(handler: Handler, add: bool) -> None:
            routine = made.setdefault(handler, ctypes.WINFUNCTYPE(ctypes.c_int, ctypes.c_uint)(handler))
            ctypes.windll.kernel32.SetConsoleCtrlHandler(routine, add)

        return register

else:

    def windows() -> Register:
        return lambda handler, add: None
