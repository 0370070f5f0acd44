"""A household at one microphone, with the real engines of the offline profile and the real voice encoder."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from config import Settings
from config.settings import MemorySettings
from pipeline.conversation.conversation import Conversation
from pipeline.ends.file import hold, read_sound
from pipeline.engines.running import Engines
from pipeline.speakers.people import Heard
from tests.support.recordings import recording

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]  # 17 MB of weights, fetched where they are not there


async def test_who_is_known_is_remembered_under_their_name_and_a_guest_is_not(tmp_path: Path) -> None:
    settings = Settings(memory=MemorySettings(people=True))
    engines = Engines(settings, tmp_path)
    try:
        await engines.start()
        assert {part: each.state for part, each in engines.health().items()}["speakers"] == "ready"
        for name, file in (("Ben", "jfk.flac"), ("Anna", "austen_0870.wav")):
            direction = await engines.direction(read_sound(recording(file)))
            assert direction is not None
            await engines.learn(name, [Heard(direction, 7.0)], date.today())
        async with Conversation(engines.stages(), settings, name="household") as conversation:
            await hold(
                conversation, [read_sound(recording(name)) for name in ("austen_0890.wav", "weather_question.wav")]
            )
        kept = await engines.memory().turns(conversation="household")
    finally:
        await engines.stop()
    speakers = [turn.speaker for turn in kept]
    assert speakers[0] == "Anna" and set(speakers) == {"Anna", "assistant"}, kept
    assert not any("weather" in turn.text.lower() or "Paris" in turn.text for turn in kept if turn.speaker == "Anna")
