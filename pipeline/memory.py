"""The memory in its own worker process: rag brings torch and Chroma, which take seconds to import and memory to hold.

Every verb is rag.AsyncMemory's, and waits out a start or a restart, so that nothing said in the meantime is lost.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path
from typing import Any

from pipeline.engine import EngineError, EngineStatus, Progress, Report
from pipeline.worker import Worker, WorkerDied
from rag import ChromaServer, ConversationSummary, Memory, MemoryFault, MemorySize, Recall, Remembered

_CALLS_AT_ONCE = 4
"""Memory is safe to call from several threads: what was said is kept while the language model is still loading."""


class MemoryHost:
    """The memory itself, for a worker process; what goes wrong with it becomes EngineError."""

    def __init__(self, report: Report, path: Path, owner: str, chroma: ChromaServer | None) -> None:
        os.environ.setdefault("TQDM_DISABLE", "1")  # transformers' bars are for a terminal, not for a log
        # One question is too little work to share out: on a busy machine, several threads wait 500 ms for each other
        # where one takes 16 ms. Read when torch is imported, which is when the model is loaded.
        os.environ["OMP_NUM_THREADS"] = "1"
        with _told():
            self._memory = Memory(path, owner=owner, chroma=chroma)

    def do(self, verb: str, *args: Any, **kwargs: Any) -> Any:
        with _told():
            return self._memory.notices if verb == "notices" else getattr(self._memory, verb)(*args, **kwargs)

    def close(self) -> None:
        self._memory.close()


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except MemoryFault as fault:
        raise EngineError(str(fault)) from fault


class WorkerMemory:
    """An engine, and rag.AsyncMemory's face. Its calls raise what rag.Memory's do, but EngineError for MemoryFault."""

    def __init__(self, path: Path, *, owner: str = "default", chroma: ChromaServer | None = None) -> None:
        self._worker = Worker(
            "memory",
            f"{__name__}:MemoryHost",
            {"path": path, "owner": owner, "chroma": chroma},
            concurrency=_CALLS_AT_ONCE,
            errors=(KeyError, ValueError),
        )
        self._warming = False

    async def start(self, report: Report) -> None:
        """Open it, then load the model that tells what a question means; until then only that has to wait."""
        await self._worker.start(report)
        self._warming = True
        report(Progress("loading the model for meaning"))
        try:
            await self._do("warm")
        finally:
            self._warming = False

    async def stop(self) -> None:
        await self._worker.stop()

    @property
    def status(self) -> EngineStatus:
        status = self._worker.status
        return replace(status, state="loading") if self._warming and status.state == "ready" else status

    async def remember(
        self, speaker: str, text: str, *, at: datetime | None = None, conversation: str | None = None
    ) -> str:
        id: str = await self._do("remember", speaker, text, at=at, conversation=conversation)
        return id

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
        recalled: Recall = await self._do("recall", query, budget_chars=budget_chars, now=now, **options)
        return recalled

    async def notices(self) -> tuple[str, ...]:
        """What people should be told: damage that was repaired, and what does not work at present."""
        notices: tuple[str, ...] = await self._do("notices")
        return notices

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
        removed: int = await self._do("forget", **which)
        return removed

    async def correct(self, id: str, text: str) -> None:
        await self._do("correct", id, text)

    async def search(self, query: str, *, limit: int = 50) -> list[Remembered]:
        found: list[Remembered] = await self._do("search", query, limit=limit)
        return found

    async def conversations(self) -> list[ConversationSummary]:
        summaries: list[ConversationSummary] = await self._do("conversations")
        return summaries

    async def turns(
        self,
        *,
        conversation: str | None = None,
        day: date | None = None,
        limit: int = 200,
        before: str | None = None,
    ) -> list[Remembered]:
        turns: list[Remembered] = await self._do(
            "turns", conversation=conversation, day=day, limit=limit, before=before
        )
        return turns

    async def export(self, file: Path) -> int:
        exported: int = await self._do("export", file)
        return exported

    async def import_(self, file: Path) -> int:
        added: int = await self._do("import_", file)
        return added

    async def size(self) -> MemorySize:
        size: MemorySize = await self._do("size")
        return size

    async def _do(self, verb: str, *args: object, **kwargs: object) -> Any:
        """Ask the process; when it dies over it, ask the next one: a turn is then kept twice rather than not at all."""
        await self._worker.ready()
        try:
            return await self._worker.call("do", verb, *args, **kwargs)
        except WorkerDied:
            await self._worker.ready()
            return await self._worker.call("do", verb, *args, **kwargs)
