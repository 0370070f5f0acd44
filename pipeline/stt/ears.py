"""Speech to text in worker processes: what the clients of all recognisers have in common.

The recogniser in the process hears several turns, identified by numbers: open(turn), feed(turn, samples) → (text,
stable) or None, finish(turn) → text, close_turn(turn). If it no longer knows a turn, it raises WorkerDied.

The sound of a turn stays here until the turn is closed. If the recogniser dies, its successor hears all of it again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from pipeline.audio import EAR_RATE, Samples
from pipeline.stt import Transcript
from pipeline.workers.place import Place, PlacedEngine, Seat, WorkerDied
from pipeline.workers.pool import WorkerPool

AT_ONCE = 10 * EAR_RATE
"""Samples sent in one call when a turn is sent again."""


class WorkerHearing:
    """One turn, heard by one of the workers."""

    def __init__(self, workers: WorkerPool) -> None:
        self._workers = workers
        self._place: Place | None = None
        self._seat: Seat | None = None
        """The turn's seat at its worker, while the turn is open."""
        self._told: list[Samples] = []
        """The sound of the turn that the recogniser has heard."""

    async def feed(self, samples: Samples) -> Transcript | None:
        partial: tuple[str, int] | None = await self._ask("feed", samples)
        self._told.append(samples)
        return None if partial is None else Transcript(*partial)

    async def finish(self) -> Transcript:
        text: str = await self._ask("finish")
        return Transcript(text, len(text))

    async def close(self) -> None:
        place, seat = self._place, self._seat
        self._place = self._seat = None
        if place is not None and seat is not None:
            self._workers.give(place)
            await seat.leave()

    async def _ask(self, method: str, *args: object) -> Any:
        if self._seat is None:
            self._place = self._workers.take()  # set before the first await, so that close() works after a cancel
            self._seat = self._place.seat("close_turn")
            await self._seat.call("open")
        await self._seat.ready()
        try:
            return await self._seat.call(method, *args)
        except WorkerDied:
            await self._tell_again(self._seat)
            return await self._seat.call(method, *args)

    async def _tell_again(self, seat: Seat) -> None:
        await seat.ready()
        await seat.call("open")
        told = np.concatenate([np.zeros(0, np.float32), *self._told])
        for at in range(0, len(told), AT_ONCE):
            await seat.call("feed", told[at : at + AT_ONCE])


class WorkerEars(PlacedEngine[WorkerPool]):
    def __init__(self, make: Callable[[], Place], *, most: int = 1, busy: int = 1) -> None:
        """Start with one worker; add others, up to `most`, if each serves `busy` speakers or more."""
        super().__init__(WorkerPool(make, most=most, busy=busy))

    def listen(self) -> WorkerHearing:
        return WorkerHearing(self._place)
