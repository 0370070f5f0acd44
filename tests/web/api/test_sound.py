"""Trying the sound: what is asked for is made and played, and no longer than somebody waits for it."""

from __future__ import annotations

import asyncio
import io
import wave

import pytest

from pipeline.audio.portaudio import SoundCardError
from tests.web.api.test_doctor import Endless
from tests.web.conftest import Running


async def test_the_voice_is_heard_as_a_wav_file(running: Running) -> None:
    async with running.client() as client:
        answer = await client.post("/api/voice/hear", json={"text": "Yes."})
    assert answer.headers["content-type"] == "audio/wav"
    with wave.open(io.BytesIO(answer.content)) as sound:
        assert (sound.getframerate(), sound.getnchannels()) == (24_000, 1)
        assert sound.getnframes() > 0


async def test_without_a_sound_card_it_is_said(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    async def none(headset: str | None, *sound: object) -> None:
        raise SoundCardError("This computer has no sound output: plug in a headset.")

    monkeypatch.setattr("web.api.sound.play_tone", none)
    monkeypatch.setattr("web.api.sound.play", none)
    async with running.client() as client:
        for path in ("test", "hear"):
            answer = await client.post(f"/api/soundcard/{path}", json={})
            assert answer.status_code == 503
            told = answer.json()["error"]
            assert (told["message"], told["field"]) == (
                "This computer has no sound output: plug in a headset.",
                "audio.output",
            )


@pytest.mark.parametrize("path", ["/api/soundcard/test", "/api/soundcard/hear"])
async def test_who_presses_stop_hears_no_more(running: Running, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    begun, over = asyncio.Event(), asyncio.Event()

    async def play(headset: str | None, *sound: object) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            over.set()

    monkeypatch.setattr("web.api.sound.play_tone", play)
    monkeypatch.setattr("web.api.sound.play", play)
    async with asyncio.timeout(60), running.client() as client:
        asking = asyncio.create_task(client.post(path, json={}))
        await begun.wait()
        assert not over.is_set()
        asking.cancel()
        await over.wait()


async def test_a_voice_that_is_no_longer_waited_for_makes_no_more(running: Running) -> None:
    voice = running.engines.voice = Endless()
    async with asyncio.timeout(60), running.client() as client:
        asking = asyncio.create_task(client.post("/api/voice/hear", json={}))
        await voice.begun.wait()
        asking.cancel()
        await voice.let_go.wait()
