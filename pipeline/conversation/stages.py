"""The running engines that a conversation uses."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Protocol

from pipeline.audio import Samples
from pipeline.llm import LanguageModel
from pipeline.speakers.encoder import Direction
from pipeline.speakers.people import Heard, Person
from pipeline.stt import SpeechToText
from pipeline.tts import TextToSpeech
from pipeline.turns.vad import VoiceActivityLike
from rag import Recall


class ConversationMemory(Protocol):
    """What a conversation needs from the memory (rag.AsyncMemory, or the same in a worker)."""

    async def remember(
        self, speaker: str, text: str, *, at: datetime | None = None, conversation: str | None = None
    ) -> str: ...

    async def recall(
        self,
        query: str,
        *,
        budget_chars: int = 2400,
        now: datetime | None = None,
        exclude_conversation: str | None = None,
        asker: str | None = None,
    ) -> Recall: ...

    async def notices(self) -> tuple[str, ...]:
        """Return what the user should be told about the memory itself."""


class Speakers(Protocol):
    """Tells people apart by their voices."""

    def known(self) -> tuple[Person, ...]: ...

    async def direction(self, sound: Samples) -> Direction | None:
        """Return the direction of the voice in 16 kHz sound of one speaker; None for silence. Raises EngineError."""

    async def learn(self, name: str, heard: Sequence[Heard], today: date) -> Person:
        """Learn a voice, as People.learn does. Raises OSError."""

    async def forget(self, name: str) -> bool:
        """Forget a voice, as People.forget does. Raises OSError."""


@dataclass(frozen=True, slots=True)
class Stages:
    vad: Callable[[], VoiceActivityLike]
    ears: SpeechToText
    mind: LanguageModel
    voice: TextToSpeech
    memory: ConversationMemory | None
    finished: Callable[[Samples], Awaitable[float]] | None = None
    """The turn model: the probability that the speaker of 16 kHz samples had finished. If None, silence decides."""
    speakers: Speakers | None = None
    """None: every speaker is taken for the user."""
