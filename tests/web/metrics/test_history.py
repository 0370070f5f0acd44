"""The last hour, on a clock of the test's own."""

from __future__ import annotations

import asyncio
import errno
from dataclasses import dataclass

import pytest

from pipeline.engine import EngineStatus
from pipeline.turns.record import TurnRecord
from web.metrics import history as module
from web.metrics.history import BIN_S, BINS, PastHour
from web.metrics.metrics import Metrics
from web.metrics.readings import Reading, Readings


@dataclass
class Clock:
    now: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def reading(waiting: int = 0, memory: int = 100, restarts: int = 0) -> Reading:
    engines = {"ears": EngineStatus("whisper", "ready", memory_bytes=memory, restarts=restarts)}
    return Reading(20, engines, {}, {}, {"speaking": waiting}, {"ears": memory})


def turn(heard: float, ended: float = 5.0) -> TurnRecord:
    marks = {"speech_ended": ended, "transcript_final": ended - 0.1, "first_heard": ended + heard}
    return TurnRecord("conv_1", 1, marks=marks, outcome="completed")


def test_turns_fall_into_the_half_minute_in_which_they_ended() -> None:
    clock, metrics = Clock(), Metrics()
    history = PastHour(metrics, reading, clock)
    for heard in (0.4, 0.6, 2.0):
        metrics.turn(turn(heard))
    clock.now += BIN_S
    metrics.turn(turn(0.8))
    told = history.told()
    assert [(bin["turns"], bin["medians"]["heard"], bin["p95"]) for bin in told["bins"]] == [
        (3, 0.6, 2.0),
        (1, 0.8, 0.8),
    ]
    assert (told["turns"], told["median"]) == (4, 0.7)
    assert told["bins"][0]["medians"]["understood"] == 0, "understood before the speech was over"


def test_an_hour_is_kept_and_no_more_whether_or_not_anybody_looked() -> None:
    clock, metrics = Clock(), Metrics()
    history = PastHour(metrics, reading, clock)
    for _ in range(BINS + 10):
        history.look()
        clock.now += BIN_S
    assert len(history.told()["bins"]) == BINS
    clock.now += 3600
    assert [bin["turns"] for bin in history.told()["bins"]] == [0], "a computer that slept for an hour"


def test_the_highest_of_a_bin_is_kept() -> None:
    clock, metrics, now = Clock(), Metrics(), [reading(waiting=3, memory=500)]
    history = PastHour(metrics, lambda: now[0], clock)
    with metrics.talking(), metrics.talking():
        history.look()
    now[0] = reading()
    history.look()
    bin = history.told()["bins"][0]
    assert (bin["talks"], bin["waiting"], bin["memory"]) == (2, 3, {"ears": 500})


def test_refusals_are_those_of_the_bin_and_are_counted_once() -> None:
    clock, metrics = Clock(), Metrics()
    history = PastHour(metrics, reading, clock)
    metrics.refused("no_place")
    history.look()
    clock.now += BIN_S
    metrics.refused("no_place")
    assert [bin["refused"] for bin in history.told()["bins"]] == [1, 1]
    assert history.told()["refused"] == 2


def test_a_clock_that_is_put_back_makes_no_bins_out_of_order() -> None:
    clock, metrics = Clock(), Metrics()
    history = PastHour(metrics, reading, clock)
    history.look()
    clock.now -= 600
    metrics.turn(turn(0.5))
    assert [bin["turns"] for bin in history.told()["bins"]] == [1]


def test_restarts_of_engines_are_exported() -> None:
    metrics = Metrics()
    metrics.registry.register(Readings(lambda: reading(restarts=3)))
    assert metrics.registry.get_sample_value("parley_engine_restarts_total", {"stage": "ears"}) == 3


async def test_a_reading_that_fails_is_not_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_S", 0.0)
    readings, read = iter([OSError(errno.EMFILE, "Too many open files")]), asyncio.Event()

    def reads() -> Reading:
        if (error := next(readings, None)) is not None:
            raise error
        read.set()
        return reading()

    following = asyncio.create_task(PastHour(Metrics(), reads).follow())
    coming = asyncio.create_task(read.wait())
    await asyncio.wait([following, coming], return_when=asyncio.FIRST_COMPLETED)
    assert coming.done()
    following.cancel()
    await asyncio.wait([following])
