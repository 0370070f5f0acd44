"""The real espeak-ng in its worker process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from itertools import pairwise
from typing import Any

import numpy as np
import psutil
import pytest
import pytest_asyncio

from pipeline.audio import MOUTH_RATE, Samples
from pipeline.engine import EngineError
from pipeline.tts import Spoken
from pipeline.tts.espeak import Block, Espeak, Synthesizer, at_mouth_rate
from tests.support.begun import IN_ONE_LOOP, started
from tests.support.workers import workers

SENTENCE = "In Paris, it doesn't rain at 10:30, Mr. Smith said; 1,234 umbrellas stay at home. Ça va?"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine() -> AsyncIterator[Espeak]:
    async with started(Espeak()) as engine:
        yield engine


async def blocks(engine: Espeak, text: str, voice: str | None = None) -> list[Spoken]:
    speaker = engine.speaker() if voice is None else engine.speaker_of(voice)
    return [block async for block in speaker.speak(text)]


def joined(spoken: list[Spoken]) -> Samples:
    return np.concatenate([block.samples for block in spoken])


async def say(text: str, **settings: Any) -> Samples:
    async with started(Espeak(**settings)) as engine:
        return joined(await blocks(engine, text))


def loudness(samples: Samples) -> float:
    return float(np.sqrt(np.mean(samples**2)))


@IN_ONE_LOOP
async def test_a_sentence_is_streamed_as_24_khz_sound(engine: Espeak) -> None:
    spoken = await blocks(engine, SENTENCE)
    assert len(spoken) > 20
    assert all(block.samples.dtype == np.float32 and block.samples.ndim == 1 for block in spoken)
    assert max(len(block.samples) for block in spoken) < MOUTH_RATE / 5
    sound = joined(spoken)
    assert 5 < len(sound) / MOUTH_RATE < 12
    assert loudness(sound) > 0.02 and np.abs(sound).max() <= 1.0


def test_blocks_join_without_a_seam() -> None:
    """A tone that comes in blocks at espeak's rate is the same tone at 24 kHz, and as long."""
    rate, hertz = 22_050, 440
    tone = np.sin(2 * np.pi * hertz / rate * np.arange(2 * rate)).astype(np.float32)
    blocks = [Block(tone[start : start + 1324], ()) for start in range(0, len(tone), 1324)]
    sound = joined(list(at_mouth_rate("", blocks, rate)))
    assert len(sound) == 2 * MOUTH_RATE
    expected = np.sin(2 * np.pi * hertz / MOUTH_RATE * np.arange(2 * MOUTH_RATE))
    assert np.abs(sound - expected)[1000:-1000].max() < 1e-3


@IN_ONE_LOOP
async def test_words_are_placed_in_text_and_sound(engine: Espeak) -> None:
    spoken = await blocks(engine, SENTENCE)
    words = [word for block in spoken for word in block.words]
    assert [SENTENCE[word.start : word.end] for word in words] == SENTENCE.split()
    assert all(one.sample < other.sample for one, other in pairwise(words))
    end = 0
    for block in spoken:
        end += len(block.samples)
        assert all(word.sample < end for word in block.words), "a word comes in or after its sound, never before"
    assert loudness(joined(spoken)[: words[1].sample]) > 0.02


@IN_ONE_LOOP
async def test_characters_outside_ascii_are_counted_as_characters(engine: Espeak) -> None:
    text = "Café 😀 naïve dogs"
    words = [word for block in await blocks(engine, text) for word in block.words]
    assert [text[word.start : word.end] for word in words] == text.split()


@IN_ONE_LOOP
@pytest.mark.parametrize("text", ["", "   ", "\0", "...", "\ud800"])
async def test_nothing_to_say_is_no_error(engine: Espeak, text: str) -> None:
    await blocks(engine, text)
    assert await blocks(engine, "hello")


@IN_ONE_LOOP
async def test_markup_is_read_and_not_obeyed(engine: Espeak) -> None:
    plain = joined(await blocks(engine, "hello"))
    silenced = joined(await blocks(engine, '<prosody volume="silent">hello</prosody>'))
    paused = joined(await blocks(engine, '<break time="60s"/>hello'))
    assert loudness(silenced) > loudness(plain) / 3
    assert len(paused) < 20 * MOUTH_RATE


@IN_ONE_LOOP
async def test_settings_are_heard(engine: Espeak) -> None:
    plain, hello = joined(await blocks(engine, SENTENCE)), joined(await blocks(engine, "hello"))
    quick_and_quiet = await say(SENTENCE, words_per_minute=350, volume=0.25)
    assert len(quick_and_quiet) < 0.65 * len(plain)
    assert loudness(quick_and_quiet) < 0.5 * loudness(plain)
    assert loudness(await say("hello", volume=0.0)) == 0.0
    british, variant = [joined(await blocks(engine, "hello", voice)) for voice in ("en-gb", "en-gb+f3")]
    high = await say("hello", pitch=90, voice="en-gb")
    assert not any(np.array_equal(one, other) for one, other in pairwise((hello, british, variant, high, british)))


@pytest.mark.parametrize("name", ["klingon-b", "../../etc/passwd", "en-us+../../x", "mb/mb-en1"])
@IN_ONE_LOOP
async def test_an_unknown_voice_is_refused_in_one_sentence(engine: Espeak, name: str) -> None:
    with pytest.raises(EngineError, match="eSpeak has no voice"):
        await blocks(engine, "hello", name)


async def test_an_unknown_voice_is_refused_at_the_start() -> None:
    engine = Espeak("klingon-b")
    with pytest.raises(EngineError, match="eSpeak has no voice"):
        await engine.start(lambda progress: None)
    assert engine.status.state == "failed"
    await engine.stop()


def test_a_path_that_is_too_long_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("espeakng_loader.get_data_path", lambda: "/" + "deep/" * 40)
    with pytest.raises(EngineError, match="nearer the root"):
        Synthesizer(lambda progress: None, "en-us", 175, 50, 1.0)


@IN_ONE_LOOP
async def test_voices_for_the_setup_page(engine: Espeak) -> None:
    voices = await engine.voices()
    assert len(voices) > 100
    names = [voice.name for voice in voices]
    assert {"en-us", "en-gb", "de", "fr-fr"} <= set(names)
    assert names[0].startswith("en")
    assert all(voice.label for voice in voices)


@IN_ONE_LOOP
async def test_leaving_early_stops_the_synthesis(engine: Espeak) -> None:
    long = "This goes on and on. " * 5000
    async with aclosing(engine.speaker().speak(long)) as spoken:
        async for _ in spoken:
            break
    after = await blocks(engine, "short")
    assert len(joined(after)) < 2 * MOUTH_RATE
    memory = engine.status.memory_bytes
    assert memory is not None and memory < 200_000_000


@IN_ONE_LOOP
async def test_a_slow_listener_holds_up_no_other(engine: Espeak) -> None:
    slow = engine.speaker().speak("This is a long story, which nobody hears. " * 20)
    await anext(slow)
    async with asyncio.timeout(60):
        assert await blocks(engine, "hello")
    await slow.aclose()


async def test_conversations_do_not_mix() -> None:
    texts = [" ".join(["Again and"] * times + ["again."]) for times in range(1, 7)]
    async with started(Espeak()) as engine:
        alone = [joined(await blocks(engine, text)) for text in texts]
        together = [joined(spoken) for spoken in await asyncio.gather(*(blocks(engine, text) for text in texts))]
    for one, other in zip(alone, together, strict=True):
        assert abs(len(one) - len(other)) < MOUTH_RATE / 100, "espeak itself varies by a few samples"


async def test_killed_while_speaking_it_finishes_the_sentence() -> None:
    text = "This is a long story. " * 200
    others = workers()
    async with started(Espeak()) as engine:
        undisturbed = [word.start for spoken in await blocks(engine, text) for word in spoken.words]
        (child,) = workers(others)
        words, made = [], 0
        async for spoken in engine.speaker().speak(text):
            with suppress(psutil.NoSuchProcess):  # what it had made before comes still
                child.kill()
            assert all(word.sample <= made + len(spoken.samples) for word in spoken.words)
            words += [word.start for word in spoken.words]
            made += len(spoken.samples)
        assert words == undisturbed, "each word once, and none is lost"
        assert engine.status.restarts == 1
