"""Writing to the disk outside the event loop, without losing anything when the program ends."""

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
        """`append` writes what it is given, never nothing; it runs in a thread, and sees to its own errors."""
        self._append = append
        self._waiting: asyncio.Queue[T] = asyncio.Queue()

    def add(self, item: T) -> None:
        """Never blocks."""
        self._waiting.put_nowait(item)

    async def run(self) -> None:
        """Write, in order, what is added until this is cancelled."""
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
        """Wait until everything added so far was brought to disk, or could not be."""
        await self._waiting.join()

    def _rest(self) -> list[T]:
        return [self._waiting.get_nowait() for _ in range(self._waiting.qsize())]

    def _done(self, items: list[T]) -> None:
        for _ in items:
            self._waiting.task_done()


@contextmanager
def rewriting(path: Path) -> Iterator[TextIO]:
    """A file's new text: it takes the old one's place when the block ends well, and not otherwise. Raises OSError."""
    new = path.with_name(f".{path.name}.new")
    try:
        with new.open("w", encoding="utf-8") as file:
            yield file
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)
