"""Engines on lease to conversations: an engine knows while it is in use, and one that is being replaced takes no new
work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager, suppress
from typing import Self, TypeVar

from pipeline.audio import Samples
from pipeline.engine import Engine, EngineFace
from pipeline.llm import LanguageModel, Prompt, ReadsAhead, Summarises, Truncated, UsesTools
from pipeline.stt import Hearing, SpeechToText, Transcript, TranscriptionWishes, WritingDown, Written
from pipeline.tools.calls import ToolCall
from pipeline.tts import ContextualSpeaker, Speaker, Spoken, TextToSpeech

E = TypeVar("E", bound=Engine)


class Precedence:
    """Live conversations go first: other work waits while a reply is being made, but not for ever."""

    PATIENCE_S = 5.0
    """How long other work waits for a reply; by then, what must be heard at once has been made."""

    def __init__(self) -> None:
        self._replies = 0
        self._since = 0.0
        """When the oldest of them began, on the event loop's clock."""
        self._quiet = asyncio.Event()
        self._quiet.set()

    @contextmanager
    def replying(self) -> Iterator[None]:
        """Mark that part of a reply is being made while the block runs."""
        if not self._replies:
            self._since = asyncio.get_running_loop().time()
        self._replies += 1
        self._quiet.clear()
        try:
            yield
        finally:
            self._replies -= 1
            if not self._replies:
                self._quiet.set()

    async def quiet(self) -> None:
        """Wait until no reply is being made, or one has been in the making for PATIENCE_S."""
        with suppress(TimeoutError):
            async with asyncio.timeout_at(self._since + self.PATIENCE_S):
                await self._quiet.wait()


class Lease(EngineFace[E]):
    """An engine, and how many hearings, replies and speakers of it are open."""

    def __init__(self, engine: E, precedence: Precedence | None = None) -> None:
        super().__init__(engine)
        self.precedence = precedence or Precedence()
        self._successor: Self | None = None
        self._open = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def current(self) -> Self:
        """The lease that takes new work: this one or its successor."""
        return self if self._successor is None else self._successor.current

    def succeeded_by(self, successor: Self) -> None:
        self._successor = successor

    @property
    def idle(self) -> bool:
        return self._idle.is_set()

    @property
    def busy(self) -> int:
        """How much work is in progress; hearings and replies are open only while they are being processed."""
        return self._open

    async def until_idle(self) -> None:
        await self._idle.wait()

    def taken(self) -> None:
        self._open += 1
        self._idle.clear()

    def given_back(self) -> None:
        self._open -= 1
        if not self._open:
            self._idle.set()

    @contextmanager
    def held(self) -> Iterator[Self]:
        """Hold the lease that takes new work, in use until the block is left."""
        lease = self.current
        lease.taken()
        try:
            yield lease
        finally:
            lease.given_back()


class LeasedEars(Lease[SpeechToText]):
    def listen(self) -> Hearing:
        return _Hearing(self.current)

    @property
    def writes_down(self) -> bool:
        """Whether the engine knows when each word was said, and takes transcription wishes."""
        return isinstance(self.current.engine, WritingDown)

    async def write_down(self, sound: Samples, wishes: TranscriptionWishes) -> Written:
        """Transcribe a passage of a recording, 16 kHz; conversations go first. The engine must support all wishes."""
        with self.held() as lease:
            await lease.precedence.quiet()
            if isinstance(lease.engine, WritingDown):
                return await lease.engine.write_down(sound, wishes)
            hearing = lease.engine.listen()
            try:
                await hearing.feed(sound)
                return Written((await hearing.finish()).text)
            finally:
                await hearing.close()


class LeasedMind(Lease[LanguageModel]):
    @property
    def uses_tools(self) -> bool:
        engine = self.current.engine
        return isinstance(engine, UsesTools) and engine.uses_tools

    @property
    def summarises(self) -> bool:
        engine = self.current.engine
        return isinstance(engine, Summarises) and engine.summarises

    async def reply(self, prompt: Prompt) -> AsyncGenerator[str | ToolCall | Truncated, None]:
        """Stream a reply in a live conversation."""
        with self.current.precedence.replying():
            async with aclosing(self._reply(prompt)) as pieces:
                async for piece in pieces:
                    yield piece

    async def write(self, prompt: Prompt) -> AsyncGenerator[str | ToolCall | Truncated, None]:
        """Stream a reply that is not part of a live conversation; those go first."""
        await self.current.precedence.quiet()
        async with aclosing(self._reply(prompt)) as pieces:
            async for piece in pieces:
                yield piece

    async def _reply(self, prompt: Prompt) -> AsyncGenerator[str | ToolCall | Truncated, None]:
        with self.held() as lease:
            async with aclosing(lease.engine.reply(prompt)) as pieces:
                async for piece in pieces:
                    yield piece

    async def read_ahead(self, prompt: Prompt) -> None:
        with self.held() as lease:
            if isinstance(lease.engine, ReadsAhead):
                await lease.engine.read_ahead(prompt)


class LeasedVoice(Lease[TextToSpeech]):
    def __init__(self, engine: TextToSpeech, precedence: Precedence | None = None) -> None:
        super().__init__(engine, precedence)
        self._speaking = 0

    @property
    def busy(self) -> int:
        """How many sentences are being spoken; the speakers stay open as long as their conversations."""
        return self._speaking

    @contextmanager
    def speaking(self) -> Iterator[None]:
        self._speaking += 1
        try:
            yield
        finally:
            self._speaking -= 1

    def speaker(self) -> Speaker:
        return self.talker(lambda engine: engine.speaker())

    def talker(self, choose: Callable[[TextToSpeech], Speaker]) -> Speaker:
        """Return a speaker for a conversation.

        Args:
            choose: makes the speaker, given the engine.
        """
        lease = self.current
        speaker = choose(lease.engine)
        kind = _ContextualSpeaker if isinstance(speaker, ContextualSpeaker) else _Speaker
        return kind(lease, speaker)

    def reader(self, choose: Callable[[TextToSpeech], Speaker]) -> Speaker:
        """Return a speaker for a text outside live conversations, which go first.

        Args:
            choose: makes the speaker, given the engine.
        """
        lease = self.current
        return _Reader(lease, choose(lease.engine))


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
        self._voice, self._precedence = lease, lease.precedence
        self._speaker = speaker
        lease.taken()

    async def speak(self, text: str) -> AsyncGenerator[Spoken, None]:
        with self._precedence.replying(), self._voice.speaking():
            async with aclosing(self._speaker.speak(text)) as sounds:
                async for sound in sounds:
                    yield sound

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


class _Reader(_Speaker):
    async def speak(self, text: str) -> AsyncGenerator[Spoken, None]:
        await self._precedence.quiet()
        with self._voice.speaking():
            async with aclosing(self._speaker.speak(text)) as sounds:
                async for sound in sounds:
                    yield sound
                    await self._precedence.quiet()
