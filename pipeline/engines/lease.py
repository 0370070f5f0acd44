"""Engines as conversations have them: it is known while one is in use, and one that is to go takes no new work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Self, TypeVar

from pipeline.audio import Samples
from pipeline.engine import Engine, EngineFace
from pipeline.llm import LanguageModel, Prompt, ReadsAhead, Truncated
from pipeline.stt import Hearing, SpeechToText, Transcript
from pipeline.tools.calls import ToolCall
from pipeline.tts import ContextualSpeaker, Speaker, Spoken, TextToSpeech

E = TypeVar("E", bound=Engine)


class Lease(EngineFace[E]):
    """An engine, and how many hearings, replies and speakers of it are open."""

    def __init__(self, engine: E) -> None:
        super().__init__(engine)
        self._successor: Self | None = None
        self._open = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def current(self) -> Self:
        """Where new work goes: here, or to what has taken its place."""
        return self if self._successor is None else self._successor.current

    def succeeded_by(self, successor: Self) -> None:
        self._successor = successor

    @property
    def idle(self) -> bool:
        return self._idle.is_set()

    async def until_idle(self) -> None:
        await self._idle.wait()

    def taken(self) -> None:
        self._open += 1
        self._idle.clear()

    def given_back(self) -> None:
        self._open -= 1
        if not self._open:
            self._idle.set()


class LeasedEars(Lease[SpeechToText]):
    def listen(self) -> Hearing:
        return _Hearing(self.current)


class LeasedMind(Lease[LanguageModel]):
    async def reply(self, prompt: Prompt) -> AsyncGenerator[str | ToolCall | Truncated, None]:
        lease = self.current
        lease.taken()
        try:
            async with aclosing(lease.engine.reply(prompt)) as pieces:
                async for piece in pieces:
                    yield piece
        finally:
            lease.given_back()

    async def read_ahead(self, prompt: Prompt) -> None:
        lease = self.current
        if isinstance(lease.engine, ReadsAhead):
            lease.taken()
            try:
                await lease.engine.read_ahead(prompt)
            finally:
                lease.given_back()


class LeasedVoice(Lease[TextToSpeech]):
    def speaker(self) -> Speaker:
        lease = self.current
        speaker = lease.engine.speaker()
        kind = _ContextualSpeaker if isinstance(speaker, ContextualSpeaker) else _Speaker
        return kind(lease, speaker)


class _Hearing:
    def __init__(self, lease: LeasedEars) -> None:
        self._lease: LeasedEars | None = lease
        self._hearing = lease.engine.listen()
        lease.taken()

    async def feed(self, samples: Samples) -> Transcript | None:
        return await self._hearing.feed(samples)

    async def finish(self) -> Transcript:
        return await self._hearing.finish()

    async def close(self) -> None:
        try:
            await self._hearing.close()
        finally:
            lease, self._lease = self._lease, None
            if lease is not None:
                lease.given_back()


class _Speaker:
    def __init__(self, lease: LeasedVoice, speaker: Speaker) -> None:
        self._lease: LeasedVoice | None = lease
        self._speaker = speaker
        lease.taken()

    def speak(self, text: str) -> AsyncGenerator[Spoken, None]:
        return self._speaker.speak(text)

    async def user_said(self, text: str, samples: Samples) -> None:
        await self._speaker.user_said(text, samples)

    async def close(self) -> None:
        try:
            await self._speaker.close()
        finally:
            lease, self._lease = self._lease, None
            if lease is not None:
                lease.given_back()


class _ContextualSpeaker(_Speaker):
    def __init__(self, lease: LeasedVoice, speaker: Speaker) -> None:
        super().__init__(lease, speaker)
        assert isinstance(speaker, ContextualSpeaker)
        self._contextual = speaker

    async def reply_heard(self, samples: int) -> None:
        await self._contextual.reply_heard(samples)
