"""Talks go first: what is read, written and listened to for others waits for a reply, but not for ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import numpy as np

from pipeline.audio import Samples
from pipeline.engines.lease import LeasedEars, LeasedMind, LeasedVoice, Precedence
from pipeline.stt import TranscriptionWishes
from pipeline.tts import Spoken
from tests.support import virtual_time
from tests.web.scripted import ScriptedEars, ScriptedMind, ScriptedVoice

SOUND = np.ones(16_000, np.float32)


class Slow(ScriptedVoice):
    """A second a block."""

    async def speak(self, text: str) -> AsyncGenerator[Spoken, None]:
        for _ in range(3):
            await asyncio.sleep(1)
            yield Spoken(np.ones(10, np.float32))


async def heard(sounds: AsyncGenerator[Spoken, None]) -> Samples:
    return np.concatenate([sound.samples async for sound in sounds])


def test_a_text_is_read_when_the_reply_has_been_spoken() -> None:
    async def scene() -> None:
        clock = asyncio.get_running_loop().time
        voice = LeasedVoice(Slow(), Precedence())
        reply = asyncio.create_task(heard(voice.speaker().speak("A reply.")))
        await asyncio.sleep(0)
        reader = voice.reader(lambda engine: engine.speaker())
        assert len(await heard(reader.speak("A book."))) == 30
        assert reply.done() and clock() == 6, "one after the other"

    virtual_time.run(scene())


def test_a_reply_that_comes_meanwhile_is_let_by_at_the_next_block() -> None:
    async def scene() -> None:
        clock = asyncio.get_running_loop().time
        voice = LeasedVoice(Slow(), Precedence())
        reading = asyncio.create_task(heard(voice.reader(lambda engine: engine.speaker()).speak("A book.")))
        await asyncio.sleep(0.5)
        await heard(voice.speaker().speak("A reply."))
        assert clock() == 3.5 and not reading.done()
        await reading
        assert clock() == 5.5, "its first block was under way, and two were left"

    virtual_time.run(scene())


def test_nobody_waits_for_ever() -> None:
    async def scene() -> None:
        clock = asyncio.get_running_loop().time
        precedence = Precedence()
        mind, ears = LeasedMind(ScriptedMind(), precedence), LeasedEars(ScriptedEars("Hello."), precedence)
        with precedence.replying():
            assert (await ears.write_down(SOUND, TranscriptionWishes())).text == "Hello."
            assert clock() == Precedence.PATIENCE_S
            assert [piece async for piece in mind.write(None)]  # type: ignore[arg-type]
            assert clock() == Precedence.PATIENCE_S, "that reply has been waited for"

    virtual_time.run(scene())


def test_an_engine_in_use_is_not_stopped_under_a_reader() -> None:
    async def scene() -> None:
        voice = LeasedVoice(Slow())
        reader = voice.reader(lambda engine: engine.speaker())
        assert not voice.idle
        await reader.close()
        assert voice.idle

    virtual_time.run(scene())
