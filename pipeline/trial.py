"""An engine tried once: a recording understood, a sentence spoken, and how long it took."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import aclosing
from difflib import SequenceMatcher

import numpy as np

from pipeline.audio import Samples
from pipeline.stt import SpeechToText
from pipeline.tts import TextToSpeech
from pipeline.vad import FRAME

Clock = Callable[[], float]
"""Seconds."""


async def transcribe(ears: SpeechToText, sound: Samples, clock: Clock = time.monotonic) -> tuple[str, float]:
    """16 kHz, fed as a conversation would but without its pauses → (text, seconds). Raises EngineError."""
    hearing = ears.listen()
    began = clock()
    try:
        for at in range(0, len(sound), FRAME):
            await hearing.feed(sound[at : at + FRAME])
        return (await hearing.finish()).text, clock() - began
    finally:
        await hearing.close()


async def speak(voice: TextToSpeech, text: str, clock: Clock = time.monotonic) -> tuple[Samples, float, float]:
    """(24 kHz samples, seconds to the first sound, seconds in all). Raises EngineError."""
    speaker = voice.speaker()
    began = clock()
    first = 0.0
    parts: list[Samples] = [np.zeros(0, np.float32)]
    try:
        async with aclosing(speaker.speak(text)) as sounds:
            async for sound in sounds:
                first = first or clock() - began
                parts.append(sound.samples)
    finally:
        await speaker.close()
    return np.concatenate(parts), first, clock() - began


def words_right(said: str, heard: str) -> tuple[int, int]:
    """(words of `said` that were heard in their order, words of `said`), without regard to case and punctuation."""
    wanted, got = (re.findall(r"[\w’']+", text.lower()) for text in (said, heard))
    matches = SequenceMatcher(None, wanted, got, autojunk=False).get_matching_blocks()
    return sum(match.size for match in matches), len(wanted)
