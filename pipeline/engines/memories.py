"""The memories of many owners in one worker process, which loads one embedding model and opens memories on demand.

Each call names the memory's owner, so that a process that replaces one that died opens it again.
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
"""How long to wait for a memory that is still open elsewhere, and how often to check."""
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
    """The memories themselves, inside a worker process; their faults are raised as EngineError."""

    def __init__(self, report: Report, embedding: str = "") -> None:
        prepare()
        self._embedder = FetchedEmbedder(report, embedding)
        self._lock = threading.Lock()
        self._open: dict[Owned, _Opening] = {}

    def load(self) -> str | None:
        """Load the embedding model. Return what is missing, or None; without the model, memory searches by words."""
        try:
            self._embedder.folder()
        except EngineError as error:
            return str(error)
        self._embedder.embed(["warm"])
        settle()
        return None

    def open(self, owned: Owned) -> None:
        """Open a memory. Raises EngineError if another program has it open or it cannot be read."""
        self._opened(owned)

    def do(self, owned: Owned, verb: str, *args: Any, **options: Any) -> Any:
        """Call a verb of the memory and return its result."""
        with told():
            return called(self._opened(owned), verb, *args, **options)

    def let_go(self, owned: Owned) -> None:
        """Close the memory, so that another program may open it."""
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
        """Open a memory, waiting briefly for a process that has just died or was just asked to let it go."""
        until = time.monotonic() + LET_GO_S
        while True:
            try:
                return Memory(owned.path, owner=owned.owner, chroma=owned.chroma, embedder=self._embedder)
            except MemoryInUse:
                if time.monotonic() >= until:
                    raise
                time.sleep(LOOK_EVERY_S)


class Memories(MemoryPlace):
    """All memories. They can be opened as soon as the process runs, before the embedding model is loaded."""

    def __init__(self, embedding: str = "", place: MakePlace = Worker) -> None:
        """`embedding`: the embedding model's name on the hub; empty means all-MiniLM-L6-v2."""
        target = f"{__name__}:MemoriesHost"
        wanted = Wanted(
            "memory", target, {"embedding": embedding}, concurrency=_CALLS_AT_ONCE, errors=(KeyError, ValueError)
        )
        super().__init__(place(wanted))

    async def _load(self) -> str | None:
        lacking: str | None = await asked(self._place, "load")
        return lacking

    def of(self, owned: Owned) -> OwnersMemory:
        return OwnersMemory(self, self._place, owned)


class OwnersMemory(MemoryVerbs):
    """An engine with memory's verbs, for one owner. Its calls raise what rag.Memory's do, but EngineError for
    MemoryFault."""

    def __init__(self, memories: Memories, place: Place, owned: Owned) -> None:
        self._memories = memories
        self._place = place
        self._owned = owned
        self._warming: asyncio.Task[None] | None = None

    async def start(self, report: Report) -> None:
        """Open the memory; the embedding model is loaded in the background. Raises EngineError."""
        await asked(self._place, "open", self._owned)
        self._warming = asyncio.create_task(self._warm())

    async def stop(self) -> None:
        if self._warming is not None:
            self._warming.cancel()
            await asyncio.wait([self._warming])
        with suppress(EngineError):  # an ended process holds nothing
            await self._place.call("let_go", self._owned)

    @property
    def status(self) -> EngineStatus:
        return self._memories.status

    async def _warm(self) -> None:
        with suppress(EngineError):  # the next recall meets and reports the same error
            await self._do("warm")

    async def _do(self, verb: str, *args: object, **options: object) -> Any:
        return await asked(self._place, "do", self._owned, verb, *args, **options)
