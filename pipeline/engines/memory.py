"""The memory in its own worker process: rag brings torch and Chroma, which take seconds to import and memory to hold.

Every verb waits out a start or a restart, so that nothing said in the meantime is lost.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from config.packages import MINILM
from pipeline.engine import EngineError, EngineStatus, Progress, Report
from pipeline.models.fetching import fetched
from pipeline.workers.place import MakePlace, Place, PlacedEngine, Wanted, WorkerDied
from pipeline.workers.worker import Worker
from rag import ChromaServer, Memory, MemoryFault, MemoryVerbs
from rag.asynchronous import called
from rag.embedding import SentenceEmbedder

ASK_AGAIN_S = 60.0
"""After the model for meaning could not be had, words must do for so long."""
_CALLS_AT_ONCE = 4
"""Memory is safe to call from several threads: what was said is kept while the language model is still loading."""


class FetchedEmbedder(SentenceEmbedder):
    """all-MiniLM-L6-v2, fetched where it is not here, when it is first needed: what is said is kept meanwhile."""

    def __init__(self, report: Report) -> None:
        super().__init__()
        self._report = report
        self._lacking: tuple[float, EngineError] | None = None

    def folder(self) -> Path:
        """Raises EngineError where it cannot be had; its sources are asked again after a while."""
        if self._lacking is not None and time.monotonic() - self._lacking[0] < ASK_AGAIN_S:
            raise self._lacking[1]
        try:
            return fetched(MINILM, self._report)
        except EngineError as error:
            self._lacking = time.monotonic(), error
            raise


class MemoryHost:
    """The memory itself, for a worker process; what goes wrong with it becomes EngineError."""

    def __init__(self, report: Report, path: Path, owner: str, chroma: ChromaServer | None) -> None:
        prepare()
        self._embedder = FetchedEmbedder(report)
        with told():
            self._memory = Memory(path, owner=owner, chroma=chroma, embedder=self._embedder)

    def do(self, verb: str, *args: Any, **options: Any) -> Any:
        """The verb's result; of `warm` what is lacking, or None: without its model for meaning memory goes by words."""
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
    """A process for remembering: asked before anything is loaded."""
    os.environ.setdefault("TQDM_DISABLE", "1")  # transformers' bars are for a terminal, not for a log
    # One question is too little work to share out: on a busy machine, several threads wait 500 ms for each other
    # where one takes 16 ms. Read when torch is imported, which is when the model is loaded.
    os.environ["OMP_NUM_THREADS"] = "1"


def settle() -> None:
    """What is there now stays: going through it all would make some recall wait for 200 ms."""
    gc.collect()
    gc.freeze()


@contextmanager
def told() -> Iterator[None]:
    try:
        yield
    except MemoryFault as fault:
        raise EngineError(str(fault)) from fault


class MemoryPlace(PlacedEngine[Place]):
    """Ready once its model for meaning is loaded, and of use before."""

    _loading = False
    _lacking: str | None = None
    """Why there is no such model."""

    async def start(self, report: Report) -> None:
        """Open it, then load the model that tells what a question means; until then only that has to wait."""
        await super().start(report)
        self._loading = True
        report(Progress("loading the model for meaning"))
        try:
            self._lacking = await self._load()
        finally:
            self._loading = False

    async def _load(self) -> str | None:
        """Gives why it could not be."""
        raise NotImplementedError

    @property
    def status(self) -> EngineStatus:
        status = super().status
        if self._lacking is not None:
            status = replace(status, last_error=self._lacking)
        return replace(status, state="loading") if self._loading and status.state == "ready" else status


class WorkerMemory(MemoryPlace, MemoryVerbs):
    """An engine, and memory's verbs. Its calls raise what rag.Memory's do, but EngineError for MemoryFault."""

    def __init__(
        self,
        path: Path,
        *,
        owner: str = "default",
        chroma: ChromaServer | None = None,
        place: MakePlace = Worker,
    ) -> None:
        wanted = Wanted(
            "memory",
            f"{__name__}:MemoryHost",
            {"path": path, "owner": owner, "chroma": chroma},
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
    """Ask the process; when it dies over it, ask the next one: a turn is then kept twice rather than not at all."""
    await place.ready()
    try:
        return await place.call(method, *args, **options)
    except WorkerDied:
        await place.ready()
        return await place.call(method, *args, **options)
