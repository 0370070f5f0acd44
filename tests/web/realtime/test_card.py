"""A page whose sound is at this computer's sound card. The card itself is tested at a real sound server."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from config import Settings
from pipeline.audio.portaudio import SoundCardError
from pipeline.conversation.events import Event, ReplyAudio
from pipeline.ends.soundcard import Hear, Played, Tell
from tests.web.conftest import served
from tests.web.realtime.test_protocol import eventually, send, the, types, until


class ScriptedCard:
    """Hears a second of speech and one of silence, and plays at once whatever it gets."""

    problem = ""

    def __init__(self, microphone: str | None, headset: str | None) -> None:
        assert microphone == "Headset microphone"
        self.samples = 0
        self.arrived = asyncio.Event()

    def follow(self, event: Event) -> None:
        if isinstance(event, ReplyAudio):
            self.samples += len(event.samples)
            self.arrived.set()

    async def run(self, hear: Hear, played: Played, tell: Tell) -> None:
        if self.problem:
            raise SoundCardError(self.problem)
        tell("info", "Listening.")
        hear(np.sin(np.arange(16_000) / 10).astype(np.float32))
        hear(np.zeros(16_000, np.float32))
        while True:
            await self.arrived.wait()
            self.arrived.clear()
            played(self.samples)


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr("web.realtime.card.SoundCard", ScriptedCard)
    monkeypatch.setattr(ScriptedCard, "problem", "")
    settings = Settings(set_up=True)
    settings.audio.place = "soundcard"
    settings.audio.input = "Headset microphone"
    return settings


async def test_the_page_shows_what_the_card_hears_and_plays(tmp_path: Path, settings: Settings) -> None:
    async with served(tmp_path, settings=settings) as running, running.connect("?parley=1") as socket:
        await the(socket, "session.created")
        await send(socket, "parley.soundcard.start")
        assert (await the(socket, "parley.soundcard"))["running"] is True
        events = await until(socket, "parley.turn")
        assert "response.output_audio.delta" not in types(events)
        assert events[-1]["record"]["heard"] == "It is sunny. Shall we go out?"
        await send(socket, "parley.soundcard.stop")
        assert (await the(socket, "parley.soundcard"))["running"] is False


async def test_one_page_at_a_time_has_the_card(tmp_path: Path, settings: Settings) -> None:
    async with (
        served(tmp_path, settings=settings) as running,
        running.connect("?parley=1") as first,
        running.connect("?parley=1") as second,
    ):
        await the(first, "session.created")
        await the(second, "session.created")
        await send(first, "parley.soundcard.start")
        await the(first, "parley.soundcard")
        await send(second, "parley.soundcard.start")
        error = (await the(second, "error"))["error"]
        assert (error["code"], "another page" in error["message"]) == ("soundcard_in_use", True)
        await first.close()
        await eventually(lambda: running.service.conversations == 1)
        await send(second, "parley.soundcard.start")
        assert (await the(second, "parley.soundcard"))["running"] is True


async def test_a_card_that_does_not_work_is_told_and_left(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ScriptedCard, "problem", "Plug in a headset.")
    async with served(tmp_path, settings=settings) as running:
        for _ in range(2):  # the first one's failure does not keep the card from the second
            async with running.connect("?parley=1") as socket:
                await the(socket, "session.created")
                await send(socket, "parley.soundcard.start")
                assert (await the(socket, "parley.soundcard"))["running"] is True
                notice = await the(socket, "parley.notice")
                assert (notice["severity"], notice["text"]) == ("error", "Plug in a headset.")
                assert (await the(socket, "parley.soundcard"))["running"] is False


async def test_the_card_is_for_those_who_chose_it(tmp_path: Path, settings: Settings) -> None:
    settings.audio.place = "browser"
    async with served(tmp_path, settings=settings) as running, running.connect("?parley=1") as socket:
        await the(socket, "session.created")
        await send(socket, "parley.soundcard.start")
        assert (await the(socket, "error"))["error"]["code"] == "soundcard_not_chosen"
