"""Engines as conversations have them: it is known while one is in use, and one that is to go takes no new work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Generic, Self, TypeVar

from pipeline.audio import Samples
from pipeline.engine import Engine, EngineStatus, Report
from pipeline.llm import LanguageModel, Prompt
from pipeline.stt import Hearing, SpeechToText, Transcript
from pipeline.tools.calls import ToolCall
from pipeline.tts import ContextualSpeaker, Speaker, Spoken, TextToSpeech

E = TypeVar("E", bound=Engine)


class Lent(Generic[E]):
    """An engine, and how many hearings, replies and speakers of it are open."""

    def __init__(self, engine: E) -> None:
        self.engine = engine
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

    async def start(self, report: Report) -> None:
        await self.engine.start(report)

    async def stop(self) -> None:
        await self.engine.stop()

    @property
    def status(self) -> EngineStatus:
        return self.engine.status


class LentEars(Lent[SpeechToText]):
    def listen(self) -> Hearing:
        return _Hearing(self.current)


class LentMind(Lent[LanguageModel]):
    async def reply(self, prompt: Prompt) -> AsyncGenerator[str | ToolCall, None]:
        lent = self.current
        lent.taken()
        try:
            async with aclosing(lent.engine.reply(prompt)) as pieces:
                async for piece in pieces:
                    yield piece
        finally:
            lent.given_back()


class LentVoice(Lent[TextToSpeech]):
    def speaker(self) -> Speaker:
        lent = self.current
        speaker = lent.engine.speaker()
        return _ContextualSpeaker(lent, speaker) if isinstance(speaker, ContextualSpeaker) else _Speaker(lent, speaker)


class _Hearing:
    def __init__(self, lent: LentEars) -> None:
        self._lent: LentEars | None = lent
        self._hearing = lent.engine.listen()
        lent.taken()

    async def feed(self, samples: Samples) -> Transcript | None:
        return await self._hearing.feed(samples)

    async def finish(self) -> Transcript:
        return await self._hearing.finish()

    async def close(self) -> None:
        try:
            await self._hearing.close()
        finally:
            lent, self._lent = self._lent, None
            if lent is not None:
                lent.given_back()


class _Speaker:
    def __init__(self, lent: LentVoice, speaker: Speaker) -> None:
        self._lent: LentVoice | None = lent
        self._speaker = speaker
        lent.taken()

    def speak(self, text: str) -> AsyncGenerator[Spoken, None]:
        return self._speaker.speak(text)

    async def user_said(self, text: str, samples: Samples) -> None:
        await self._speaker.user_said(text, samples)

    async def close(self) -> None:
        try:
            await self._speaker.close()
        finally:
            lent, self._lent = self._lent, None
            if lent is not None:
                lent.given_back()


class _ContextualSpeaker(_Speaker):
    def __init__(self, lent: LentVoice, speaker: Speaker) -> None:
        super().__init__(lent, speaker)
        assert isinstance(speaker, ContextualSpeaker)
        self._contextual = speaker

    async def reply_heard(self, samples: int) -> None:
        await self._contextual.reply_heard(samples)
