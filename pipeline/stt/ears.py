"""Speech to text in worker processes: what every recogniser's face has in common.

The recogniser in the process hears several turns, each by a number: open(turn), feed(turn, samples) → (text, stable) or
None, finish(turn) → text, close_turn(turn).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from itertools import count
from typing import Any

from pipeline.audio import Samples
from pipeline.cleanup import uninterrupted
from pipeline.engine import EngineError
from pipeline.stt import Transcript
from pipeline.workers.place import Place, PlacedEngine
from pipeline.workers.pool import WorkerPool


class WorkerHearing:
    """One turn, at one of the workers."""

    def __init__(self, workers: WorkerPool, turn: int) -> None:
        self._workers = workers
        self._turn = turn
        self._place: Place | None = None
        """While it is open."""

    async def feed(self, samples: Samples) -> Transcript | None:
        partial: tuple[str, int] | None = await self._call("feed", samples)
        return None if partial is None else Transcript(*partial)

    async def finish(self) -> Transcript:
        text: str = await self._call("finish")
        return Transcript(text, len(text))

    async def close(self) -> None:
        place, self._place = self._place, None
        if place is not None:
            self._workers.give(place)
            with suppress(EngineError):  # a process that is gone holds nothing
                await uninterrupted(place.call("close_turn", self._turn))

    async def _call(self, method: str, *args: object) -> Any:
        if self._place is None:
            self._place = self._workers.take()  # before the answer: who is cancelled meanwhile must still close it
            await self._place.call("open", self._turn)
        return await self._place.call(method, self._turn, *args)


class WorkerEars(PlacedEngine[WorkerPool]):
    def __init__(self, make: Callable[[], Place], *, most: int = 1, busy: int = 1) -> None:
        """One worker; up to `most` where each serves `busy` speakers or more."""
        super().__init__(WorkerPool(make, most=most, busy=busy))
        self._turns = count()

    def listen(self) -> WorkerHearing:
        return WorkerHearing(self._place, next(self._turns))
