"""When has the user begun, finished, or interrupted? Small judges that can be combined, and tested alone.

They measure time in samples received, so they judge alike live, from a file, and under a virtual clock.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from pipeline.audio import EAR_RATE
from pipeline.vad import FRAME

FRAME_MS = 1000 * FRAME / EAR_RATE


class SpeechDetector:
    """Silero's probabilities made into stretches of speech, with hysteresis.

    Speech begins after ONSET frames in a row at or above the sensitivity, and lasts until the probability has stayed
    RELEASE below that for HANG frames; both keep single frames (clicks, consonants' closures) from mattering.
    The release of 0.15 is what Silero's own iterator uses.
    """

    ONSET = 2
    HANG = 3
    RELEASE = 0.15

    def __init__(self, sensitivity: float) -> None:
        self.sensitivity = sensitivity
        self.speaking = False
        self.silence_frames = 0
        """Frames since the last one of speech; meaningful once there was any."""
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
    """What is known while the user is silent within a turn."""

    silence_ms: float
    speech_ms: float
    """Speech of this turn so far, its pauses left out."""
    transcript: str = ""
    finished: float | None = None
    """The turn model's probability that the user had finished; None until it has answered."""


class EndOfTurn(Protocol):
    def verdict(self, pause: Pause) -> str | None:
        """Why the turn has ended, for the record; None while it has not."""


@dataclass(frozen=True, slots=True)
class SilenceLimit:
    """The plainest judge: so much silence ends a turn."""

    limit_ms: float

    def verdict(self, pause: Pause) -> str | None:
        return f"{self.limit_ms:.0f} ms of silence" if pause.silence_ms >= self.limit_ms else None


@dataclass(frozen=True, slots=True)
class FirstOf:
    """Ends a turn as soon as one of several judges does."""

    judges: Sequence[EndOfTurn]

    def verdict(self, pause: Pause) -> str | None:
        return next((why for judge in self.judges if (why := judge.verdict(pause)) is not None), None)


@dataclass(frozen=True, slots=True)
class Intrusion:
    """What is known of speech that began while a reply was playing."""

    speech_ms: float
    silence_ms: float
    transcript: str = ""
    final: bool = False
    """The transcript is of all that was said."""


@dataclass(frozen=True, slots=True)
class Ruling:
    kind: Literal["interruption", "backchannel"]
    why: str


BACKCHANNELS = frozenset(
    "mm mhm hm hmm mmhmm uh huh uhhuh um ah oh yeah yes yep yup right okay ok sure aha wow cool nice great true".split()
)
"""Words by which a listener says "go on"; alone they do not take the turn (Yngve 1970 named them backchannels)."""

COMMANDS = frozenset({"stop", "wait", "pause", "hold on", "shut up", "be quiet", "quiet", "enough", "hang on"})


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z']+", text.lower().replace("-", ""))


@dataclass(frozen=True, slots=True)
class InterruptionJudge:
    """An interruption is a command, or words beyond backchannels, or speech too long to be either noise or assent."""

    min_speech_ms: float = 250.0
    """Shorter bursts are a cough or a door unless they are a command."""
    certain_speech_ms: float = 800.0
    """The longest backchannels last about this; more is an interruption whatever was understood."""
    verdict_silence_ms: float = 200.0

    def ruling(self, intrusion: Intrusion) -> Ruling | None:
        """None while it cannot be said yet; always a ruling once the intruder has been silent for a while."""
        words = _words(intrusion.transcript)
        spoken = " ".join(words)
        if any(spoken == command or spoken.startswith(command + " ") for command in COMMANDS):
            return Ruling("interruption", f"said “{spoken.split()[0]}”")
        if intrusion.speech_ms >= self.certain_speech_ms:
            return Ruling("interruption", f"{intrusion.speech_ms:.0f} ms of speech")
        beyond = [word for word in words if word not in BACKCHANNELS]
        if len(beyond) >= 2 and intrusion.speech_ms >= self.min_speech_ms:
            return Ruling("interruption", "words beyond a backchannel")
        if intrusion.silence_ms < self.verdict_silence_ms or not intrusion.final:
            return None
        if beyond and intrusion.speech_ms >= self.min_speech_ms:
            return Ruling("interruption", "a word beyond a backchannel")
        if words:
            return Ruling("backchannel", f"“{spoken}”")
        return Ruling("backchannel", f"{intrusion.speech_ms:.0f} ms without words")
