"""Tries an engine once: transcribes a recording or speaks a sentence, and measures the time."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from difflib import SequenceMatcher

import numpy as np

from pipeline.audio import MOUTH_RATE, Samples
from pipeline.stt import SpeechToText
from pipeline.tts import TextToSpeech
from pipeline.turns.vad import FRAME

Clock = Callable[[], float]
"""Returns seconds."""


@dataclass(frozen=True, slots=True)
class Said:
    sound: Samples
    """24 kHz."""
    first_s: float
    """Seconds from the start to the first sound."""
    seconds: float
    """Seconds from the start to the end."""

    @property
    def sound_s(self) -> float:
        return len(self.sound) / MOUTH_RATE

    @property
    def factor(self) -> float:
        """Real-time factor: seconds of computation per second of sound."""
        return self.seconds / max(1e-9, self.sound_s)


async def transcribe(ears: SpeechToText, sound: Samples, clock: Clock = time.monotonic) -> tuple[str, float]:
    """Transcribe 16 kHz sound, fed as in a conversation but without pauses → (text, seconds). Raises EngineError."""
    hearing = ears.listen()
    began = clock()
    try:
        for at in range(0, len(sound), FRAME):
            await hearing.feed(sound[at : at + FRAME])
        return (await hearing.finish()).text, clock() - began
    finally:
        await hearing.close()


async def speak(
    voice: TextToSpeech,
    text: str,
    clock: Clock = time.monotonic,
    told: Callable[[float], None] = lambda sound_s: None,
    enough_s: float = math.inf,
    work_s: float = math.inf,
) -> Said:
    """Speak a text. Raises EngineError.

    Args:
        told: called with the seconds of sound so far, whenever more has come.
        enough_s: seconds of sound after which to stop.
        work_s: seconds of computation after which to stop.
    """
    speaker = voice.speaker()
    began = clock()
    first = 0.0
    parts: list[Samples] = [np.zeros(0, np.float32)]
    samples = 0
    try:
        async with aclosing(speaker.speak(text)) as sounds:
            async for sound in sounds:
                first = first or clock() - began
                parts.append(sound.samples)
                samples += len(sound.samples)
                told(samples / MOUTH_RATE)
                if samples >= enough_s * MOUTH_RATE or clock() - began >= work_s:
                    break
        seconds = clock() - began
    finally:
        await speaker.close()
    return Said(np.concatenate(parts), first, seconds)


def words_right(said: str, heard: str) -> tuple[int, int]:
    """Return (words of `said` that were heard in order, words of `said`), ignoring case and punctuation."""
    wanted, got = (re.findall(r"[\w’']+", text.lower()) for text in (said, heard))
    matches = SequenceMatcher(None, wanted, got, autojunk=False).get_matching_blocks()
    return sum(match.size for match in matches), len(wanted)


def shortened(text: str, most: int = 80) -> str:
    """Return the text on one line, cut to `most` characters."""
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"
