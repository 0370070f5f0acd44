"""Memory's verbs as coroutines."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime
from pathlib import Path
from typing import TypeVar

from rag.embedding import Embedder
from rag.memory import Memory
from rag.records import ConversationSummary, MemorySize, Recall, Remembered
from rag.vectors import ChromaServer

Result = TypeVar("Result")


class AsyncMemory:
    """The same verbs over one worker thread: they happen in the order they were called, and never block the loop."""

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

    async def _run(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._worker, work)

    async def remember(
        self, speaker: str, text: str, *, at: datetime | None = None, conversation: str | None = None
    ) -> str:
        return await self._run(lambda: self._memory.remember(speaker, text, at=at, conversation=conversation))

    async def recall(
        self,
        query: str,
        *,
        budget_chars: int = 2400,
        now: datetime | None = None,
        exclude_conversation: str | None = None,
        asker: str | None = None,
    ) -> Recall:
        return await self._run(
            lambda: self._memory.recall(
                query, budget_chars=budget_chars, now=now, exclude_conversation=exclude_conversation, asker=asker
            )
        )

    async def forget(
        self,
        *,
        id: str | None = None,
        conversation: str | None = None,
        day: date | None = None,
        before: datetime | None = None,
        everything: bool = False,
    ) -> int:
        return await self._run(
            lambda: self._memory.forget(id=id, conversation=conversation, day=day, before=before, everything=everything)
        )

    async def correct(self, id: str, text: str) -> None:
        await self._run(lambda: self._memory.correct(id, text))

    async def search(self, query: str, *, limit: int = 50) -> list[Remembered]:
        return await self._run(lambda: self._memory.search(query, limit=limit))

    async def conversations(self) -> list[ConversationSummary]:
        return await self._run(self._memory.conversations)

    async def turns(
        self,
        *,
        conversation: str | None = None,
        day: date | None = None,
        limit: int = 200,
        before: str | None = None,
    ) -> list[Remembered]:
        return await self._run(
            lambda: self._memory.turns(conversation=conversation, day=day, limit=limit, before=before)
        )

    async def export(self, file: Path) -> int:
        return await self._run(lambda: self._memory.export(file))

    async def import_(self, file: Path) -> int:
        return await self._run(lambda: self._memory.import_(file))

    async def size(self) -> MemorySize:
        return await self._run(self._memory.size)

    async def notices(self) -> tuple[str, ...]:
        return await self._run(lambda: self._memory.notices)

    async def warm(self) -> None:
        await self._run(self._memory.warm)

    async def close(self) -> None:
        await self._run(self._memory.close)
        self._worker.shutdown()
