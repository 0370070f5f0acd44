"""Who waits for whom."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import pytest

from pipeline.audio import EAR_RATE, Samples
from pipeline.engines.lease import LeasedEars
from pipeline.engines.transcription import transcribed
from pipeline.stt import TranscriptionWishes, Written
from tests.web.api.audio.conftest import tone
from tests.web.scripted import ScriptedEngines
from web.api.audio.errors import Refused
from web.api.audio.queue import Queue


class Gated:
    """Ears that write down a passage each time they are let."""

    writes_down = True

    def __init__(self) -> None:
        self.let = asyncio.Semaphore(0)
        self.begun: list[float] = []
        """The passages' seconds."""

    async def write_down(self, sound: Samples, _: TranscriptionWishes) -> Written:
        self.begun.append(len(sound) / EAR_RATE)
        await self.let.acquire()
        return Written("It is warm.", (), "en", -0.2, 0.01)


async def test_a_short_recording_does_not_wait_for_the_end_of_a_long_one() -> None:
    ears, queue, asking = Gated(), Queue(1), asyncio.Queue[None]()

    @asynccontextmanager
    async def turn() -> AsyncIterator[None]:
        asking.put_nowait(None)
        async with queue.turn():
            yield

    engines = ScriptedEngines()
    await engines.start()

    async def write_down(seconds: float) -> None:
        file, vad = io.BytesIO(tone(seconds)), engines.vad()
        async for _ in transcribed(cast(LeasedEars, ears), vad, file, TranscriptionWishes(), 3600, turn):
            pass

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        long = group.create_task(write_down(100.0))
        await asking.get()
        short = group.create_task(write_down(1.0))
        await asking.get()
        ears.let.release()
        ears.let.release()
        await short
        assert not long.done()
        assert ears.begun[0] > 10 and ears.begun[1] < 2, "after the passage that was being written down"
        for _ in range(10):
            ears.let.release()


async def test_too_many_are_told_to_come_again() -> None:
    queue = Queue(1, waiting=1)
    async with queue.taken_in(), queue.taken_in():
        with pytest.raises(Refused, match="1 requests wait already"):
            async with queue.place():
                pass
        async with queue.turn():
            pass
    async with queue.place():
        pass
