"""Memory's verbs as coroutines, over a thread here, or over whatever else reaches a memory."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime
from functools import partial
from pathlib import Path
from typing import Any, cast

from rag.embedding import Embedder
from rag.memory import Memory
from rag.records import ConversationSummary, MemorySize, Recall, Remembered
from rag.vectors import ChromaServer


class MemoryVerbs(ABC):
    """What `Memory` does, awaited. Every verb takes, returns and raises what it does there."""

    @abstractmethod
    async def _do(self, verb: str, *args: object, **options: object) -> Any:
        """Call the memory's method of that name, or read its property."""

    async def remember(
        self, speaker: str, text: str, *, at: datetime | None = None, conversation: str | None = None
    ) -> str:
        return cast(str, await self._do("remember", speaker, text, at=at, conversation=conversation))

    async def recall(
        self,
        query: str,
        *,
        budget_chars: int = 2400,
        now: datetime | None = None,
        exclude_conversation: str | None = None,
        asker: str | None = None,
    ) -> Recall:
        options = {"exclude_conversation": exclude_conversation, "asker": asker}
        return cast(Recall, await self._do("recall", query, budget_chars=budget_chars, now=now, **options))

    async def forget(
        self,
        *,
        id: str | None = None,
        conversation: str | None = None,
        day: date | None = None,
        before: datetime | None = None,
        everything: bool = False,
    ) -> int:
        which = {"id": id, "conversation": conversation, "day": day, "before": before, "everything": everything}
        return cast(int, await self._do("forget", **which))

    async def correct(self, id: str, text: str) -> None:
        await self._do("correct", id, text)

    async def search(self, query: str, *, limit: int = 50) -> list[Remembered]:
        return cast("list[Remembered]", await self._do("search", query, limit=limit))

    async def conversations(self) -> list[ConversationSummary]:
        return cast("list[ConversationSummary]", await self._do("conversations"))

    async def turns(
        self,
        *,
        conversation: str | None = None,
        day: date | None = None,
        limit: int = 200,
        before: str | None = None,
    ) -> list[Remembered]:
        which = {"conversation": conversation, "day": day, "limit": limit, "before": before}
        return cast("list[Remembered]", await self._do("turns", **which))

    async def export(self, file: Path) -> int:
        return cast(int, await self._do("export", file))

    async def import_(self, file: Path) -> int:
        return cast(int, await self._do("import_", file))

    async def size(self) -> MemorySize:
        return cast(MemorySize, await self._do("size"))

    async def notices(self) -> tuple[str, ...]:
        return cast("tuple[str, ...]", await self._do("notices"))

    async def warm(self) -> None:
        await self._do("warm")


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
