"""Text to speech: the Protocol that every engine in this folder implements, with one file per engine."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from pipeline.audio import Samples
from pipeline.engine import Engine


@dataclass(frozen=True, slots=True)
class WordTime:
    """A word of the text as it is spoken: the span of its characters, and the sample (24 kHz) at which it begins."""

    start: int
    end: int
    sample: int


@dataclass(frozen=True, slots=True)
class Spoken:
    samples: Samples
    """24 kHz."""
    words: tuple[WordTime, ...] = ()
    """The words that begin in or before these samples, counted from the start of the spoken text; empty if unknown."""


class Speaker(Protocol):
    """The voice within one conversation; it may keep what was said as its context."""

    def speak(self, text: str) -> AsyncGenerator[Spoken, None]:
        """Yield sound as it is made. Closing the generator stops the work. Raises EngineError (while iterating)."""

    async def user_said(self, text: str, samples: Samples) -> None:
        """Take what the user said (16 kHz), for voices that use it as context; others ignore it."""

    async def close(self) -> None: ...


class TextToSpeech(Engine, Protocol):
    def speaker(self) -> Speaker: ...


@runtime_checkable
class ContextualSpeaker(Protocol):
    """What a speaker implements in addition if it keeps what it said as its context."""

    async def reply_heard(self, samples: int) -> None:
        """Note that only this many samples (24 kHz) of the finished reply were heard, and forget the rest."""


@dataclass(frozen=True, slots=True)
class VoiceChoice:
    """A voice to choose from."""

    name: str
    """The value for voice.name in the settings."""
    label: str
    """The name shown to people."""


SPEECH: tuple[type, ...] = (Spoken, WordTime, VoiceChoice)
"""The dataclasses that engines of this stage return."""


@runtime_checkable
class ManyVoiced(Protocol):
    """What an engine implements in addition if it has voices to choose from."""

    async def voices(self) -> list[VoiceChoice]:
        """Return the voices. Raises EngineError."""

    def speaker_of(self, voice: str) -> Speaker:
        """Return a speaker with this voice, by its name in `voices`, instead of the one in the settings."""


@runtime_checkable
class Imitating(Protocol):
    """What an engine implements in addition if it can imitate recordings."""

    def speaker_like(self, references: Sequence[tuple[Path, str]]) -> Speaker:
        """Return a speaker that imitates these recordings instead of those in the settings.

        Args:
            references: the file of each recording, and its transcript.
        """
