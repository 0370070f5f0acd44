"""The running engines as one of several users has them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

from config import Settings
from pipeline.engine import EngineError
from pipeline.engines.lease import LeasedVoice
from pipeline.engines.lent import LentEngines, PersonalVoice
from pipeline.engines.memories import Owned
from pipeline.tts import Speaker
from tests.web.gateway.conftest import QuickMemories, ScriptedLender
from tests.web.scripted import ScriptedVoice


class ManyVoices(ScriptedVoice):
    """Its speakers are known by their names."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    async def voices(self) -> list[Any]:
        return []

    def speaker(self) -> ScriptedVoice:
        self.asked.append("")
        return self

    def speaker_of(self, voice: str) -> Speaker:
        self.asked.append(voice)
        return self


@pytest.mark.parametrize("name", ["", "en-gb"])
async def test_a_user_speaks_with_their_own_voice_of_the_engine_that_all_share(name: str) -> None:
    engine = ManyVoices()
    leased = LeasedVoice(engine)
    speaker = PersonalVoice(leased, name).speaker()
    assert engine.asked == [name]
    assert not leased.idle, "an engine that is to be replaced waits for it"
    await speaker.close()
    assert leased.idle


async def test_a_voice_engine_with_one_voice_has_that_for_all() -> None:
    leased = LeasedVoice(ScriptedVoice())
    await PersonalVoice(leased, "en-gb").speaker().close()
    assert leased.idle


async def test_only_the_memory_is_one_s_own(tmp_path: Path) -> None:
    lender, settings = ScriptedLender(), Settings()
    mine = LentEngines(
        cast(Any, lender), cast(Any, QuickMemories()), Owned(tmp_path, "anna"), tmp_path, lambda: settings
    )
    with pytest.raises(EngineError):
        mine.stages()
    changes = mine.changes()
    assert (await anext(changes))["memory"].state == "stopped"
    await mine.start()
    async for health in changes:  # of its own
        if health["memory"].state == "ready":
            break
    assert not lender.started
    await lender.start(without=("memory",))
    async for health in changes:  # and of the lender's
        if health["ears"].state == "ready":
            break
    stages = mine.stages()
    assert stages.memory is mine.memory()
    assert stages.ears is lender.stages().ears
    assert mine.stages().voice is stages.voice, "a conversation keeps its speaker while nothing changes"
    settings.voice.name = "en-gb"
    assert mine.stages().voice is not stages.voice
    assert await mine.apply(settings) == []
    assert cast(object, mine.running("memory")) is stages.memory
    await mine.stop()
    assert not lender.stopped
    async with asyncio.timeout(60):
        assert [health async for health in changes] == []
