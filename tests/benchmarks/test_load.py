"""The load test's own arithmetic, and that it counts whoever is turned away or cut off."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosedError

from benchmarks.load import Findings, Habits, delay, each_of, kept, most, table, talk
from benchmarks.simulated_user import TICK, Refused, Tracks

LOUD, QUIET = np.full(TICK, 0.5, np.float32), np.zeros(TICK, np.float32)


def tracks(user: str, reply: str) -> Tracks:
    """A mark for each tenth of a second: # is sound."""

    def of(marks: str) -> list[np.ndarray]:
        return [LOUD if mark == "#" else QUIET for mark in marks for _ in range(10)]

    return Tracks(of(user), of(reply))


@pytest.mark.parametrize(
    ("user", "reply", "expected"),
    [
        ("..####........", "..........####", 0.4),
        ("..####........", "..............", None),
        ("..............", "......####....", None),
        # the last reply still sounds while it is spoken over
        ("..######......", "####......####", 0.2),
    ],
)
def test_a_delay_is_from_the_end_of_speech_to_the_reply(user: str, reply: str, expected: float | None) -> None:
    found = delay(tracks(user, reply), before=0.1)
    assert found == (None if expected is None else pytest.approx(expected))


def test_talks_are_held_when_all_are_answered_in_time() -> None:
    fast = Findings(4, delays=[0.4] * 19 + [0.9], seconds=10.0, busy={"server": 5.0, "espeak": 3.0})
    assert fast.holds and fast.cores == 0.8
    assert not Findings(4, delays=[0.4] * 10 + [2.0] * 2).holds
    assert not Findings(4, delays=[0.4], lost=1).holds
    assert not Findings(4).holds
    told = table([fast, Findings(8, delays=[3.0])], cores=2)
    assert "Held, p95 within 1 s and nobody lost: 4 talks. 2.0 a core of this machine, 5.0 a core kept busy." in told


def test_records_give_the_steps_since_the_end_of_speech() -> None:
    found = Findings(1)
    marks = {"speech_ended": 5.0, "transcript_final": 4.9, "first_sample": 5.4, "first_heard": 5.5, "reply_done": 8.5}
    found.take({"marks": marks}, 0.6)
    found.take({"marks": {"speech_started": 1.0}}, None)
    assert found.steps == [{"understood": 0.0, "first_sound": pytest.approx(0.4), "heard": 0.6}]
    assert found.median("first_sound") == pytest.approx(0.4) and found.median("decided") is None
    assert found.reply_s == [3.0]


def test_a_measurement_is_continued_only_with_the_same_habits(tmp_path: Path) -> None:
    told = {"cores": 2, "profile": "offline", "habits": asdict(Habits())}
    file = tmp_path / "load.json"
    assert kept(file, told) == []
    file.write_text(json.dumps({**told, "levels": [{"talks": 1}]}), encoding="utf-8")
    assert kept(file, told) == [{"talks": 1}]
    with pytest.raises(ValueError, match="other habits"):
        kept(file, {**told, "habits": asdict(Habits(interrupts=0.5))})


async def test_who_is_turned_away_and_who_is_cut_off_are_counted() -> None:
    @asynccontextmanager
    async def ending(error: Exception, number: int) -> AsyncIterator[None]:
        raise error
        yield  # type: ignore[unreachable]  # what makes it a generator

    full = partial(ending, Refused("2 conversations run already."))
    broken = partial(ending, ExceptionGroup("a headset's own tasks", [ConnectionClosedError(None, None)]))

    found, until_s = Findings(2), asyncio.get_running_loop().time() + 60
    await talk(full, 1, until_s, Habits(), found)
    await talk(broken, 2, until_s, Habits(), found)
    assert (found.refused, found.lost) == (1, 1)


async def test_numbers_of_talks_are_measured_one_after_the_other() -> None:
    async def run(talks: int) -> Findings:
        return Findings(talks)

    assert [each.talks for each in await each_of([1, 4], run)] == [1, 4]


@pytest.mark.parametrize(
    ("bends_at", "tried"),
    [(1, [4, 2, 1]), (4, [4, 2, 3]), (14, [4, 8, 16, 12, 14, 13]), (24, [4, 8, 16, 32, 24, 20, 22])],
)
async def test_the_most_that_holds_is_found(bends_at: int, tried: list[int]) -> None:
    async def run(talks: int) -> Findings:
        return Findings(talks, delays=[0.5 if talks < bends_at else 2.0])

    assert [each.talks for each in await most(4, run)] == tried
