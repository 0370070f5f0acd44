"""The methods of `Memory` as coroutines, run in a local thread or by anything else that reaches a memory."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import partial, wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from rag.chroma_server import ChromaServer
from rag.embedding import Embedder
from rag.memory import Memory

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def awaited(
    verb: Callable[Concatenate[Memory, Arguments], Result],
) -> Callable[Concatenate[MemoryVerbs, Arguments], Coroutine[Any, Any, Result]]:
    """Turn a method of `Memory` into a coroutine with the same signature and documentation."""

    @wraps(verb)
    async def done(self: MemoryVerbs, /, *args: Arguments.args, **options: Arguments.kwargs) -> Result:
        return cast(Result, await self._do(verb.__name__, *args, **options))

    return done


class MemoryVerbs(ABC):
    """The methods of `Memory`, to be awaited. Each takes, returns and raises the same as there."""

    @abstractmethod
    async def _do(self, verb: str, *args: object, **options: object) -> Any:
        """Call the memory's method of that name, or read its property."""

    remember = awaited(Memory.remember)
    recall = awaited(Memory.recall)
    forget = awaited(Memory.forget)
    correct = awaited(Memory.correct)
    search = awaited(Memory.search)
    conversations = awaited(Memory.conversations)
    days = awaited(Memory.days)
    turns = awaited(Memory.turns)
    export = awaited(Memory.export)
    import_ = awaited(Memory.import_)
    size = awaited(Memory.size)
    warm = awaited(Memory.warm)

    async def notices(self) -> tuple[str, ...]:
        """Messages for people about the memory itself."""
        return cast("tuple[str, ...]", await self._do("notices"))


def called(memory: Memory, verb: str, *args: object, **options: object) -> Any:
    """Call a verb of `MemoryVerbs` on a memory and return its result, or read a property."""
    found = getattr(memory, verb)
    return found(*args, **options) if callable(found) else found


class AsyncMemory(MemoryVerbs):
    """Runs a memory in one worker thread: calls run in the order they were made and never block the event loop."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="recall")

    @classmethod
    async def open(
        cls,
        path: Path,
        *,
        owner: str = "default",
        embedder: Embedder | None = None,
        chroma: ChromaServer | None = None,
    ) -> AsyncMemory:
        """Open a memory in its own thread. Raises what `Memory` raises."""
        return cls(await asyncio.to_thread(lambda: Memory(path, owner=owner, embedder=embedder, chroma=chroma)))

    async def _do(self, verb: str, *args: object, **options: object) -> Any:
        work = partial(called, self._memory, verb, *args, **options)
        return await asyncio.get_running_loop().run_in_executor(self._worker, work)

    async def close(self) -> None:
        await self._do("close")
        self._worker.shutdown()
