"""Its own voice in the microphone, with real recordings: no turn begins, and the user is heard through it."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
import soxr

from pipeline.audio import EAR_RATE, MOUTH_RATE, Samples
from pipeline.audio.echo import EchoCanceller
from pipeline.ends.file import read_sound
from pipeline.stt.pocketsphinx import PocketSphinx
from pipeline.turns.judges import SpeechDetector
from pipeline.turns.vad import FRAME, VoiceActivity, load_model
from tests.support.recordings import recording

STEP = 0.02
"""Seconds of a sound card's block."""

MODEL = load_model()


def spoken(name: str) -> Samples:
    """As the reply's sound, 24 kHz."""
    resampled: Samples = soxr.resample(read_sound(recording(name)), EAR_RATE, MOUTH_RATE).astype(np.float32)
    return resampled


def in_the_room(reply: Samples, delay: float, loudness: float) -> Samples:
    """What of a reply (24 kHz) the microphone hears (16 kHz): later, softer, with the room's reflections."""
    dice = np.random.default_rng(0)
    room = np.zeros(round((delay + 0.1) * EAR_RATE), np.float32)
    first = round(delay * EAR_RATE)
    room[first] = loudness
    tail = np.arange(len(room) - first)
    room[first:] += (dice.normal(0, 0.15 * loudness, len(tail)) * np.exp(-tail / 300)).astype(np.float32)
    far = soxr.resample(reply, MOUTH_RATE, EAR_RATE)
    return np.convolve(far, room)[: len(far)].astype(np.float32)


def cancelled(reply: Samples, microphone: Samples) -> Samples:
    canceller = EchoCanceller()
    near, far = round(STEP * EAR_RATE), round(STEP * MOUTH_RATE)
    heard = []
    for block in range(len(microphone) // near):
        canceller.play(reply[block * far : (block + 1) * far])
        heard.append(canceller.hear(microphone[block * near : (block + 1) * near]))
    return np.concatenate(heard)


def speech(sound: Samples) -> list[bool]:
    """Frame by frame: does a turn go on?"""
    vad, detector, found = VoiceActivity(MODEL), SpeechDetector(0.5), []
    for start in range(0, len(sound) - FRAME + 1, FRAME):
        detector.update(vad.probability(sound[start : start + FRAME]))
        found.append(detector.speaking)
    return found


@pytest.mark.parametrize("delay", [0.02, 0.08, 0.2])
@pytest.mark.parametrize("loudness", [0.1, 0.35, 0.7])
def test_its_own_voice_starts_no_turn(delay: float, loudness: float) -> None:
    reply = spoken("austen_0870.wav")
    microphone = in_the_room(reply, delay, loudness)
    assert any(speech(microphone)), "without the canceller it would"
    assert not any(speech(cancelled(reply, microphone)))


@pytest.mark.parametrize("delay", [0.02, 0.08, 0.2])
def test_the_user_is_heard_through_it(delay: float) -> None:
    reply = spoken("austen_0870.wav")
    microphone = in_the_room(reply, delay, 0.35)
    question = 0.7 * read_sound(recording("weather_question.wav"))
    begin = round(4.0 * EAR_RATE)
    microphone[begin : begin + len(question)] += question
    frames = speech(cancelled(reply, microphone))
    onset = next(number for number, speaking in enumerate(frames) if speaking) * FRAME / EAR_RATE
    alone = next(number for number, speaking in enumerate(speech(question)) if speaking) * FRAME / EAR_RATE
    assert 4.0 + alone - 0.1 < onset < 4.0 + alone + 0.4


async def test_what_is_said_while_nothing_is_played_is_understood_as_before() -> None:
    question = np.pad(read_sound(recording("weather_question.wav")), (EAR_RATE // 4, EAR_RATE // 2))
    silence = np.zeros(len(question) * MOUTH_RATE // EAR_RATE, np.float32)
    ears = PocketSphinx()
    await ears.start(lambda progress: None)
    try:
        hearing = ears.listen()
        await hearing.feed(await asyncio.to_thread(cancelled, silence, question))
        assert (await hearing.finish()).text == "What is the weather in paris?"
        await hearing.close()
    finally:
        await ears.stop()
