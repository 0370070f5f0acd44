"""Measurements of the last hour for Parley's own page, in bins of half a minute. They are kept only in memory."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Never

import psutil

from pipeline.turns.record import TurnRecord
from web.metrics.metrics import STEPS, Metrics, seconds_to
from web.metrics.readings import Reading

BIN_S = 30.0
BINS = 120
LOOK_S = 5.0
"""Seconds between two readings; a bin keeps the highest."""

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Bin:
    at: float
    """When the bin began, in seconds since 1970."""
    talks: int = 0
    turns: int = 0
    refused: int = 0
    waiting: int = 0
    memory: dict[str, int] = field(default_factory=dict)
    processor: float = 0.0
    """Load, as a share."""
    seconds: dict[str, list[float]] = field(default_factory=dict)
    """The durations of its turns, by step."""

    def look(self, talks: int, reading: Reading, processor: float) -> None:
        self.talks = max(self.talks, talks)
        self.waiting = max(self.waiting, sum(reading.waiting.values()))
        self.processor = max(self.processor, processor)
        for process, size in reading.memory.items():
            self.memory[process] = max(self.memory.get(process, 0), size)

    def told(self) -> dict[str, Any]:
        """Return the bin for the page: its turns' medians, and the time within which 95 % of them were answered."""
        return {
            "at": self.at,
            "talks": self.talks,
            "turns": self.turns,
            "refused": self.refused,
            "waiting": self.waiting,
            "memory": self.memory,
            "processor": round(self.processor, 3),
            "medians": {step: round(median(values), 3) for step, values in self.seconds.items()},
            "p95": round(_p95(self.seconds["heard"]), 3) if "heard" in self.seconds else None,
        }


def _p95(values: list[float]) -> float:
    return sorted(values)[round(0.95 * (len(values) - 1))]


class PastHour:
    def __init__(self, metrics: Metrics, read: Callable[[], Reading], clock: Callable[[], float] = time.time) -> None:
        """`clock` returns seconds since 1970."""
        self._metrics, self._read, self._clock = metrics, read, clock
        self._bins: deque[Bin] = deque(maxlen=BINS)
        self._counted = metrics.refusals
        """Refusals that are already counted in the bins."""
        metrics.watchers.append(self._turn)

    async def follow(self) -> Never:
        """Take readings until cancelled."""
        while True:
            try:
                self.look()
            except OSError as error:  # too many open files: the system cannot be asked now
                logger.warning("A reading is missing: %s.", error.strerror)
            await asyncio.sleep(LOOK_S)

    def look(self) -> None:
        self._now().look(self._metrics.talks, self._read(), psutil.cpu_percent() / 100)

    def told(self) -> dict[str, Any]:
        """Return the data for the page; bins oldest first, without bins for times when nobody looked."""
        self._now()
        reading = self._read()
        hour = [value for each in self._bins for value in each.seconds.get("heard", ())]
        return {
            "bin_s": BIN_S,
            "bins": [each.told() for each in self._bins],
            "talks": self._metrics.talks,
            "places": reading.places,
            "turns": sum(each.turns for each in self._bins),
            "refused": sum(each.refused for each in self._bins),
            "restarts": sum(status.restarts for status in reading.engines.values()),
            "median": round(median(hour), 3) if hour else None,
            "p95": round(_p95(hour), 3) if hour else None,
            "memory": dict(reading.memory),
        }

    def _now(self) -> Bin:
        """Return the current bin, with the refusals not counted in any bin yet."""
        begins = self._clock() // BIN_S * BIN_S
        if not self._bins or begins > self._bins[-1].at:
            self._bins.append(Bin(begins))
        while self._bins[0].at < begins - BIN_S * (BINS - 1):
            self._bins.popleft()
        bin, refusals = self._bins[-1], self._metrics.refusals
        bin.refused += refusals - self._counted
        self._counted = refusals
        return bin

    def _turn(self, record: TurnRecord) -> None:
        bin = self._now()
        bin.turns += 1
        for step in STEPS:
            if (seconds := seconds_to(record, step)) is not None:
                bin.seconds.setdefault(step, []).append(seconds)
