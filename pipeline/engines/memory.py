"""The memory in its own worker process: rag imports torch and Chroma, which takes seconds and much RAM.

Every verb waits for a start or a restart to finish, so that nothing said in the meantime is lost.
"""

from __future__ import annotations

import asyncio
import gc
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from config.fetches import sentence_model_files
from config.packages import MINILM
from pipeline.engine import EngineError, EngineStatus, Progress, Report
from pipeline.models.fetching import fetched
from pipeline.workers.place import MakePlace, Place, PlacedEngine, Wanted, WorkerDied
from pipeline.workers.worker import Worker
from rag import ChromaServer, Memory, MemoryFault, MemoryVerbs
from rag.asynchronous import called
from rag.embedding import BUNDLED, SentenceEmbedder

ASK_AGAIN_S = 60.0
"""How long memory searches by words only before it tries again to get the embedding model."""
_CALLS_AT_ONCE = 4
"""Memory may be called from several threads: it stores what is said while the embedding model is still loading."""


class FetchedEmbedder(SentenceEmbedder):
    """The chosen model, downloaded on first use if it is not here; meanwhile memory still stores what is said."""

    def __init__(self, report: Report, repository: str = "") -> None:
        """`repository`: the model's name on the hub; empty means all-MiniLM-L6-v2."""
        super().__init__(repository or BUNDLED)
        self._source = sentence_model_files(repository) if repository else MINILM
        self._report = report
        self._lacking: tuple[float, EngineError] | None = None

    def folder(self) -> Path:
        """Return the model's folder. Raises EngineError if it cannot be had; tries to download again after a while."""
        if self._lacking is not None and time.monotonic() - self._lacking[0] < ASK_AGAIN_S:
            raise self._lacking[1]
        try:
            return fetched(self._source, self._report)
        except EngineError as error:
            self._lacking = time.monotonic(), error
            raise


class MemoryHost:
    """The memory itself, inside a worker process; its faults are raised as EngineError."""

    def __init__(
        self, report: Report, path: Path, owner: str, chroma: ChromaServer | None, embedding: str = ""
    ) -> None:
        prepare()
        self._embedder = FetchedEmbedder(report, embedding)
        with told():
            self._memory = Memory(path, owner=owner, chroma=chroma, embedder=self._embedder)

    def do(self, verb: str, *args: Any, **options: Any) -> Any:
        """Return the verb's result. `warm` returns what is missing, or None; without its model, memory uses words."""
        if verb == "warm":
            try:
                self._embedder.folder()
            except EngineError as error:
                return str(error)
        with told():
            done = called(self._memory, verb, *args, **options)
        if verb == "warm":
            settle()
        return done

    def close(self) -> None:
        self._memory.close()


def prepare() -> None:
    """Prepare the process; call this before anything is loaded."""
    os.environ.setdefault("TQDM_DISABLE", "1")  # transformers' progress bars belong on a terminal, not in a log
    # One question is too little work to split: on a busy machine, several threads wait 500 ms for each other, where a
    # single one takes 16 ms. torch reads this when it is imported, which is when the model is loaded.
    os.environ["OMP_NUM_THREADS"] = "1"


def settle() -> None:
    """Exempt all current objects from garbage collection, because a pass over them would delay a recall by 200 ms."""
    gc.collect()
    gc.freeze()


@contextmanager
def told() -> Iterator[None]:
    try:
        yield
    except MemoryFault as fault:
        raise EngineError(str(fault)) from fault


class MemoryPlace(PlacedEngine[Place]):
    """Ready once its embedding model is loaded, and usable before."""

    _loading = False
    _lacking: str | None = None
    """Why the embedding model is missing."""
    _asking_again: asyncio.Task[None] | None = None

    async def start(self, report: Report) -> None:
        """Open the memory, then load the embedding model; only recall by meaning has to wait for that."""
        await super().start(report)
        self._loading = True
        report(Progress("loading the model for meaning"))
        try:
            self._lacking = await self._load()
        finally:
            self._loading = False
        if self._lacking is not None:
            self._asking_again = asyncio.create_task(self._ask_again(report))

    async def _ask_again(self, report: Report) -> None:
        while self._lacking is not None:
            await asyncio.sleep(ASK_AGAIN_S)
            try:
                self._lacking = await self._load()
            except EngineError as error:
                self._lacking = str(error)
        report(Progress("ready"))

    async def stop(self) -> None:
        if self._asking_again is not None:
            self._asking_again.cancel()
            await asyncio.wait([self._asking_again])
            self._asking_again = None
        await super().stop()

    async def _load(self) -> str | None:
        """Load the model and return why it is missing, or None."""
        raise NotImplementedError

    @property
    def status(self) -> EngineStatus:
        status = super().status
        if self._lacking is not None:
            status = replace(status, last_error=self._lacking)
        return replace(status, state="loading") if self._loading and status.state == "ready" else status


class WorkerMemory(MemoryPlace, MemoryVerbs):
    """An engine with memory's verbs. Its calls raise what rag.Memory's do, but EngineError for MemoryFault."""

    def __init__(
        self,
        path: Path,
        *,
        owner: str = "default",
        chroma: ChromaServer | None = None,
        embedding: str = "",
        place: MakePlace = Worker,
    ) -> None:
        """`embedding`: the embedding model's name on the hub; empty means all-MiniLM-L6-v2."""
        wanted = Wanted(
            "memory",
            f"{__name__}:MemoryHost",
            {"path": path, "owner": owner, "chroma": chroma, "embedding": embedding},
            concurrency=_CALLS_AT_ONCE,
            errors=(KeyError, ValueError),
        )
        super().__init__(place(wanted))

    async def _load(self) -> str | None:
        lacking: str | None = await self._do("warm")
        return lacking

    async def _do(self, verb: str, *args: object, **options: object) -> Any:
        return await asked(self._place, "do", verb, *args, **options)


async def asked(place: Place, method: str, *args: object, **options: object) -> Any:
    """Call the process; if it dies, call the next one, because storing a turn twice is better than losing it."""
    await place.ready()
    try:
        return await place.call(method, *args, **options)
    except WorkerDied:
        await place.ready()
        return await place.call(method, *args, **options)
