"""Speech to text: the Protocol. One file an engine beside this one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from pipeline.audio import Samples
from pipeline.engine import Engine, EngineError


@dataclass(frozen=True, slots=True)
class Transcript:
    text: str
    """All that was understood so far, in natural spelling, stripped; empty when nothing was understood."""
    stable: int = 0
    """How many leading characters of `text` will hardly change any more; all of it in a final transcript."""


class Hearing(Protocol):
    """One turn of one speaker being listened to."""

    async def feed(self, samples: Samples) -> Transcript | None:
        """Take 16 kHz samples; give the new partial transcript when it has changed."""

    async def finish(self) -> Transcript:
        """Everything fed so far, final. Speech may go on: feed() and finish() again continue the same turn."""

    async def close(self) -> None:
        """The turn is over or dropped; free what it held. Safe to call twice."""


class SpeechToText(Engine, Protocol):
    def listen(self) -> Hearing: ...


@dataclass(frozen=True, slots=True)
class Word:
    text: str
    """With its punctuation."""
    start: float
    end: float
    """Seconds, from the beginning of the sound."""


@dataclass(frozen=True, slots=True)
class TranscriptionWishes:
    """How a recording is to be written down."""

    language: str | None = None
    """ISO 639-1; None is found out."""
    before: str = ""
    """Words that come before: of the recording, or such as are likely to be said."""
    translate: bool = False
    """Into English."""
    temperature: float = 0.0
    """Of sampling; 0 takes the likeliest words."""


class CannotFulfil(EngineError):
    """These ears cannot do what is wished; one sentence that says which can."""


@dataclass(frozen=True, slots=True)
class Written:
    """A passage of a recording, written down."""

    text: str
    words: tuple[Word, ...] = ()
    language: str | None = None
    log_probability: float = 0.0
    """Mean of a token's."""
    no_speech: float = 0.0
    """The probability that nothing is said."""


@runtime_checkable
class WritingDown(Protocol):
    """What ears add that know when each word was said."""

    async def write_down(self, sound: Samples, wishes: TranscriptionWishes) -> Written:
        """Up to 30 s of a recording, 16 kHz. Turns of a talk go first.

        Raises:
            CannotFulfil, and EngineError where the engine failed.
        """
