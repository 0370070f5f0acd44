"""Memory's verbs as coroutines, over a thread here, or over whatever else reaches a memory."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import partial, wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from rag.embedding import Embedder
from rag.memory import Memory
from rag.vectors import ChromaServer

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def awaited(
    verb: Callable[Concatenate[Memory, Arguments], Result],
) -> Callable[Concatenate[MemoryVerbs, Arguments], Coroutine[Any, Any, Result]]:
    """A method of `Memory` as a coroutine, with its signature and its documentation."""

    @wraps(verb)
    async def done(self: MemoryVerbs, /, *args: Arguments.args, **options: Arguments.kwargs) -> Result:
        return cast(Result, await self._do(verb.__name__, *args, **options))

    return done


class MemoryVerbs(ABC):
    """What `Memory` does, awaited. Every verb takes, returns and raises what it does there."""

    @abstractmethod
    async def _do(self, verb: str, *args: object, **options: object) -> Any:
        """Call the memory's method of that name, or read its property."""

    remember = awaited(Memory.remember)
    recall = awaited(Memory.recall)
    forget = awaited(Memory.forget)
    correct = awaited(Memory.correct)
    search = awaited(Memory.search)
    conversations = awaited(Memory.conversations)
    turns = awaited(Memory.turns)
    export = awaited(Memory.export)
    import_ = awaited(Memory.import_)
    size = awaited(Memory.size)
    warm = awaited(Memory.warm)

    async def notices(self) -> tuple[str, ...]:
        """What people should be told of the memory itself."""
        return cast("tuple[str, ...]", await self._do("notices"))


def called(memory: Memory, verb: str, *args: object, **options: object) -> Any:
    """What a verb of `MemoryVerbs` returns."""
    found = getattr(memory, verb)
    return found(*args, **options) if callable(found) else found


class AsyncMemory(MemoryVerbs):
    """Over one worker thread: the verbs happen in the order they were called, and never block the loop."""

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
        """Raises what `Memory` raises."""
        return cls(await asyncio.to_thread(lambda: Memory(path, owner=owner, embedder=embedder, chroma=chroma)))

    async def _do(self, verb: str, *args: object, **options: object) -> Any:
        work = partial(called, self._memory, verb, *args, **options)
        return await asyncio.get_running_loop().run_in_executor(self._worker, work)

    async def close(self) -> None:
        await self._do("close")
        self._worker.shutdown()
