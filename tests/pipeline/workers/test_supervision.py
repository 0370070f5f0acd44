"""When a process counts as hung, under a virtual clock."""

from __future__ import annotations

import asyncio
import errno
from itertools import count

import psutil
import pytest

from config.hardware import resident
from pipeline.engine import EngineError
from pipeline.workers import supervision
from pipeline.workers.supervision import Heartbeat, Supervision
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


async def test_an_unforeseen_fault_of_a_restart_is_told_and_the_next_one_comes() -> None:
    told, faults = list[str](), iter([TypeError("something else"), EngineError("No.")])
    lives = asyncio.Queue[None]()

    async def launch() -> None:
        if (fault := next(faults, None)) is not None:
            raise fault
        lives.put_nowait(None)

    async def death() -> None:
        if not lives.empty():
            await asyncio.Event().wait()

    kept = Supervision((0.0,))
    keeping = asyncio.create_task(kept.keep(death, launch, lambda error: told.append(str(error))))
    alive = asyncio.create_task(lives.get())
    await asyncio.wait([keeping, alive], return_when=asyncio.FIRST_COMPLETED)
    assert alive.done()
    assert told == ["The process could not be restarted (TypeError: something else).", "No."]
    assert kept.restarts == 3
    keeping.cancel()
    await asyncio.wait([keeping])


def test_too_many_open_files_do_not_end_the_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    def process(pid: int) -> psutil.Process:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(psutil, "Process", process)
    assert supervision._computed(1, False) is None
    assert resident(1) is None
