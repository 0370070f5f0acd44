"""Engines whose process is stopped (SIGSTOP) while it works: it is noticed, said and replaced, and nobody waits for it.

How soon is told by the heartbeat, which is faster here (tests/pipeline/workers/test_supervision.py has the real one).
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from pipeline.audio import EAR_RATE, Samples
from pipeline.engines.memory import WorkerMemory
from pipeline.stt.pocketsphinx import PocketSphinx
from pipeline.tts.espeak import Espeak
from pipeline.workers.supervision import Heartbeat
from pipeline.workers.worker import HEARTBEAT, Worker
from tests.support.scene import Scene
from tests.support.workers import workers

QUICK = partial(Worker, heartbeat=Heartbeat(every_s=0.05, hung_s=1.0))
SPEECH: Samples = np.full(EAR_RATE // 10, 0.1, np.float32)
posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows stops no process so")


def test_the_real_heartbeat_notices_within_five_seconds() -> None:
    assert HEARTBEAT.hung_s <= 5


def stop(others: list[psutil.Process]) -> int:
    """The process of the engine that was begun here; `others` are those of engines that neighbours share."""
    (process,) = workers(others)
    os.kill(process.pid, signal.SIGSTOP)
    return int(process.pid)


def replaced(pid: int, status: Any) -> bool:
    return not psutil.pid_exists(pid) and status.restarts == 1 and "no longer answered" in (status.last_error or "")


@posix
@pytest.mark.slow
async def test_ears() -> None:
    others, ears = workers(), PocketSphinx(place=QUICK)
    await ears.start(lambda progress: None)
    try:
        hearing = ears.listen()
        await hearing.feed(SPEECH)
        pid = stop(others)
        await hearing.feed(SPEECH)  # kept here, and told to the one that takes its place
        assert (await hearing.finish()).text is not None
        await hearing.close()
        assert replaced(pid, ears.status)
    finally:
        await ears.stop()


@posix
@pytest.mark.slow
async def test_a_voice() -> None:
    others, voice = workers(), Espeak(place=QUICK)
    await voice.start(lambda progress: None)
    try:
        pid = 0
        async for _ in voice.speaker().speak("This is a long story. " * 20):
            pid = pid or stop(others)
        assert replaced(pid, voice.status), "and the sentence came to its end"
    finally:
        await voice.stop()


@posix
@pytest.mark.slow
async def test_a_memory_keeps_what_it_was_told_meanwhile(tmp_path: Path) -> None:
    others, memory = workers(), WorkerMemory(tmp_path, place=QUICK)
    starting = asyncio.create_task(memory.start(lambda progress: None))
    try:
        await until(lambda: memory.status.state != "stopped")
        await memory.remember("user", "before")
        pid = stop(others)
        await memory.remember("user", "meanwhile")
        assert {turn.text for turn in await memory.turns()} == {"before", "meanwhile"}
        assert replaced(pid, memory.status)
    finally:
        await memory.stop()
        await asyncio.gather(starting, return_exceptions=True)


def test_a_reply_does_not_wait_for_a_memory_that_never_answers() -> None:
    scene = Scene(memory_delay=1e9)
    scene.user(0.5, 1.5, "what time is it")
    scene.reply("It is noon.")
    told = scene.play(until=10.0)
    assert told.outcomes == ["completed"]
    assert "The memory is taking too long, so this reply does without it." in told.notices


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not true():  # noqa: ASYNC110  nothing tells
            await asyncio.sleep(0.01)
