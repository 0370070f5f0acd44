"""Text to speech: the Protocol. One file an engine beside this one."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from pipeline.audio import Samples
from pipeline.engine import Engine


@dataclass(frozen=True, slots=True)
class WordTime:
    """Where a word of the text is spoken: its characters' span, and the sample (24 kHz) at which it begins."""

    start: int
    end: int
    sample: int


@dataclass(frozen=True, slots=True)
class Spoken:
    samples: Samples
    """24 kHz."""
    words: tuple[WordTime, ...] = ()
    """Words that begin in or before these samples, counted from the start of the spoken text; none if unknown."""


class Speaker(Protocol):
    """The voice within one conversation; it may keep what was said as its context."""

    def speak(self, text: str) -> AsyncGenerator[Spoken, None]:
        """Sound as it is made. Closing the generator stops the work. Raises EngineError (while iterating)."""

    async def user_said(self, text: str, samples: Samples) -> None:
        """What the user said (16 kHz), for a voice that speaks in its context; the others ignore it."""

    async def close(self) -> None: ...


class TextToSpeech(Engine, Protocol):
    def speaker(self) -> Speaker: ...


@runtime_checkable
class ContextualSpeaker(Protocol):
    """What a speaker adds that keeps what it said as its context."""

    async def reply_heard(self, samples: int) -> None:
        """A reply is over: of its sound so many samples (24 kHz) were heard, and the rest is to be forgotten."""


@dataclass(frozen=True, slots=True)
class VoiceChoice:
    """A voice to choose."""

    name: str
    """What the settings' voice.name takes."""
    label: str
    """For people."""


SPEECH: tuple[type, ...] = (Spoken, WordTime, VoiceChoice)
"""What engines of this stage give."""


@runtime_checkable
class ManyVoiced(Protocol):
    """What an engine adds that has voices to choose from."""

    async def voices(self) -> list[VoiceChoice]:
        """Raises EngineError."""

    def speaker_of(self, voice: str) -> Speaker:
        """One that speaks with this voice, by its name in `voices`, in place of the settings'."""


@runtime_checkable
class Imitating(Protocol):
    """What an engine adds that speaks as a recording does."""

    def speaker_like(self, references: Sequence[tuple[Path, str]]) -> Speaker:
        """One that speaks as these recordings do, in place of the settings'.

        Args:
            references: each recording's file, and what is said in it.
        """
