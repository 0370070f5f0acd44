"""The stock OpenAI SDK as the client."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
from openai import AsyncOpenAI
from openai.resources.realtime.realtime import AsyncRealtimeConnection
from openai.types.realtime import RealtimeServerEvent
from pydantic import TypeAdapter

from config import Settings
from pipeline.engines.running import Engines
from tests.support.recordings import recording
from tests.web.conftest import Running, served
from tests.web.realtime.test_protocol import LOUD, SILENCE

SERVER_EVENT: TypeAdapter[Any] = TypeAdapter(RealtimeServerEvent)


@asynccontextmanager
async def connected(running: Running, token: str = "none") -> AsyncIterator[AsyncRealtimeConnection]:
    async with (
        AsyncOpenAI(base_url=f"{running.url}/v1", api_key=token) as client,
        client.realtime.connect(model="parley") as connection,
    ):
        yield connection


async def say(connection: AsyncRealtimeConnection, sound: np.ndarray) -> None:
    """As a microphone would, in blocks of 40 ms, though faster."""
    for start in range(0, len(sound), 960):
        block = base64.b64encode(sound[start : start + 960].tobytes()).decode()
        await connection.input_audio_buffer.append(audio=block)
        await asyncio.sleep(0)


async def collect(connection: AsyncRealtimeConnection, last: str, limit: float = 60) -> list[Any]:
    """Events up to the one of this type, each as it came and checked against the SDK's own definitions."""
    events: list[Any] = []
    async with asyncio.timeout(limit):
        while not events or events[-1].type != last:
            raw = await connection.recv_bytes()
            SERVER_EVENT.validate_python(json.loads(raw))  # the SDK itself builds events without checking them
            events.append(connection.parse_event(raw))
            assert events[-1].type == json.loads(raw)["type"]
    return events


async def test_every_event_of_a_session_is_one_of_the_sdks(running: Running) -> None:
    async with connected(running) as connection:
        await connection.session.update(
            session={
                "type": "realtime",
                "instructions": "Be brief.",
                "output_modalities": ["audio"],
                "audio": {
                    "input": {
                        "format": {"type": "audio/pcm", "rate": 24000},
                        "transcription": {"model": "whisper-1"},
                        "turn_detection": {"type": "server_vad", "silence_duration_ms": 300, "threshold": 0.6},
                    },
                    "output": {"format": {"type": "audio/pcm", "rate": 24000}, "voice": "marin"},
                },
            }
        )
        updated = (await collect(connection, "session.updated"))[-1]
        assert updated.session.audio.input.turn_detection.silence_duration_ms == 300
        assert updated.session.audio.output.voice == "espeak"
        await say(connection, np.concatenate([LOUD, SILENCE]))
        done = (await collect(connection, "response.done"))[-1]
        assert done.response.status == "completed"
        assert done.response.output[0].content[0].transcript == "It is sunny. Shall we go out?"
        await connection.conversation.item.create(
            item={"type": "message", "role": "user", "content": [{"type": "input_text", "text": "And tomorrow?"}]}
        )
        await connection.response.create()
        done = (await collect(connection, "response.done"))[-1]
        reply = done.response.output[0].id
        await connection.conversation.item.truncate(item_id=reply, content_index=0, audio_end_ms=50)
        await collect(connection, "conversation.item.truncated")
        await connection.conversation.item.retrieve(item_id=reply)
        await collect(connection, "conversation.item.retrieved")
        await connection.conversation.item.delete(item_id=reply)
        await collect(connection, "conversation.item.deleted")
        await connection.input_audio_buffer.clear()
        await collect(connection, "input_audio_buffer.cleared")
        await connection.response.cancel(event_id="mine")
        error = (await collect(connection, "error"))[-1]
        assert (error.error.event_id, error.error.code) == ("mine", "response_cancel_not_active")
    assert running.engines.mind.prompts[0].persona == "Be brief."


async def test_the_api_key_is_the_token(tmp_path: Path) -> None:
    token = "a-token-of-more-than-thirty-two-characters"
    async with served(tmp_path, token=token) as running:
        async with connected(running, token) as connection:
            await collect(connection, "session.created")
        with pytest.raises(Exception, match="401"):
            async with connected(running, "wrong"):
                pass


@pytest.fixture
def question() -> np.ndarray:
    samples, rate = soundfile.read(recording("weather_question.wav"), dtype="float32")
    mono = samples if samples.ndim == 1 else samples.mean(axis=1)
    sound = soxr.resample(mono, rate, 24_000)
    return np.concatenate([(sound * 32767).astype("<i2"), np.zeros(48_000, "<i2")])


async def test_a_spoken_conversation_with_the_engines_that_need_no_download(
    tmp_path: Path, question: np.ndarray
) -> None:
    settings = Settings(set_up=True)
    async with served(tmp_path, Engines(settings, tmp_path), settings) as running, connected(running) as connection:
        await collect(connection, "session.created", 120)
        await say(connection, question)
        events = await collect(connection, "response.done", 60)
    said = next(event.transcript for event in events if event.type.endswith("input_audio_transcription.completed"))
    assert {"weather", "paris"} <= set(re.findall(r"\w+", said.lower()))
    reply = events[-1].response.output[0].content[0].transcript
    sound = b"".join(base64.b64decode(event.delta) for event in events if event.type == "response.output_audio.delta")
    samples = np.frombuffer(sound, "<i2").astype(np.float64) / 32768
    assert "weather" in reply.lower() or "paris" in reply.lower() or len(reply.split()) > 3
    assert len(samples) > 24_000 * 0.1 * len(reply.split())  # nobody speaks ten words a second
    assert np.sqrt(np.mean(samples**2)) > 0.01
