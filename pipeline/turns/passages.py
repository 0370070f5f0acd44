"""Cuts a recording of any length, at pauses, into passages short enough to be transcribed at once.

It holds no more than one passage at a time, so it can process hours of sound.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pipeline.audio import EAR_RATE, Samples
from pipeline.turns.vad import FRAME, VoiceActivityLike

LONGEST_S = 28.0
"""Length of the longest passage; Whisper's window is 30 s."""

SILENCE_S = 1.6
"""Silence after which a passage ends; the next one begins with the next speech."""

AROUND_S = 0.4
"""How much quiet around speech is kept, so that no soft consonant is lost."""

SPEECH = 0.5
"""Silero's probability at or above which a frame counts as speech."""

_FRAME_S = FRAME / EAR_RATE


@dataclass(frozen=True, slots=True)
class Passage:
    start: float
    """Where it begins in the recording, in seconds."""
    sound: Samples
    """16 kHz."""

    @property
    def end(self) -> float:
        return self.start + len(self.sound) / EAR_RATE


class Cutter:
    """Takes a recording piece by piece and gives back passages in order; long silence is in none of them."""

    def __init__(self, vad: VoiceActivityLike, longest_s: float = LONGEST_S, silence_s: float = SILENCE_S) -> None:
        """
        Args:
            vad: one for this cutter alone, since it remembers what it heard.
        """
        self._vad = vad
        self._longest, self._silence = round(longest_s / _FRAME_S), round(silence_s / _FRAME_S)
        self._around = round(AROUND_S / _FRAME_S)
        self._rest: Samples = np.zeros(0, np.float32)
        self._frames: list[Samples] = []
        self._likely: list[float] = []
        """The probability of speech in each of these frames."""
        self._first = 0
        """The index in the recording of the first of these frames."""
        self._last_voice: int | None = None
        """The index of the last of these frames that is speech."""
        self._samples = 0

    @property
    def seconds(self) -> float:
        """Seconds of sound fed so far."""
        return self._samples / EAR_RATE

    def feed(self, samples: Samples) -> list[Passage]:
        """Take 16 kHz samples; return the passages that are complete now."""
        self._samples += len(samples)
        sound = np.concatenate([self._rest, samples])
        whole = len(sound) // FRAME * FRAME
        self._rest = sound[whole:]
        return [passage for at in range(0, whole, FRAME) for passage in self._take(sound[at : at + FRAME])]

    def finish(self) -> list[Passage]:
        """Return what is left, as the last passage; nothing if there is no speech in it."""
        passages = list(self._take(np.pad(self._rest, (0, FRAME - len(self._rest))))) if len(self._rest) else []
        self._rest = np.zeros(0, np.float32)
        if self._last_voice is not None:
            passages.append(self._cut(min(len(self._frames), self._last_voice + 1 + self._around)))
        return passages

    def _take(self, frame: Samples) -> Iterator[Passage]:
        likely = self._vad.probability(frame)
        self._frames.append(frame)
        self._likely.append(likely)
        if likely >= SPEECH:
            self._last_voice = len(self._frames) - 1
        if self._last_voice is None:
            self._drop(max(0, len(self._frames) - self._around))
        elif len(self._frames) - self._last_voice > self._silence:
            yield self._cut(self._last_voice + 1 + self._around)
        elif len(self._frames) >= self._longest:
            yield self._cut(self._quietest())

    def _quietest(self) -> int:
        """Return the frame in the second half at the middle of the longest pause, or where speech is least likely."""
        half = len(self._frames) // 2
        best, begun = (0, half + int(np.argmin(self._likely[half:]))), half
        for index in range(half, len(self._likely) + 1):
            if index == len(self._likely) or self._likely[index] >= SPEECH:
                best = max(best, (index - begun, (index + begun) // 2)) if index > begun else best
                begun = index + 1
        return max(1, best[1])

    def _cut(self, end: int) -> Passage:
        passage = Passage(self._first * _FRAME_S, np.concatenate(self._frames[:end]))
        self._drop(end)
        spoken = [index for index, likely in enumerate(self._likely) if likely >= SPEECH]
        self._last_voice = spoken[-1] if spoken else None
        return passage

    def _drop(self, count: int) -> None:
        del self._frames[:count], self._likely[:count]
        self._first += count
