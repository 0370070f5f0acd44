"""The real pocketsphinx in its worker process, on real recordings."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from typing import cast

import numpy as np
import pytest
import pytest_asyncio
import soundfile
import soxr

from pipeline.audio import EAR_RATE, Samples
from pipeline.engine import EngineError
from pipeline.stt import Hearing, Transcript
from pipeline.stt.pocketsphinx import _DECODERS, PocketSphinx, natural
from pipeline.turns.vad import FRAME
from pipeline.workers.worker import Worker
from tests.support import recordings
from tests.support.begun import IN_ONE_LOOP, started

QUESTION = "What is the weather in paris?"


def recording(name: str) -> Samples:
    samples, rate = soundfile.read(recordings.recording(name), dtype="float32", always_2d=True)
    return np.asarray(soxr.resample(samples.mean(axis=1), rate, EAR_RATE), dtype=np.float32)


def in_a_room(samples: Samples, *, before_ms: int = 400, after_ms: int = 500, gain: float = 1.0) -> Samples:
    """As a microphone delivers it: pre-roll, the end's silence, and a little noise under all of it."""
    before, after = (np.zeros(EAR_RATE * ms // 1000, np.float32) for ms in (before_ms, after_ms))
    sound = np.concatenate([before, gain * samples, after])
    noise = np.random.default_rng(1).standard_normal(len(sound)).astype(np.float32)
    return np.asarray(sound + 2e-4 * noise, dtype=np.float32)


async def feed(hearing: Hearing, samples: Samples, block: int = FRAME) -> list[Transcript]:
    partials = [await hearing.feed(samples[start : start + block]) for start in range(0, len(samples), block)]
    return [partial for partial in partials if partial is not None]


async def understood(engine: PocketSphinx, samples: Samples, block: int = FRAME) -> str:
    hearing = engine.listen()
    await feed(hearing, samples, block)
    text = (await hearing.finish()).text
    await hearing.close()
    return text


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ears() -> AsyncIterator[PocketSphinx]:
    async with started(PocketSphinx()) as engine:
        yield engine


@pytest.fixture
async def own_ears() -> AsyncIterator[PocketSphinx]:
    """Of a test that counts or kills processes."""
    async with started(PocketSphinx()) as engine:
        yield engine


def kill(engine: PocketSphinx) -> None:
    worker = cast(Worker, engine._place._workers[0])
    assert worker._child is not None
    worker._child.process.kill()


@pytest.mark.parametrize("gain", [0.1, 2.0])
@IN_ONE_LOOP
async def test_the_weather_question_in_blocks_of_32_ms(ears: PocketSphinx, gain: float) -> None:
    assert await understood(ears, in_a_room(recording("weather_question.wav"), gain=gain)) == QUESTION


@pytest.mark.parametrize("block", [441, 1_000_000])
@IN_ONE_LOOP
async def test_the_length_of_the_blocks_does_not_matter(ears: PocketSphinx, block: int) -> None:
    assert await understood(ears, in_a_room(recording("weather_question.wav")), block) == QUESTION


@IN_ONE_LOOP
async def test_without_any_silence_around_it(ears: PocketSphinx) -> None:
    """A turn that ends by a button: the last word is still held back in the decoder."""
    speech = recording("weather_question.wav")
    loud = np.flatnonzero(np.abs(speech) > 0.02)
    assert await understood(ears, speech[loud[0] : loud[-1] - EAR_RATE // 20]) == QUESTION


@IN_ONE_LOOP
async def test_partials_grow_into_the_final_transcript(ears: PocketSphinx) -> None:
    hearing = ears.listen()
    partials = await feed(hearing, in_a_room(recording("weather_question.wav")))
    assert len(partials) >= 4
    assert len({partial.text for partial in partials}) == len(partials), "only changes are told"
    assert any(partial.text.startswith("What is the weather") for partial in partials[:-1])
    assert not any(partial.text.endswith("?") for partial in partials), "nobody knows yet how it will end"
    assert all(0 <= partial.stable <= len(partial.text) for partial in partials)
    final = await hearing.finish()
    assert final == Transcript(QUESTION, len(QUESTION))
    await hearing.close()


@IN_ONE_LOOP
async def test_speech_may_go_on_after_finish(ears: PocketSphinx) -> None:
    """A pause was taken for the end: the text of both parts is one."""
    question = in_a_room(recording("weather_question.wav"))
    statement = in_a_room(recording("austen_0880.wav"))
    hearing = ears.listen()
    await feed(hearing, question)
    first = await hearing.finish()
    assert first.text == QUESTION
    assert await hearing.finish() == first, "finishing again adds nothing"
    await feed(hearing, statement)
    both = await hearing.finish()
    assert both.text.startswith(QUESTION.removesuffix("?"))
    assert "he was not an" in both.text and "young man" in both.text
    await hearing.close()


@IN_ONE_LOOP
async def test_several_people_at_once(ears: PocketSphinx) -> None:
    question, statement = (in_a_room(recording(name)) for name in ("weather_question.wav", "austen_0880.wav"))
    texts = await asyncio.gather(*(understood(ears, sound) for sound in (question, statement, question)))
    assert texts[0] == texts[2] == QUESTION
    assert texts[1].startswith("He was not an") and texts[1].endswith("young man")


@IN_ONE_LOOP
async def test_a_turn_does_not_depend_on_earlier_ones(ears: PocketSphinx) -> None:
    sound = in_a_room(recording("austen_0870.wav"))
    first = await understood(ears, sound)
    await understood(ears, in_a_room(recording("weather_question.wav"), gain=2.0))
    assert await understood(ears, sound) == first
    assert "to consider how much there might be" in first


@IN_ONE_LOOP
async def test_decoders_are_used_again(ears: PocketSphinx) -> None:
    question = in_a_room(recording("weather_question.wav"))
    await understood(ears, question)
    before = ears.status.memory_bytes
    for _ in range(2):
        await understood(ears, question, block=1 << 20)
    after = ears.status.memory_bytes
    assert before is not None and after is not None
    assert after - before < 50_000_000, "another decoder would take 95 MB"


@IN_ONE_LOOP
async def test_nobody_is_turned_away_because_someone_left_without_a_word(ears: PocketSphinx) -> None:
    for _ in range(2 * _DECODERS):
        hearing = ears.listen()
        call = asyncio.create_task(hearing.feed(np.zeros(FRAME, np.float32)))
        await asyncio.sleep(0)
        call.cancel()
        await asyncio.wait([call])
        await hearing.close()
        await hearing.close()
    assert await understood(ears, in_a_room(recording("weather_question.wav"))) == QUESTION


async def test_too_many_people_are_told_so(own_ears: PocketSphinx, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_ears._place, "_most", 1)
    hearings = [own_ears.listen() for _ in range(_DECODERS + 1)]
    for hearing in hearings[:-1]:
        await hearing.feed(np.zeros(FRAME, np.float32))
    with pytest.raises(EngineError, match="listening to too many people"):
        await hearings[-1].feed(np.zeros(FRAME, np.float32))
    await hearings[0].close()
    assert await understood(own_ears, in_a_room(recording("weather_question.wav"))) == QUESTION
    for hearing in hearings:
        await hearing.close()


async def test_further_workers_are_begun_when_several_speak_at_once(own_ears: PocketSphinx) -> None:
    question = in_a_room(recording("weather_question.wav"))
    hearings = [own_ears.listen() for _ in range(5)]
    for hearing in hearings:
        await hearing.feed(question)
        while (beginning := own_ears._place._begin) is not None:
            await asyncio.wait([beginning])
    assert 1 < len(own_ears._place._workers) <= (os.cpu_count() or 1)
    assert max(own_ears._place._users.values()) < len(hearings), "they share the work"
    assert [(await hearing.finish()).text for hearing in hearings] == [QUESTION] * len(hearings)
    for hearing in hearings:
        await hearing.close()
    assert set(own_ears._place._users.values()) == {0}


@pytest.mark.parametrize(
    "sound",
    [np.zeros(0, np.float32), np.zeros(100, np.float32), np.zeros(2 * EAR_RATE, np.float32)],
    ids=["empty", "a moment", "silence"],
)
@IN_ONE_LOOP
async def test_where_nothing_was_said_nothing_is_understood(ears: PocketSphinx, sound: Samples) -> None:
    assert await understood(ears, sound, block=1 << 20) == ""


@IN_ONE_LOOP
async def test_finish_before_any_sound(ears: PocketSphinx) -> None:
    hearing = ears.listen()
    assert await hearing.finish() == Transcript("", 0)
    await hearing.close()


@IN_ONE_LOOP
async def test_clipped_sound_is_taken_as_it_is(ears: PocketSphinx) -> None:
    speech = in_a_room(recording("weather_question.wav"), gain=100.0)
    assert isinstance(await understood(ears, speech), str)


async def test_killed_in_the_middle_of_a_turn(own_ears: PocketSphinx) -> None:
    question = in_a_room(recording("weather_question.wav"))
    hearing = own_ears.listen()
    await feed(hearing, question[: len(question) // 2])
    kill(own_ears)
    await feed(hearing, question[len(question) // 2 :])
    assert (await hearing.finish()).text == QUESTION, "another process has heard all of it"
    kill(own_ears)
    assert (await hearing.finish()).text == QUESTION, "also between two calls"
    await hearing.close()
    assert await understood(own_ears, question) == QUESTION, "the next turn is heard"


async def test_another_language_is_refused() -> None:
    engine = PocketSphinx("fr")
    with pytest.raises(EngineError, match="only English"):
        await engine.start(lambda progress: None)


@pytest.mark.parametrize(
    ("words", "written"),
    [
        ("", ""),
        ("i", "I"),
        ("hello there", "Hello there"),
        ("i think i'm in paris and i'll stay", "I think I'm in paris and I'll stay"),
        ("what is the weather in paris", "What is the weather in paris?"),
        ("what time is it", "What time is it?"),
        ("how old are you", "How old are you?"),
        ("how many people do you know", "How many people do you know?"),
        ("what's my name", "What's my name?"),
        ("and what about you", "And what about you?"),
        ("can i ask you something", "Can I ask you something?"),
        ("is there any milk", "Is there any milk?"),
        ("don't you like it", "Don't you like it?"),
        ("hello can you hear me", "Hello can you hear me?"),
        ("what a day", "What a day"),
        ("when i was young i had a dog", "When I was young I had a dog"),
        ("how nice", "How nice"),
        ("do not go there", "Do not go there"),
        ("have a nice day", "Have a nice day"),
        ("may is a month", "May is a month"),
        ("my dog is called rufus", "My dog is called rufus"),
        ("he was not an ill disposed young man", "He was not an ill disposed young man"),
    ],
)
def test_natural_spelling(words: str, written: str) -> None:
    assert natural(words) == written
