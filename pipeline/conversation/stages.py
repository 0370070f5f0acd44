"""The running engines that a conversation talks through."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from pipeline.audio import Samples
from pipeline.llm import LanguageModel
from pipeline.stt import SpeechToText
from pipeline.tts import TextToSpeech
from pipeline.turns.vad import VoiceActivityLike
from rag import Recall


class ConversationMemory(Protocol):
    """What a conversation needs of the memory (rag.AsyncMemory, or the same in a worker)."""

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
        """What the user should be told of the memory itself."""


@dataclass(frozen=True, slots=True)
class Stages:
    vad: Callable[[], VoiceActivityLike]
    ears: SpeechToText
    mind: LanguageModel
    voice: TextToSpeech
    memory: ConversationMemory | None
    finished: Callable[[Samples], Awaitable[float]] | None = None
    """The turn model: the probability that the speaker of these 16 kHz samples had finished. None: silence decides."""
