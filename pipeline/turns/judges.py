"""Small judges of when the user begins and finishes, which can be combined, and tested alone.

They measure time in samples received, so they judge the same live, from a file, and under a virtual clock.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from pipeline.audio import EAR_RATE
from pipeline.turns.vad import FRAME

FRAME_MS = 1000 * FRAME / EAR_RATE


class SpeechDetector:
    """Turns Silero's probabilities into stretches of speech, with hysteresis.

    Speech begins after ONSET frames in a row at or above the sensitivity, and lasts until the probability has stayed
    more than RELEASE below that for HANG frames. Both rules make it ignore single frames (clicks, the closures of
    consonants). Silero's own iterator uses the same release of 0.15.
    """

    ONSET = 2
    HANG = 3
    RELEASE = 0.15

    def __init__(self, sensitivity: float) -> None:
        self.sensitivity = sensitivity
        self.speaking = False
        self.silence_frames = 0
        """Frames since the last frame of speech; meaningful once there was any speech."""
        self._rising = 0

    def update(self, probability: float) -> None:
        self._rising = self._rising + 1 if probability >= self.sensitivity else 0
        if self.speaking:
            quiet = probability < max(self.sensitivity - self.RELEASE, 0.02)
            self.silence_frames = self.silence_frames + 1 if quiet else 0
            self.speaking = self.silence_frames < self.HANG
        elif self._rising >= self.ONSET:
            self.speaking = True
            self.silence_frames = 0
        else:
            self.silence_frames += 1


@dataclass(frozen=True, slots=True)
class Pause:
    """What is known about a silence within the user's turn."""

    silence_ms: float
    speech_ms: float
    """Speech in this turn so far, without its pauses."""
    transcript: str = ""
    finished: float | None = None
    """The turn model's probability that the user had finished; None until it has answered."""


class EndOfTurn(Protocol):
    def verdict(self, pause: Pause) -> str | None:
        """Return why the turn has ended, for the record; None while it has not."""


@dataclass(frozen=True, slots=True)
class SilenceLimit:
    """The simplest judge: a fixed length of silence ends a turn."""

    limit_ms: float

    def verdict(self, pause: Pause) -> str | None:
        return f"{self.limit_ms:.0f} ms of silence" if pause.silence_ms >= self.limit_ms else None


_GOES_ON = re.compile(
    r"\b(?:and|but|or|because|if|when|while|which|than|the|a|an|my|your|our|their|into|um|uh|er)\W*$", re.IGNORECASE
)
"""A sentence hardly ever ends in one of these words (unlike "is", "to" or "for"); a speaker who stops there is
thinking."""
_ASKED = re.compile(r"\?\W*$|\b(?:please|thank you|thanks|bye|goodbye)\W*$", re.IGNORECASE)


def hint(transcript: str) -> float:
    """Return how much the words add to the probability that the speaker had finished: -0.4 to 0.2."""
    if _GOES_ON.search(transcript):
        return -0.4
    return 0.2 if _ASKED.search(transcript) else 0.0


@dataclass(frozen=True, slots=True)
class Meaning:
    """Waits for less silence the surer the voice and the words make it that the user had finished."""

    shortest_ms: float
    """Silence that is enough if the user has surely finished."""
    longest_ms: float
    """Silence to wait for if the user certainly has not finished."""

    SURE: ClassVar = 0.85
    """smart-turn gives complete questions 0.9 or more, and half of the mid-sentence pauses that it misjudges less."""

    def verdict(self, pause: Pause) -> str | None:
        if pause.finished is None:
            return None
        likely = min(1.0, max(0.0, pause.finished + hint(pause.transcript)))
        doubt = max(0.0, 1 - likely / self.SURE)
        if pause.silence_ms < self.shortest_ms + doubt * (self.longest_ms - self.shortest_ms):
            return None
        return f"finished with probability {likely:.2f}, {pause.silence_ms:.0f} ms of silence"


@dataclass(frozen=True, slots=True)
class FirstOf:
    """Ends a turn as soon as one of several judges does."""

    judges: Sequence[EndOfTurn]

    def verdict(self, pause: Pause) -> str | None:
        return next((why for judge in self.judges if (why := judge.verdict(pause)) is not None), None)


@dataclass(slots=True)
class Habits:
    """How this user pauses. A user who was cut in on too early gets more time; turn by turn it shrinks again."""

    extra_ms: float = 0.0
    pauses: list[float] = field(default_factory=list)
    """The latest pauses (ms) after which the user went on."""

    STEP_MS: ClassVar = 100.0
    MOST_MS: ClassVar = 500.0
    KEPT: ClassVar = 20

    def went_on(self, after_ms: float) -> None:
        """Note that the user resumed within a turn, after this much silence."""
        self.pauses = [*self.pauses, after_ms][-self.KEPT :]

    def cut_in(self) -> None:
        self.extra_ms = min(self.extra_ms + self.STEP_MS, self.MOST_MS)

    def went_well(self) -> None:
        self.extra_ms = max(self.extra_ms - self.STEP_MS / 5, 0.0)

    def longest(self, patience_ms: float) -> float:
        """Return how long to wait for a user who seems not to have finished.

        That is a quarter more than their longest recent pause: at least `patience_ms`, and at most twice that.
        """
        return min(max([patience_ms, *(1.25 * pause for pause in self.pauses)]), 2 * patience_ms)
