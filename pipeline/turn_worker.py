"""The turn model in its own worker process: 30 ms of arithmetic at every pause of every user would hold up the loop,
even from a thread, since the arithmetic and the loop take turns with Python's lock."""

from __future__ import annotations

from pipeline.audio import Samples
from pipeline.engine import Report
from pipeline.turn_model import SAMPLES, TurnModel
from pipeline.worker import Worker, WorkerEngine

_AT_ONCE = 2
"""Pauses judged at a time; further ones wait their turn."""


def load(_: Report) -> TurnModel:
    """For the worker process."""
    return TurnModel()


class WorkerTurnModel(WorkerEngine[Worker]):
    """An engine, and TurnModel's face as a coroutine."""

    def __init__(self) -> None:
        super().__init__(Worker("smart-turn", f"{__name__}:load", concurrency=_AT_ONCE))

    async def finished(self, sound: Samples) -> float:
        """The probability that the speaker of these 16 kHz samples had finished. Raises EngineError."""
        probability: float = await self._worker.call("finished", sound[-SAMPLES:])
        return probability
