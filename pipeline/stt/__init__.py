"""Speech to text: the Protocol that every engine in this folder implements, one file for each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from pipeline.audio import Samples
from pipeline.engine import Engine, EngineError


@dataclass(frozen=True, slots=True)
class Transcript:
    text: str
    """Everything understood so far, in natural spelling, stripped; empty if nothing was understood."""
    stable: int = 0
    """How many leading characters of `text` will probably not change any more; in a final transcript, all of them."""


class Hearing(Protocol):
    """One turn of one speaker being listened to."""

    async def feed(self, samples: Samples) -> Transcript | None:
        """Take 16 kHz samples; return the new partial transcript if it has changed."""

    async def finish(self) -> Transcript:
        """Return the final transcript of everything fed so far. Speech may continue: further feed() and finish() calls
        continue the same turn."""

    async def close(self) -> None:
        """Release the resources of a turn that is over or dropped. Safe to call twice."""


class SpeechToText(Engine, Protocol):
    def listen(self) -> Hearing: ...


@dataclass(frozen=True, slots=True)
class Word:
    text: str
    """The word, with its punctuation."""
    start: float
    end: float
    """Seconds from the beginning of the sound."""


@dataclass(frozen=True, slots=True)
class TranscriptionWishes:
    """How a recording should be transcribed."""

    language: str | None = None
    """ISO 639-1; if None, the language is detected."""
    before: str = ""
    """Words that come before the recording, or that are likely to be said in it."""
    translate: bool = False
    """Whether to translate into English."""
    temperature: float = 0.0
    """The temperature of sampling; 0 takes the likeliest words."""


class CannotFulfil(EngineError):
    """These ears cannot do what was requested; the message is one sentence that names ears that can."""


@dataclass(frozen=True, slots=True)
class Written:
    """The transcript of a passage of a recording."""

    text: str
    words: tuple[Word, ...] = ()
    language: str | None = None
    log_probability: float = 0.0
    """The mean over its tokens."""
    no_speech: float = 0.0
    """The probability that the passage contains no speech."""


@runtime_checkable
class WritingDown(Protocol):
    """What ears implement in addition if they know when each word was said."""

    async def write_down(self, sound: Samples, wishes: TranscriptionWishes) -> Written:
        """Transcribe up to 30 s of a recording, 16 kHz. Turns of a conversation take precedence.

        Raises:
            CannotFulfil, and EngineError if the engine failed.
        """
