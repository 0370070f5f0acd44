"""Engines that do what a test tells them, so that the server's own behaviour is what is tested."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Literal, cast

import numpy as np

from config import Settings
from pipeline.audio import MOUTH_RATE, Samples
from pipeline.conversation.stages import ConversationMemory, Stages
from pipeline.engine import Engine, EngineError, EngineState, EngineStatus, Report
from pipeline.engines.lease import LeasedEars, LeasedMind, LeasedVoice, Precedence
from pipeline.llm import Prompt
from pipeline.speakers.encoder import Direction
from pipeline.speakers.people import Heard, People, Person
from pipeline.stt import Transcript
from pipeline.tools.calls import ToolCall
from pipeline.tts import Spoken, VoiceChoice
from pipeline.turns.vad import VoiceActivityLike


class Loudness:
    """Speech is whatever is loud."""

    def probability(self, frame: Samples) -> float:
        return 0.99 if float(np.abs(frame).max()) > 0.05 else 0.01

    def reset(self) -> None:
        pass


class _Engine:
    async def start(self, report: Report) -> None:
        pass

    async def stop(self) -> None:
        pass

    @property
    def status(self) -> EngineStatus:
        return EngineStatus("scripted", "ready")


class ScriptedHearing:
    def __init__(self, text: str) -> None:
        self.text = text

    async def feed(self, samples: Samples) -> Transcript | None:
        return Transcript(self.text.split()[0], 0) if self.text else None

    async def finish(self) -> Transcript:
        return Transcript(self.text, len(self.text))

    async def close(self) -> None:
        pass


@dataclass
class ScriptedEars(_Engine):
    text: str = "what is the weather in paris"

    def listen(self) -> ScriptedHearing:
        return ScriptedHearing(self.text)


@dataclass
class ScriptedMind(_Engine):
    text: str = "It is sunny. Shall we go out?"
    error: str = ""
    calls: list[list[ToolCall]] = field(default_factory=list)
    """What each of the next replies asks for."""
    prompts: list[Prompt] = field(default_factory=list)

    async def reply(self, prompt: Prompt) -> AsyncGenerator[str | ToolCall, None]:
        self.prompts.append(prompt)
        if self.error:
            raise EngineError(self.error)
        for word in self.text.split():
            yield word + " "
        for call in self.calls.pop(0) if self.calls else []:
            yield call


@dataclass
class ScriptedVoice(_Engine):
    seconds: float = 0.2
    """Of sound for each clause."""

    def speaker(self) -> ScriptedVoice:
        return self

    async def speak(self, text: str) -> AsyncGenerator[Spoken, None]:
        for _ in range(2):
            yield Spoken(np.full(int(self.seconds * MOUTH_RATE / 2), 0.25, np.float32))

    async def user_said(self, text: str, samples: Samples) -> None:
        pass

    async def close(self) -> None:
        pass


class ScriptedEngines:
    """The face of pipeline.engines.Engines. Nothing is ready before `start`, or while `failing` says why."""

    def __init__(self) -> None:
        self.ears = ScriptedEars()
        self.mind = ScriptedMind()
        self.voice = ScriptedVoice()
        self.precedence = Precedence()
        self.kept: ConversationMemory | None = None
        """The memory; None while it is not open."""
        self.people = People(Path())
        self.hears: Direction | None = None
        """What a voice in a recording is like."""
        self.failing = ""
        self.loading: set[str] = set()
        """Parts that are not ready, while the others are."""
        self.refusing = ""
        """Why `apply` fails."""
        self.applied: list[Settings] = []
        self.rested: list[str] = []
        self.started = False
        self.stopped = False
        self._changed = asyncio.Event()

    async def start(self) -> None:
        self.started = True
        self.change()

    async def stop(self) -> None:
        self.stopped = True

    def change(self) -> None:
        """Something about the engines is different: whoever watches them is told."""
        self._changed.set()
        self._changed = asyncio.Event()

    def busy(self) -> dict[str, int]:
        return {"ears": 0, "mind": 0, "voice": 0}

    async def direction(self, sound: Samples) -> Direction | None:
        return self.hears

    async def learn(self, name: str, heard: Sequence[Heard], today: date) -> Person:
        return self.people.learn(name, heard, today)

    async def forget(self, name: str) -> bool:
        return self.people.forget(name)

    def own_voice(self) -> LeasedVoice:
        return cast(LeasedVoice, self.running("voice"))

    async def voices(self) -> list[VoiceChoice]:
        return [VoiceChoice("en-gb", "British English")]

    async def apply(self, settings: Settings) -> list[str]:
        if self.refusing:
            raise EngineError(self.refusing)
        self.applied.append(settings)
        return ["voice"]

    def differing(self, one: Settings, other: Settings) -> set[str]:
        return {part for part in ("ears", "mind", "voice") if getattr(one, part) != getattr(other, part)}

    async def stand_in(self) -> dict[str, str]:
        return {}

    def stages(self) -> Stages:
        if not self.started or self.failing or self.loading:
            raise EngineError("still loading")
        return Stages(Loudness, self.ears, self.mind, self.voice, self.kept)

    def vad(self) -> VoiceActivityLike:
        return self.stages().vad()

    def running(self, part: Literal["ears", "mind", "voice"]) -> Engine:
        if part in self.loading:
            raise EngineError(f"the {part} is not ready yet")
        if not self.started or self.failing:
            raise EngineError("still loading")
        engines: dict[str, Engine] = {
            "ears": LeasedEars(self.ears, self.precedence),
            "mind": LeasedMind(self.mind, self.precedence),
            "voice": LeasedVoice(self.voice, self.precedence),
        }
        return engines[part]

    @asynccontextmanager
    async def resting(self, part: str) -> AsyncIterator[None]:
        self.rested.append(part)
        yield

    def memory(self) -> ConversationMemory:
        if self.kept is None:
            raise EngineError("The memory is not open yet.")
        return self.kept

    def health(self) -> dict[str, EngineStatus]:
        state: EngineState = "failed" if self.failing else "ready" if self.started else "loading"
        return {stage: EngineStatus("scripted", state, self.failing or None) for stage in ("ears", "mind", "voice")}

    def reloading(self) -> dict[str, EngineStatus]:
        return {}

    async def changes(self) -> AsyncIterator[dict[str, EngineStatus]]:
        while True:
            changed = self._changed
            yield self.health()
            await changed.wait()
