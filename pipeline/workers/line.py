"""The requesting end of a line to an engine, a pipe or a socket: any number of requests at once, each numbered.

A request is ("call" or "stream", number, method, args, kwargs). Its replies carry the same number: any number of
("item", x), then ("value", x) or ("error", (names, text)). "more" asks for another item of a stream, and "cancel" says
that the result is no longer wanted.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from itertools import count
from typing import Any

from pipeline.engine import EngineError
from pipeline.workers.place import WorkerDied


class Raised(Exception):
    """What the engine raised: the names of its class and base classes, and its text."""

    def __init__(self, names: list[str], text: str) -> None:
        super().__init__(text)
        self.names = names
        self.text = text


def names_of(error: Exception) -> list[str]:
    return [f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__]


class KnownErrors:
    """The engine's exceptions that are raised here again as their own class."""

    def __init__(self, engine: str, errors: Iterable[type[Exception]]) -> None:
        known: tuple[type[Exception], ...] = (EngineError, WorkerDied, *errors)
        self._engine = engine
        self._known: Mapping[str, type[Exception]] = {f"{kind.__module__}.{kind.__qualname__}": kind for kind in known}

    def translated(self, raised: Raised, verb: str) -> Exception:
        known = next((self._known[name] for name in raised.names if name in self._known), None)
        if known is not None:
            return known(raised.text)
        line = next(iter(raised.text.splitlines()), "")
        if "builtins.ImportError" in raised.names:
            return EngineError(f"{self._engine} {verb} ({line}): run `python3 setup.py` to repair the installation.")
        kind = raised.names[0].rpartition(".")[2]
        return EngineError(f"{self._engine} {verb} ({kind}: {line}).")


class Line(ABC):
    def __init__(self) -> None:
        self._numbers = count()
        self._replies: dict[int, asyncio.Queue[tuple[str, Any]]] = {}

    async def request(self, kind: str, *details: object) -> AsyncGenerator[tuple[str, Any], None]:
        """Yield the replies to one request: any number of ("item", x), then ("value", x). Closing it cancels the work.

        Raises:
            WorkerDied: the line ended before the request was answered.
            Raised: the engine raised an exception.
        """
        if self.ended:
            raise self.death()
        number = next(self._numbers)
        replies = self._replies[number] = asyncio.Queue()
        finished = False
        try:
            self.write(kind, number, *details)
            await self.written()
            while not finished:
                sort, payload = await replies.get()
                finished = sort != "item"
                if sort == "died":
                    raise self.death()
                if sort == "error":
                    raise Raised(*payload)
                yield sort, payload
                if kind == "stream" and not finished:
                    self.write("more", number)
                    await self.written()
        finally:
            del self._replies[number]
            if not finished:
                self.write("cancel", number)

    def take(self, kind: str, number: int, payload: object) -> None:
        """Pass a reply to its request."""
        if replies := self._replies.get(number):  # none if it was cancelled meanwhile
            replies.put_nowait((kind, payload))

    def end(self) -> None:
        """Tell all waiting requests that no more replies will come."""
        for replies in self._replies.values():
            replies.put_nowait(("died", None))

    @property
    @abstractmethod
    def ended(self) -> bool: ...

    @abstractmethod
    def death(self) -> WorkerDied:
        """Return an exception that says how the line ended; call this only after it has."""

    @abstractmethod
    def write(self, kind: str, number: int, *details: object) -> None:
        """Send a message as soon as possible; do nothing if the line has ended."""

    @abstractmethod
    async def written(self) -> None:
        """Wait while much is still unsent."""


class Asking(ABC):
    """The requests to an engine over a line: EngineCalls without ready()."""

    async def call(self, method: str, *args: object, **kwargs: object) -> Any:
        """Call a method of the engine. If the caller is cancelled, work that has not begun is dropped.

        Raises:
            EngineError: the engine is not ready, or failed; WorkerDied if its process ended meanwhile.
        """
        async with aclosing(self.replies("call", method, args, kwargs)) as replies:
            _, value = await anext(replies)
            return value

    async def stream(self, method: str, *args: object, **kwargs: object) -> AsyncGenerator[Any, None]:
        """Yield the items of a generator method of the engine. Closing this closes that. Raises as call() does."""
        async with aclosing(self.replies("stream", method, args, kwargs)) as replies:
            async for kind, item in replies:
                if kind == "item":
                    yield item

    @abstractmethod
    def replies(self, *request: Any) -> AsyncGenerator[tuple[str, Any], None]:
        """Line.request, but with the engine's own exceptions."""
