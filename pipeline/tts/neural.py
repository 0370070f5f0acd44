"""What Piper and Kokoro have in common: a clause goes stretch by stretch through phonemes and a network, comes out as
sound of an even level with even pauses, in small blocks, and each word is given the moment at which it is spoken.

The networks tell no durations, so a word's moment is its share of the stretch's phonemes.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.audio import MOUTH_RATE, Samples
from pipeline.engine import EngineError
from pipeline.tts import Spoken, WordTime
from pipeline.tts.phonemes import Phonemizer, Stretch
from pipeline.tts.unbroken import unbroken
from pipeline.workers.place import Place

CONVERSATIONS = 8
"""Clauses that may be under way at a time, a thread each."""

THREADS = min(2, os.cpu_count() or 1)
"""Of a network: on the two cores of the smallest machine, ears and mind have done their part when the voice begins."""

BLOCK = MOUTH_RATE * 80 // 1000
"""Samples that are handed on at a time."""

PAUSE_S = {"": 0.0, ",": 0.16, ";": 0.24, ":": 0.24, ".": 0.34, "!": 0.34, "?": 0.34}
"""After a stretch, by the mark that ends it; about what a person leaves in calm speech."""

LEAD_S, TAIL_S = 0.02, 0.06
"""Kept of the quiet before and after a stretch, so that soft consonants are whole."""

QUIET = 10 ** (-45 / 20)
"""Below its loudest moment, what is before or after speech is silence."""

LEVEL = 0.1
"""RMS of speech, about -20 dB of full scale."""

EVENNESS = 0.6
"""Of the distance to that level, how much is taken away: all of it would flatten what is meant to be soft."""

_MOMENT = MOUTH_RATE // 100


class NeuralSynthesizer(ABC):
    """A network and its phonemes, for a worker process."""

    def __init__(self, language: str, speed: float, volume: float) -> None:
        """Args: espeak-ng's name of the language, 1 for the voice's own pace, 0 to 1. Raises EngineError."""
        import onnxruntime

        self._phonemizer = Phonemizer(language)
        self._speed, self._volume = speed, volume
        self._options = onnxruntime.RunOptions
        self._stopped: type[Exception] = onnxruntime.capi.onnxruntime_pybind11_state.Fail
        self._running: dict[int, Any] = {}

    def warm_up(self) -> None:
        for early in (True, False):
            list(self.speak(-1, "Hello, this is how I sound, and it is long enough for now.", early))

    def speak(self, number: int, text: str, early: bool, voice: str | None = None) -> Iterator[Spoken]:
        """Sound at 24 kHz, block by block.

        Args:
            number: of the listener, for leave().
            early: whether it begins a reply.
            voice: None is the settings', and the only one where an engine has no others.
        """
        made = 0
        run = self._running[number] = self._options()
        try:
            for stretch in self._phonemizer.stretches(text, early, self._language_of(voice)):
                sound = self._sound(stretch.phonemes, self._speed, run, voice)
                sound, spoken = shaped(sound, stretch.mark)
                words = deque(timed(stretch, spoken, made))
                for at in range(0, len(sound), BLOCK):
                    block = sound[at : at + BLOCK] * np.float32(self._volume)
                    begun = [words.popleft() for word in list(words) if word.sample < made + at + len(block)]
                    yield Spoken(block, tuple(begun))
                made += len(sound)
        except self._stopped:
            if not run.terminate:
                raise
        finally:
            del self._running[number]

    def leave(self, number: int) -> None:
        """Nobody listens any more: stop in the middle of the network."""
        if run := self._running.get(number):
            run.terminate = True

    def _language_of(self, voice: str | None) -> str | None:
        """By espeak-ng's name; None is the one it was made with."""
        return None

    @abstractmethod
    def _sound(self, phonemes: str, speed: float, run: Any, voice: str | None) -> Samples:
        """A stretch at 24 kHz, as the network makes it."""


def session(file: Path) -> Any:
    """The network in `file`. Raises EngineError where it cannot be loaded."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # the cores belong to others, too
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own classes have no other one in common
        line = next(iter(str(error).splitlines()), "")[:200]
        raise EngineError(f"{file} does not contain a voice that can be loaded ({line}): download it again.") from error


def shaped(sound: Samples, mark: str) -> tuple[Samples, tuple[int, int]]:
    """Without the quiet around it, at an even level, and with the pause that its mark asks for; and where in it the
    speech begins and ends, in samples."""
    moments = len(sound) // _MOMENT
    if not moments:
        return sound, (0, len(sound))
    power = np.sqrt(np.mean(np.square(sound[: moments * _MOMENT].reshape(moments, _MOMENT)), axis=1))
    (loud,) = np.nonzero(power > QUIET * power.max())
    if not len(loud) or power.max() < 1e-4:
        return np.zeros(0, np.float32), (0, 0)
    start, end = int(loud[0]) * _MOMENT, (int(loud[-1]) + 1) * _MOMENT
    first, last = max(0, start - int(LEAD_S * MOUTH_RATE)), min(len(sound), end + int(TAIL_S * MOUTH_RATE))
    speech = power[power > 0.1 * power.max()]
    gain = (LEVEL / float(np.sqrt(np.mean(np.square(speech))))) ** EVENNESS
    gain = min(gain, 0.95 / float(np.abs(sound[first:last]).max()))
    pause = max(0, int(PAUSE_S[mark] * MOUTH_RATE) - (last - end))
    out = np.concatenate([sound[first:last] * np.float32(gain), np.zeros(pause, np.float32)])
    edge = min(_MOMENT // 2, last - first)
    ramp = np.linspace(0.0, 1.0, edge, dtype=np.float32)
    out[:edge] *= ramp
    out[last - first - edge : last - first] *= ramp[::-1]
    return out, (start - first, end - first)


def timed(stretch: Stretch, spoken: tuple[int, int], before: int) -> list[WordTime]:
    """When each word begins, counted from the start of the text, of which `before` samples were made already."""
    start, end = spoken
    whole = sum(word.weight for word in stretch.words) or 1.0
    passed, times = 0.0, []
    for word in stretch.words:
        times.append(WordTime(word.start, word.end, before + start + round((end - start) * passed / whole)))
        passed += word.weight
    return times


class NeuralSpeaker:
    """Within one conversation it knows where a reply begins: its first words are to be heard soon."""

    def __init__(self, place: Place, voice: str | None = None) -> None:
        self._place, self._voice = place, voice
        self._begins = True

    async def speak(self, text: str) -> AsyncGenerator[Spoken, None]:
        early, self._begins = self._begins, False
        async with aclosing(unbroken(self._place, text, partial(self._clause, early))) as blocks:
            async for spoken in blocks:
                yield spoken

    async def _clause(self, early: bool, text: str) -> AsyncGenerator[Spoken, None]:
        seat = self._place.seat("leave")
        try:
            async with aclosing(seat.stream("speak", text, early, self._voice)) as blocks:
                async for spoken in blocks:
                    yield spoken
        finally:
            await seat.leave()

    async def user_said(self, text: str, samples: Samples) -> None:
        pass

    async def reply_heard(self, samples: int) -> None:
        """A reply is over."""
        self._begins = True

    async def close(self) -> None:
        pass
