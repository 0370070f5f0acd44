"""When a process counts as hung, under a virtual clock."""

from __future__ import annotations

import asyncio
from itertools import count

import pytest

from pipeline.workers import supervision
from pipeline.workers.supervision import Heartbeat
from tests.support import virtual_time

HEARTBEAT = Heartbeat(every_s=0.5, hung_s=5.0, lost_s=60.0)


def found_hung_after(heard: list[bool]) -> float:
    """Seconds of the virtual clock. `heard`: whether each question is answered; after the last one, none is."""
    answers = iter(heard)

    async def watch() -> float:
        await HEARTBEAT.lacks(1, lambda: None, lambda: next(answers, False))
        return asyncio.get_running_loop().time()

    return virtual_time.run(watch())


def test_neither_answering_nor_computing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervision, "_computed", lambda pid, children: 1.0)
    assert found_hung_after([]) == 5.0
    assert found_hung_after([True, False, False, False, True]) == 2.5 + 5.0


def test_computing_without_an_answer_is_waited_for_and_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = count()
    monkeypatch.setattr(supervision, "_computed", lambda pid, children: float(next(seconds)))
    assert found_hung_after([]) == 60.0
