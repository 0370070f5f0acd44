"""Who waits for whom."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import cast

import numpy as np
import pytest

from pipeline.audio import EAR_RATE, Samples
from pipeline.engines.lease import LeasedEars, LeasedVoice
from pipeline.engines.transcription import transcribed
from pipeline.stt import TranscriptionWishes, Written
from pipeline.tts import Spoken
from tests.web.api.audio.conftest import tone
from tests.web.scripted import ScriptedEngines
from web.api.audio.errors import Refused
from web.api.audio.queue import Queue
from web.api.audio.speech import spoken
from web.api.audio.voice_choice import Choose


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


class Reading:
    """A voice that reads a clause each time it is let."""

    def __init__(self) -> None:
        self.let = asyncio.Semaphore(0)
        self.said: list[str] = []

    def reader(self, _: object) -> Reading:
        return self

    async def speak(self, clause: str) -> AsyncGenerator[Spoken, None]:
        self.said.append(clause)
        await self.let.acquire()
        yield Spoken(np.ones(480, np.float32))

    async def close(self) -> None:
        pass


class Watched(Queue):
    def __init__(self) -> None:
        super().__init__(1)
        self.asking = asyncio.Queue[None]()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        self.asking.put_nowait(None)
        async with super().turn():
            yield


async def test_a_sentence_does_not_wait_for_the_end_of_a_chapter() -> None:
    voice, queue = Reading(), Watched()

    async def read(said: Sequence[str]) -> None:
        async for _ in spoken(cast(LeasedVoice, voice), cast(Choose, None), said, queue):
            pass

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        chapter = group.create_task(read(["one", "two", "three"]))
        await queue.asking.get()
        sentence = group.create_task(read(["short"]))
        await queue.asking.get()
        for _ in range(2):
            voice.let.release()
        await sentence
        assert voice.said[:2] == ["one", "short"] and not chapter.done()
        for _ in range(2):
            voice.let.release()
    assert voice.said == ["one", "short", "two", "three"]


async def test_too_many_are_told_to_come_again() -> None:
    queue = Queue(1, waiting=1)
    async with queue.taken_in(), queue.taken_in():
        with pytest.raises(Refused, match="1 requests are already waiting"):
            async with queue.place():
                pass
        async with queue.turn():
            pass
    async with queue.place():
        pass
