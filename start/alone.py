"""Lets one start at a time install into an environment. Standard library only."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

LOOK_EVERY_S = 0.2


@contextlib.contextmanager
def alone(venv: Path) -> Iterator[None]:
    """Lock the environment while the block runs, and wait for whoever has it locked. Raises OSError.

    The system releases the lock when this program and the installers that it has started have ended, however they end:
    those of a killed start may go on for minutes.
    """
    with venv.with_name(f"{venv.name}.lock").open("a", encoding="utf-8") as file:
        os.set_inheritable(file.fileno(), True)  # for installers, which are started with close_fds=False
        if not _locked(file):
            print(f"Another start of Parley is setting up {venv}: waiting until it is done.", flush=True)
            while not _locked(file):
                time.sleep(LOOK_EVERY_S)
        yield


def _locked(file: IO[str]) -> bool:
    """Lock the file; return False if another program has."""
    if sys.platform == "win32":
        import msvcrt

        try:
            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
    else:
        import fcntl

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True
