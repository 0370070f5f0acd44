"""Questions go first: what is done behind them waits between two pieces of work, and so does the collector."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

PATIENCE = 0.2
"""Seconds that a piece of work waits at the most, so that somebody who never stops asking does not hold it up."""


class Precedence:
    """Shared by who answers questions and who works behind them."""

    def __init__(self) -> None:
        self._asking = 0
        self._quiet = threading.Condition()

    @contextmanager
    def question(self) -> Iterator[None]:
        """While a question is answered. Python's collector waits, too: going through all that a process holds takes
        200 ms where torch and Chroma are loaded, and makes up for it as soon as the answer is there."""
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
        """Before each piece of work behind: wait for the questions that are being answered."""
        with self._quiet:
            self._quiet.wait_for(lambda: not self._asking, timeout=PATIENCE)
