"""Writing to disk outside the event loop, without losing anything when the program ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, TextIO, TypeVar

from pipeline.cleanup import uninterrupted

T = TypeVar("T")


class Appender(Generic[T]):
    def __init__(self, append: Callable[[list[T]], None]) -> None:
        """`append` writes a list that is never empty; it runs in a thread and handles its own errors."""
        self._append = append
        self._waiting: asyncio.Queue[T] = asyncio.Queue()

    def add(self, item: T) -> None:
        """Add an item. Never blocks."""
        self._waiting.put_nowait(item)

    async def run(self) -> None:
        """Write the added items in order, until cancelled."""
        try:
            while True:
                some = [await self._waiting.get(), *self._rest()]
                try:
                    await uninterrupted(asyncio.to_thread(self._append, some))  # what was taken must not be lost
                finally:
                    self._done(some)
        finally:
            if rest := self._rest():
                self._append(rest)
                self._done(rest)

    async def written(self) -> None:
        """Wait until everything added so far has been written, or has failed to be."""
        await self._waiting.join()

    def _rest(self) -> list[T]:
        return [self._waiting.get_nowait() for _ in range(self._waiting.qsize())]

    def _done(self, items: list[T]) -> None:
        for _ in items:
            self._waiting.task_done()


@contextmanager
def rewriting(path: Path) -> Iterator[TextIO]:
    """Open a file's new text, which replaces the old one only if the block ends without error. Raises OSError."""
    new = path.with_name(f".{path.name}.new")
    try:
        with new.open("w", encoding="utf-8") as file:
            yield file
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)
