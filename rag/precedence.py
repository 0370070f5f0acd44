"""Questions go first: background work pauses between two steps, and so does Python's garbage collector."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

PATIENCE = 0.2
"""Seconds that background work waits at most, so that constant questions cannot hold it up."""


class Precedence:
    """Shared by the threads that answer questions and those that work in the background."""

    def __init__(self) -> None:
        self._asking = 0
        self._quiet = threading.Condition()

    @contextmanager
    def question(self) -> Iterator[None]:
        """Mark that a question is being answered while the block runs, and pause Python's garbage collector: its pass
        over all objects takes 200 ms with torch and Chroma loaded. It catches up once the answer is there."""
        collecting = gc.isenabled()
        with self._quiet:
            self._asking += 1
        gc.disable()
        try:
            yield
        finally:
            if collecting:
                gc.enable()
            with self._quiet:
                self._asking -= 1
                self._quiet.notify_all()

    def give_way(self) -> None:
        """Wait for the questions that are being answered; call this before each step of background work."""
        with self._quiet:
            self._quiet.wait_for(lambda: not self._asking, timeout=PATIENCE)
