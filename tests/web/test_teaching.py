"""The process that teaches, with a command in its place that does nothing; and what lies on the disk."""

from __future__ import annotations

import asyncio
import math
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from csm.training.adapters import CONSENT_WORDS as CSM_WORDS
from pipeline.workers.supervision import Heartbeat
from web.teaching.lesson import CONSENT_WORDS, About, LessonError, Lessons
from web.teaching.work import Busy, LessonStatus, Work

SCRIPT = "tests.web.scripted_command"
ANNA = About(person="Änna Lee", agreed_at="2026-11-30T01:00:00+00:00")


class Followed(Work):
    """With the step it has told of last, to be waited for."""

    def __init__(self, *arguments: str, talking: bool = False) -> None:
        super().__init__(talking)
        self.told = asyncio.Event()

        def hears(told: dict[str, Any]) -> None:
            if told["step"] == told["steps"]:
                self.told.set()

        self.begin(
            LessonStatus("anna", "training"),
            [lambda: (SCRIPT, arguments)],
            hears=hears,
            killed=lambda how: f"It was {how}.",
        )

    @property
    def state(self) -> str:
        assert self.status is not None
        return self.status.state

    @property
    def process(self) -> psutil.Process:
        assert self._child is not None
        return psutil.Process(self._child.pid)

    async def still(self, still: bool) -> None:
        """Wait until the process is suspended, or goes on."""
        change = os.WSTOPPED if still else os.WCONTINUED
        await asyncio.to_thread(os.waitid, os.P_PID, self.process.pid, change)

    async def over(self) -> str:
        assert self._running is not None
        await self._running
        return self.state


@asynccontextmanager
async def idle(talking: bool = False) -> AsyncIterator[Followed]:
    """One that has told of its steps, and works on."""
    work = Followed("3", "idle", talking=talking)
    try:
        if not talking:
            await work.told.wait()
        yield work
    finally:
        await work.end()


async def test_it_is_followed_to_its_end() -> None:
    work = Followed("3")
    assert await work.over() == "done" and work.told.is_set()


async def test_it_is_paused_and_goes_on() -> None:
    async with idle() as work:
        work.pause()
        await work.still(True)
        work.talk(True)
        work.talk(False)
        assert (work.state, work.process.status()) == ("paused", psutil.STATUS_STOPPED)
        work.go_on()
        assert work.state == "running"
        await work.still(False)


async def test_it_waits_while_somebody_talks_unless_both_are_wanted() -> None:
    async with idle() as work:
        work.talk(True)
        assert work.state == "waiting"
        await work.still(True)
        work.allow_talks(True)
        assert work.state == "running"
        await work.still(False)
        work.allow_talks(False)
        assert work.state == "waiting"
        work.talk(False)
        assert work.state == "running"


async def test_one_at_a_time_and_stopped_even_while_it_is_paused() -> None:
    async with idle() as work:
        with pytest.raises(Busy):
            work.begin(LessonStatus("ben", "preparing"), [lambda: (SCRIPT, ["1"])], hears=print, killed=str)
        work.pause()
        work.stop()
        assert await work.over() == "stopped"


async def test_one_that_is_killed_is_told_in_a_sentence() -> None:
    async with idle() as work:
        os.kill(work.process.pid, signal.SIGKILL)
        assert await work.over() == "failed"
        assert work.status is not None and work.status.text == "It was killed."


async def test_what_a_command_refuses_is_told_in_its_words() -> None:
    work = Followed("1", "refuse")
    assert await work.over() == "failed"
    assert work.status is not None and work.status.text == "The disk is full."


def test_the_words_of_the_consent_are_those_that_are_kept() -> None:
    assert CONSENT_WORDS == CSM_WORDS


def test_lessons_have_folders_of_their_own_and_no_others(tmp_path: Path) -> None:
    lessons = Lessons(tmp_path / "taught")
    names = [lessons.begin(about).id for about in (ANNA, ANNA, About(person="安娜", agreed_at=""))]
    assert names == ["anna-lee", "anna-lee-2", "voice"]
    assert [lesson.about.person for lesson in lessons.all()] == ["Änna Lee", "Änna Lee", "安娜"]
    for id in ("..", "../taught/voice", "Anna", "nobody"):
        with pytest.raises(LessonError):
            lessons.get(id)


@pytest.mark.parametrize(
    "damage",
    [lambda file: file.write_text("id,text\n1,2\n"), lambda file: file.write_bytes(b"\xff\xfe\x00")],
)
def test_a_table_that_is_none_is_told(damage: Callable[[Path], object], tmp_path: Path) -> None:
    lesson = Lessons(tmp_path).begin(ANNA)
    lesson.prepared.mkdir()
    damage(lesson.prepared / "clips.csv")
    with pytest.raises(LessonError, match="prepare again"):
        lesson.clips()


def test_the_best_that_was_learnt_is_used(tmp_path: Path) -> None:
    lesson = Lessons(tmp_path).begin(ANNA.model_copy(update={"steps": 3}))
    assert lesson.adapter() is None and lesson.kept_step() == 0
    for step, held in ((1, "5.0"), (2, "4.0"), (3, "4.5")):
        folder = lesson.training / "checkpoints" / f"step-{step:06}"
        folder.mkdir(parents=True)
        (folder / "progress.json").write_text(f'{{"step": {step}, "held_out": {held}}}')
        (folder / "adapter_config.json").write_text("{}")
    best = lesson.adapter()
    assert best is not None and best.name == "step-000002" and lesson.kept_step() == 3
    (lesson.training / "adapter").mkdir()
    (lesson.training / "adapter" / "adapter_config.json").write_text("{}")
    assert lesson.adapter() == lesson.training / "adapter"


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="Windows stops no processes")
async def test_one_that_hangs_is_ended_and_told_and_begins_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("web.teaching.work.HANGS", Heartbeat(every_s=0.02, hung_s=0.2, lost_s=math.inf))
    async with idle() as work:
        work.process.suspend()
        assert await work.over() == "failed"
        assert work.status is not None and work.status.text == "It was hung."
        assert await Followed("3").over() == "done"


async def test_one_that_was_suspended_here_does_not_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    rests = Work._may_rest

    def rest(work: Work, pid: int) -> bool:
        asked.append(rests(work, pid))
        return asked[-1]

    monkeypatch.setattr("web.teaching.work.HANGS", Heartbeat(every_s=0.005, hung_s=0.01, lost_s=math.inf))
    monkeypatch.setattr(Work, "_may_rest", rest)
    work = Followed("3", "idle", talking=True)
    async with asyncio.timeout(30):
        while len(asked) < 20:  # noqa: ASYNC110  # the heart beats without an event
            await asyncio.sleep(0.005)
    assert (work.state, all(asked)) == ("waiting", True)
    await work.end()
