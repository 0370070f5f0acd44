"""Piper and Kokoro with their real weights, in their worker processes, heard back by the real Whisper."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from config.packages import KOKORO, KOKORO_VOICES, PIPER_JOE
from pipeline.audio import MOUTH_RATE, Samples
from pipeline.engine import EngineError
from pipeline.engines.trial import words_right
from pipeline.llm.openers import OPENERS
from pipeline.tts import ManyVoiced, Spoken
from pipeline.tts.kokoro import IDS, Kokoro
from pipeline.tts.neural import BLOCK, LEVEL, PAUSE_S, NeuralSpeaker, shaped
from pipeline.tts.piper import Piper
from tests.support.real_models import folder, heard

SENTENCE = "The weather in London is warm and sunny today, but my brother wants to stay at home with his books."


@asynccontextmanager
async def running(name: str, **settings: Any) -> AsyncIterator[Piper | Kokoro]:
    folder(PIPER_JOE if name == "piper" else KOKORO)
    engine = Piper(**settings) if name == "piper" else Kokoro(**settings)
    await engine.start(lambda progress: None)
    try:
        yield engine
    finally:
        await engine.stop()


async def said(speaker: NeuralSpeaker, text: str) -> list[Spoken]:
    return [block async for block in speaker.speak(text)]


def joined(spoken: list[Spoken]) -> Samples:
    return np.concatenate([block.samples for block in spoken])


@pytest.mark.parametrize("name", ["piper", pytest.param("kokoro", marks=pytest.mark.slow)])
async def test_a_sentence_is_streamed_and_understood(name: str) -> None:
    async with running(name) as engine:
        speaker = engine.speaker()
        spoken = await said(speaker, SENTENCE)
        assert max(len(block.samples) for block in spoken) <= BLOCK
        assert all(block.samples.dtype == np.float32 for block in spoken)
        sound = joined(spoken)
        assert 3 < len(sound) / MOUTH_RATE < 8
        assert np.abs(sound).max() <= 1.0
        right, total = words_right(SENTENCE, heard(sound))
        assert right >= total - 1

        placed = [word for block in spoken for word in block.words]
        assert [SENTENCE[word.start : word.end] for word in placed] == SENTENCE.split()
        assert all(one.sample < other.sample for one, other in pairwise(placed))
        end = 0
        for block in spoken:
            end += len(block.samples)
            assert all(word.sample < end for word in block.words), "a word comes with its sound, never after it"

        for reply in ("Sure.", "Yes."):
            assert words_right(reply, heard(joined(await said(speaker, reply)))) == (1, 1)
        assert not await said(speaker, "…")
        if isinstance(engine, ManyVoiced):
            woman, man = speaker, engine.speaker_of("bm_george")
            assert pitch(joined(await said(man, "Good morning."))) < 0.9 * pitch(sound), "beside the settings’ voice"
            assert pitch(joined(await said(woman, "Good morning."))) > 0.8 * pitch(sound)

        async with aclosing(speaker.speak(SENTENCE * 4)) as sounds:
            await anext(sounds)
        speaking = asyncio.create_task(said(speaker, SENTENCE * 4))
        await asyncio.sleep(0)  # it has been asked for, and the network is at work
        speaking.cancel()
        await asyncio.wait([speaking])
        assert len(joined(await said(speaker, "Sure."))) < 2 * MOUTH_RATE, "what was left is not in the way"


async def test_openers_are_ready() -> None:
    async with running("piper") as engine:
        for phrase in (*OPENERS, "Oh no."):
            first, second = [joined(await said(engine.speaker(), phrase)) for _ in range(2)]
            same = len(first) == len(second) and bool((first == second).all())
            assert same == (phrase in OPENERS), "the network itself never makes the same sound twice"


async def test_speed_and_volume_are_heard() -> None:
    async with running("piper", speed=1.6, volume=0.25) as engine:
        spoken = joined(await said(engine.speaker(), SENTENCE))
    assert 2 < len(spoken) / MOUTH_RATE < 5, "at its own pace it takes six seconds"
    assert 0.05 < np.abs(spoken).max() <= 0.25


async def test_voices_of_kokoro() -> None:
    kokoro = Kokoro()
    assert isinstance(kokoro, ManyVoiced)
    voices = await kokoro.voices()
    assert len(voices) == len(KOKORO_VOICES) == 28
    assert voices[0].name == "af_heart"
    assert voices[0].label == "Heart (American woman)"
    with pytest.raises(EngineError, match="Kokoro has no voice"):
        await Kokoro("../../x").start(lambda progress: None)


def pitch(sound: Samples) -> float:
    """Hz: of its voiced parts, by their autocorrelation."""
    found = []
    for at in range(0, len(sound) - 2400, 1200):
        piece = sound[at : at + 2400] - sound[at : at + 2400].mean()
        if np.square(piece).mean() < 1e-3:
            continue
        alike = np.correlate(piece, piece, "full")[len(piece) :]
        found.append(MOUTH_RATE / (60 + int(alike[60:400].argmax()) + 1))
    return float(np.median(found))


async def test_another_voice_of_pipers_is_a_file(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="There is no file"):
        await Piper(str(tmp_path / "none.onnx")).start(lambda progress: None)
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not a network")
    with pytest.raises(EngineError, match=r"needs this file next to its \.onnx file"):
        await Piper(str(broken)).start(lambda progress: None)
    (tmp_path / "broken.onnx.json").write_text("{}")
    with pytest.raises(EngineError, match="does not describe a Piper voice"):
        await Piper(str(broken)).start(lambda progress: None)
    description = folder(PIPER_JOE) / "en_US-joe-medium.onnx.json"
    (tmp_path / "broken.onnx.json").write_text(description.read_text())
    with pytest.raises(EngineError, match="does not contain a voice that can be loaded"):
        await Piper(str(broken)).start(lambda progress: None)


def test_sound_is_trimmed_levelled_and_given_its_pause() -> None:
    tone = 0.4 * np.sin(np.arange(MOUTH_RATE) * 0.05).astype(np.float32)
    quiet = np.zeros(MOUTH_RATE // 2, np.float32)
    out, (start, end) = shaped(np.concatenate([quiet, tone, quiet]), ".")
    assert start < 0.03 * MOUTH_RATE
    assert (end - start) == pytest.approx(MOUTH_RATE, abs=0.02 * MOUTH_RATE)
    assert (len(out) - end) / MOUTH_RATE == pytest.approx(PAUSE_S["."], abs=0.01)
    level = float(np.sqrt(np.mean(out[start:end] ** 2)))
    assert LEVEL < level < 0.28, "nearer to the level than it was"
    softer, _ = shaped(np.concatenate([quiet, tone / 40, quiet]), "")
    assert np.sqrt(np.mean(softer**2)) > np.sqrt(np.mean((tone / 40) ** 2))
    assert len(shaped(quiet, ".")[0]) == 0


def test_the_symbols_of_kokoro_have_the_ids_of_its_published_table() -> None:
    assert len(IDS) == len(set(IDS.values())) == 114
    assert [IDS[symbol] for symbol in ";,.?— AIOQSTWYᵊazɑɡŋɹʃʧʊʌʒˈˌːᵻ"] == [
        1, 3, 4, 6, 9, 16, 24, 25, 31, 33, 35, 36, 39, 41, 42, 43, 68, 69, 92, 112, 123, 131, 133, 135, 138, 147,
        156, 157, 158, 177,
    ]  # fmt: skip
