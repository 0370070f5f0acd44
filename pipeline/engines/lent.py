"""The running engines as one of several users sees them: their own memory, everything else shared."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import cast

from config.settings import Settings
from pipeline.conversation.stages import Stages
from pipeline.engine import Engine, EngineError, EngineFace, EngineStatus
from pipeline.engines.lease import LeasedVoice
from pipeline.engines.memories import Memories, Owned, OwnersMemory
from pipeline.engines.running import Engines
from pipeline.engines.slot import EnginePlan, Part
from pipeline.tts import ManyVoiced, Speaker, TextToSpeech, VoiceChoice
from pipeline.turns.vad import VoiceActivityLike


class PersonalVoice(EngineFace[LeasedVoice]):
    """The shared voice engine, speaking with the voice that one user chose."""

    def __init__(self, engine: LeasedVoice, name: str) -> None:
        """`name` is one of its voices; empty is the default of users who have chosen none."""
        super().__init__(engine)
        self.name = name

    def speaker(self) -> Speaker:
        return self.engine.talker(self._choose)

    def _choose(self, engine: TextToSpeech) -> Speaker:
        return engine.speaker_of(self.name) if self.name and isinstance(engine, ManyVoiced) else engine.speaker()


class LentEngines(Engines):
    """Starts, changes and stops the user's memory; the lender starts and stops the engines it lends."""

    def __init__(
        self, lender: Engines, memories: Memories, owned: Owned, data: Path, settings: Callable[[], Settings]
    ) -> None:
        """
        Args:
            owned: where the user's memory is.
            data: the folder of the user's other data.
            settings: returns the settings in force for the user.
        """
        self._lender = lender
        self._memories = memories
        self._owned = owned
        self._settings = settings
        self._voice: PersonalVoice | None = None
        super().__init__(Settings(), data)

    def _plans(self, settings: Settings) -> dict[Part, EnginePlan]:
        return {
            "memory": EnginePlan("memory", partial(self._memories.of, self._owned), made_of=self._owned, alone=True)
        }

    async def stand_in(self) -> dict[str, str]:
        return {}

    async def apply(self, settings: Settings) -> list[str]:
        """Raises EngineError: also if the shared engine has no voice of the chosen name."""
        if (name := settings.voice.name) and name != self._settings().voice.name:
            names = [voice.name for voice in await self.voices()]
            if name not in names:
                raise EngineError(f"There is no voice {name[:40]!r}: {_choose(names)}")
        return await super().apply(settings)

    def stages(self) -> Stages:
        lent = self._lender.stages()
        memory = self._slots["memory"].engine
        return replace(
            lent, voice=self._personal(cast(LeasedVoice, lent.voice)), memory=cast("OwnersMemory | None", memory)
        )

    def _personal(self, voice: LeasedVoice) -> PersonalVoice:
        """Return the same voice as long as nothing has changed, so that a conversation keeps its speaker."""
        name = self._settings().voice.name
        if self._voice is None or self._voice.engine is not voice or self._voice.name != name:
            self._voice = PersonalVoice(voice, name)
        return self._voice

    def vad(self) -> VoiceActivityLike:
        return self._lender.vad()

    def running(self, part: Part) -> Engine:
        return super().running(part) if part in self._slots else self._lender.running(part)

    def own_voice(self) -> TextToSpeech:
        return self._personal(cast(LeasedVoice, self.running("voice")))

    def health(self) -> dict[str, EngineStatus]:
        return self._lender.health() | super().health()

    def reloading(self) -> dict[str, EngineStatus]:
        return self._lender.reloading() | super().reloading()

    async def voices(self) -> list[VoiceChoice]:
        return await self._lender.voices()

    async def changes(self) -> AsyncIterator[dict[str, EngineStatus]]:
        """Yield the health now and after each change of either, until one of them stops."""
        lent = cast("AsyncGenerator[object]", self._lender.changes())
        theirs = asyncio.ensure_future(anext(lent))
        try:
            while not self._stopped:
                mine = asyncio.ensure_future(self._change.wait())
                if theirs.done():
                    theirs.result()
                    theirs = asyncio.ensure_future(anext(lent))
                yield self.health()
                await asyncio.wait([mine, theirs], return_when=asyncio.FIRST_COMPLETED)
                mine.cancel()
        except StopAsyncIteration:
            return
        finally:
            theirs.cancel()
            await asyncio.gather(theirs, return_exceptions=True)
            await lent.aclose()


def _choose(names: list[str]) -> str:
    return f"choose one of those listed, such as {names[0]}." if names else "this engine has only one, so choose none."
