"""The memories of many owners in one worker process: it holds one model for meaning, and opens a memory as it is asked.

Each call says whose memory it is for, so that a process which takes the place of one that died opens it again.
"""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.engine import EngineError, EngineStatus, Report
from pipeline.engines.memory import FetchedEmbedder, MemoryPlace, asked, prepare, settle, told
from pipeline.workers.place import MakePlace, Place, Wanted
from pipeline.workers.worker import Worker
from rag import ChromaServer, Memory, MemoryInUse, MemoryVerbs
from rag.asynchronous import called

LET_GO_S, LOOK_EVERY_S = 5.0, 0.02
"""How long a memory may still be open elsewhere, and how often that is looked at."""
_CALLS_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Owned:
    """Where an owner's memory is."""

    path: Path
    owner: str
    chroma: ChromaServer | None = None


@dataclass(slots=True)
class _Opening:
    lock: threading.Lock = field(default_factory=threading.Lock)
    memory: Memory | None = None


class MemoriesHost:
    """The memories themselves, for a worker process; what goes wrong with one becomes EngineError."""

    def __init__(self, report: Report) -> None:
        prepare()
        self._embedder = FetchedEmbedder(report)
        self._lock = threading.Lock()
        self._open: dict[Owned, _Opening] = {}

    def load(self) -> str | None:
        """Load the model for meaning; what is lacking, or None. Without it, memory goes by words."""
        try:
            self._embedder.folder()
        except EngineError as error:
            return str(error)
        self._embedder.embed(["warm"])
        settle()
        return None

    def open(self, owned: Owned) -> None:
        """Raises EngineError: another program has it open, or it cannot be read."""
        self._opened(owned)

    def do(self, owned: Owned, verb: str, *args: Any, **options: Any) -> Any:
        """The verb's result."""
        with told():
            return called(self._opened(owned), verb, *args, **options)

    def let_go(self, owned: Owned) -> None:
        """Close it, so that another program may open it."""
        with self._lock:
            opening = self._open.pop(owned, None)
        if opening is not None:
            with opening.lock:
                if opening.memory is not None:
                    opening.memory.close()

    def close(self) -> None:
        for owned in list(self._open):
            self.let_go(owned)

    def _opened(self, owned: Owned) -> Memory:
        with self._lock:
            opening = self._open.setdefault(owned, _Opening())
        with opening.lock, told():
            if opening.memory is None:
                opening.memory = self._open_soon(owned)
            return opening.memory

    def _open_soon(self, owned: Owned) -> Memory:
        """A process that has just died, or has just been asked to let go, may hold it for a moment longer."""
        until = time.monotonic() + LET_GO_S
        while True:
            try:
                return Memory(owned.path, owner=owned.owner, chroma=owned.chroma, embedder=self._embedder)
            except MemoryInUse:
                if time.monotonic() >= until:
                    raise
                time.sleep(LOOK_EVERY_S)


class Memories(MemoryPlace):
    """Memories can be opened as soon as the process runs, before the model for meaning is loaded."""

    def __init__(self, place: MakePlace = Worker) -> None:
        target = f"{__name__}:MemoriesHost"
        wanted = Wanted("memory", target, concurrency=_CALLS_AT_ONCE, errors=(KeyError, ValueError))
        super().__init__(place(wanted))

    async def _load(self) -> str | None:
        lacking: str | None = await asked(self._place, "load")
        return lacking

    def of(self, owned: Owned) -> OwnersMemory:
        return OwnersMemory(self, self._place, owned)


class OwnersMemory(MemoryVerbs):
    """An engine, and memory's verbs, for one owner. Its calls raise what rag.Memory's do, but EngineError for
    MemoryFault."""

    def __init__(self, memories: Memories, place: Place, owned: Owned) -> None:
        self._memories = memories
        self._place = place
        self._owned = owned
        self._warming: asyncio.Task[None] | None = None

    async def start(self, report: Report) -> None:
        """Open it; what finds by meaning is loaded behind that. Raises EngineError."""
        await asked(self._place, "open", self._owned)
        self._warming = asyncio.create_task(self._warm())

    async def stop(self) -> None:
        if self._warming is not None:
            self._warming.cancel()
            await asyncio.wait([self._warming])
        with suppress(EngineError):  # a process that has ended holds nothing any more
            await self._place.call("let_go", self._owned)

    @property
    def status(self) -> EngineStatus:
        return self._memories.status

    async def _warm(self) -> None:
        with suppress(EngineError):  # whoever recalls will meet the same trouble, and be told of it
            await self._do("warm")

    async def _do(self, verb: str, *args: object, **options: object) -> Any:
        return await asked(self._place, "do", self._owned, verb, *args, **options)
