"""What Piper and Kokoro share: a clause passes stretch by stretch through phonemes and a network, and becomes small
blocks of sound with an even level and even pauses, and a start time for each word.

The networks report no durations, so a word's time is estimated from its share of the stretch's phonemes.
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
from pipeline.llm.openers import OPENERS
from pipeline.tts import Spoken, WordTime
from pipeline.tts.phonemes import Phonemizer, Stretch
from pipeline.tts.unbroken import unbroken
from pipeline.workers.place import Place

CONVERSATIONS = 8
"""Clauses that may be in progress at a time, with a thread each."""

THREADS = min(2, os.cpu_count() or 1)
"""Threads of a network; on the smallest machine's two cores, ears and mind are idle when the voice begins."""

BLOCK = MOUTH_RATE * 80 // 1000
"""Samples that are passed on at a time."""

PAUSE_S = {"": 0.0, ",": 0.16, ";": 0.24, ":": 0.24, ".": 0.34, "!": 0.34, "?": 0.34}
"""Pause after a stretch, by the mark that ends it; about what a person leaves in calm speech."""

LEAD_S, TAIL_S = 0.005, 0.06
"""Silence kept before and after a stretch, so that soft consonants stay whole."""

QUIET = 10 ** (-45 / 20)
"""Level, relative to the loudest moment, below which sound before or after speech counts as silence."""

LEVEL = 0.1
"""Target RMS of speech, about -20 dB of full scale."""

EVENNESS = 0.6
"""How much of the distance to that level is removed; removing all would flatten what is meant to be soft."""

_MOMENT = MOUTH_RATE // 100


class NeuralSynthesizer(ABC):
    """A network and its phonemes, inside a worker process."""

    def __init__(self, language: str, speed: float, volume: float) -> None:
        """Args: espeak-ng's name of the language; speed, 1 is the voice's own; volume, 0 to 1. Raises EngineError."""
        import onnxruntime

        self._phonemizer = Phonemizer(language)
        self._speed, self._volume = speed, volume
        self._options = onnxruntime.RunOptions
        self._stopped: type[Exception] = onnxruntime.capi.onnxruntime_pybind11_state.Fail
        self._running: dict[int, Any] = {}
        self._openers: dict[tuple[str, bool, str | None], tuple[Spoken, ...]] = {}

    def warm_up(self, *phrases: str) -> None:
        """Args: phrases: openers to be ready with, besides the sentences that everything is warmed up with."""
        for early in (True, False):
            list(self.speak(-1, "Hello, this is how I sound, and it is long enough for now.", early))
        for phrase in phrases:
            list(self.speak(-1, phrase, early=True))

    def speak(self, number: int, text: str, early: bool, voice: str | None = None) -> Iterator[Spoken]:
        """Yield sound at 24 kHz, block by block. An opener sounds as it did the first time, and needs no computing.

        Args:
            number: of the listener, for leave().
            early: whether the text begins a reply.
            voice: None means the one in the settings, or the only one the engine has.
        """
        key = (text, early, voice)
        if key in self._openers:
            yield from self._openers[key]
            return
        blocks = []
        run = self._running[number] = self._options()
        try:
            for spoken in self._computed(run, text, early, voice):
                blocks.append(spoken)
                yield spoken
            if text in OPENERS:
                self._openers[key] = tuple(blocks)
        except self._stopped:
            if not run.terminate:
                raise
        finally:
            del self._running[number]

    def _computed(self, run: Any, text: str, early: bool, voice: str | None) -> Iterator[Spoken]:
        made = 0
        for stretch in self._phonemizer.stretches(text, early, self._language_of(voice)):
            sound = self._sound(stretch.phonemes, self._speed, run, voice)
            sound, spoken = shaped(sound, stretch.mark)
            words = deque(timed(stretch, spoken, made))
            for at in range(0, len(sound), BLOCK):
                block = sound[at : at + BLOCK] * np.float32(self._volume)
                begun = [words.popleft() for word in list(words) if word.sample < made + at + len(block)]
                yield Spoken(block, tuple(begun))
            made += len(sound)

    def leave(self, number: int) -> None:
        """Stop, even inside a run of the network, because nobody listens any more."""
        if run := self._running.get(number):
            run.terminate = True

    def _language_of(self, voice: str | None) -> str | None:
        """Return the voice's language by espeak-ng's name; None means the one given at creation."""
        return None

    @abstractmethod
    def _sound(self, phonemes: str, speed: float, run: Any, voice: str | None) -> Samples:
        """Return a stretch at 24 kHz as the network makes it."""


def session(file: Path) -> Any:
    """Load the network in `file`. Raises EngineError if that fails."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # others need the cores, too
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no other base class
        line = next(iter(str(error).splitlines()), "")[:200]
        raise EngineError(f"{file} does not contain a voice that can be loaded ({line}): download it again.") from error


def shaped(sound: Samples, mark: str) -> tuple[Samples, tuple[int, int]]:
    """Trim the silence, even out the level and add the pause for the mark. Return the sound, and where in it the speech
    begins and ends, in samples."""
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
    """Return when each word begins, counted from the start of the text, after the `before` samples already made."""
    start, end = spoken
    whole = sum(word.weight for word in stretch.words) or 1.0
    passed, times = 0.0, []
    for word in stretch.words:
        times.append(WordTime(word.start, word.end, before + start + round((end - start) * passed / whole)))
        passed += word.weight
    return times


class NeuralSpeaker:
    """The speaker of one conversation; it knows where a reply begins, whose first words must be heard soon."""

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
        """Note that the reply is over."""
        self._begins = True

    async def close(self) -> None:
        pass
