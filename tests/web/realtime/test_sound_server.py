"""The whole server with its sound at a sound card: a real sound server, real engines, the page's own messages."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import websockets

from config.places import ROOT
from tests.support.product import PATIENT
from tests.support.recordings import recording
from tests.support.sound_server import MICROPHONE, SPEAKER, SoundServer, missing, sound_server
from tests.web.realtime.test_protocol import send, the, types, until
from tests.web.test_serve import SCRIPT

QUESTION = recording("weather_question.wav")

pytestmark = [pytest.mark.sound_server, pytest.mark.skipif(bool(missing()), reason=f"not installed: {missing()}")]


@pytest.fixture
def headset() -> Iterator[SoundServer]:
    with sound_server() as server:
        yield server


@pytest.fixture
def url(headset: SoundServer, tmp_path: Path) -> Iterator[str]:
    command = [sys.executable, "-c", SCRIPT, "127.0.0.1", "0", str(tmp_path), ""]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=headset.variables)
    assert process.stdout is not None
    yield process.stdout.readline().split()[3].replace("localhost", "127.0.0.1")
    process.terminate()
    process.communicate()


async def test_a_question_at_the_headset_is_shown_on_the_page_and_answered_at_the_headset(
    url: str, headset: SoundServer
) -> None:
    chosen = {"place": "soundcard", "input": MICROPHONE, "output": SPEAKER}
    async with asyncio.timeout(120), httpx.AsyncClient(base_url=url, timeout=60) as client:
        devices = (await client.get("/api/soundcard/devices")).json()
        assert MICROPHONE in {device["name"] for device in devices["inputs"]}
        assert SPEAKER in {device["name"] for device in devices["outputs"]}
        async with websockets.connect(
            url.replace("http", "ws") + "/v1/realtime?parley=1", max_size=None, **PATIENT
        ) as socket:
            async with asyncio.timeout(90):
                while True:
                    if (await until(socket, "session.created", "parley.engines"))[-1]["type"] == "session.created":
                        break
            assert (await client.put("/api/settings", json={"audio": chosen})).status_code == 200
            await send(socket, "parley.soundcard.start")
            assert (await the(socket, "parley.soundcard"))["running"] is True
            await the(socket, "parley.level")  # the microphone is open
            async with headset.recording() as recording:
                await headset.say(QUESTION)
                events = await until(socket, "parley.turn")
                answer = await recording.until_quiet(0.5)
            await send(socket, "parley.soundcard.stop")
            assert (await the(socket, "parley.soundcard"))["running"] is False
        said = next(event["transcript"] for event in events if event["type"].endswith("transcription.completed"))
        assert {"weather", "paris"} <= set(re.findall(r"\w+", said.lower()))
        assert "response.output_audio.delta" not in types(events)
        reply = next(event for event in events if event["type"] == "parley.reply")
        assert (reply["outcome"], reply["heard"]) == ("completed", reply["text"])
        assert np.sqrt(np.mean(answer**2)) > 0.01
        async with headset.recording() as recording:
            playing = asyncio.create_task(client.post("/api/soundcard/hear", json={"text": "Hello there."}))
            sample = await recording.until_quiet(0.5)
            assert (await playing).json() == {"played": True}
        assert np.abs(sample).max() > 0.05
