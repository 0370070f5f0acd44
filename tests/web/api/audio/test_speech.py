"""`/v1/audio/speech`: what clients ask for, what they get, and what becomes of those who leave."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from pipeline.audio import MOUTH_RATE, Samples
from pipeline.audio.encode import FORMATS
from pipeline.audio.pcm import from_pcm16
from pipeline.engine import EngineError
from pipeline.tts import Spoken
from tests.web.api.audio.conftest import TOKEN
from tests.web.conftest import Running, served
from tests.web.scripted import ScriptedEngines, ScriptedVoice
from web.api.audio.queue import SPEAKING, WAITING

SPEECH = "/v1/audio/speech"


def error(answer: httpx.Response) -> dict[str, Any]:
    """In OpenAI's shape."""
    body: dict[str, Any] = answer.json()["error"]
    assert set(body) == {"message", "type", "param", "code"}
    assert body["message"]
    return body


@pytest.mark.parametrize("path", [SPEECH, "/audio/speech"])
async def test_pcm_is_the_sound_of_every_clause_once(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.post(
        path, json={"model": "any", "input": "It is warm. It is sunny.", "response_format": "pcm"}
    )
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "audio/pcm"
    assert len(from_pcm16(answer.content)) == 2 * 0.2 * MOUTH_RATE


@pytest.mark.parametrize("format", FORMATS)
async def test_each_format_has_its_media_type(client: httpx.AsyncClient, format: str) -> None:
    answer = await client.post(SPEECH, json={"input": "It is warm.", "response_format": format, "voice": "alloy"})
    assert answer.status_code == 200 and answer.content
    assert answer.headers["content-type"] == FORMATS[format].media_type
    assert "content-length" not in answer.headers


async def test_mp3_is_what_one_gets_who_does_not_say(client: httpx.AsyncClient) -> None:
    answer = await client.post(SPEECH, json={"input": "It is warm.", "voice": {"id": "parley"}, "unknown": 1})
    assert answer.headers["content-type"] == "audio/mpeg"


async def test_events_carry_the_same_sound(client: httpx.AsyncClient) -> None:
    asked = {"input": "It is warm. It is sunny.", "response_format": "pcm", "stream_format": "sse"}
    answer = await client.post(SPEECH, json=asked)
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]
    assert [event["type"] for event in events[-2:]] == ["speech.audio.delta", "speech.audio.done"]
    assert set(events[-1]["usage"]) == {"input_tokens", "output_tokens", "total_tokens"}
    sound = b"".join(base64.b64decode(event["audio"]) for event in events[:-1])
    assert len(from_pcm16(sound)) == 2 * 0.2 * MOUTH_RATE


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({}, "input"),
        ({"input": ""}, "input"),
        ({"input": " \n "}, "input"),
        ({"input": "… 😀 ***"}, "input"),
        ({"input": "a" * 10_001}, "input"),
        ({"input": 5}, "input"),
        ({"input": "Hi.", "speed": 0}, "speed"),
        ({"input": "Hi.", "speed": 100}, "speed"),
        ({"input": "Hi.", "speed": "fast"}, "speed"),
        ({"input": "Hi.", "response_format": "midi"}, "response_format"),
        ({"input": "Hi.", "stream_format": "carrier pigeon"}, "stream_format"),
        ({"input": "Hi.", "voice": "nobody"}, "voice"),
        ({"input": "Hi.", "voice": "af_heart"}, "voice"),
        ({"input": "Hi.", "voice": {"id": "voice_0000000000000000"}}, "voice"),
    ],
)
async def test_what_is_wrong_is_told_by_its_name(client: httpx.AsyncClient, asked: dict[str, Any], param: str) -> None:
    answer = await client.post(SPEECH, json=asked)
    assert answer.status_code == 400
    assert error(answer)["param"] == param


async def test_a_megabyte_is_refused_before_it_is_read(client: httpx.AsyncClient) -> None:
    answer = await client.post(SPEECH, json={"input": "a" * (1 << 20)})
    assert answer.status_code == 413
    assert error(answer)["type"] == "invalid_request_error"


async def test_what_is_no_json_is_refused(client: httpx.AsyncClient) -> None:
    for body in (b"{", b"[]", b"[" * 100_000):
        answer = await client.post(SPEECH, content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 400
        error(answer)
    assert (await client.post(SPEECH, data={"input": "Hi."})).status_code == 415


async def test_a_foreign_page_cannot_have_anything_said(running: Running, client: httpx.AsyncClient) -> None:
    for headers in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        answer = await client.post(SPEECH, json={"input": "Hi."}, headers=headers)
        assert answer.status_code == 403
        error(answer)


async def test_where_a_token_is_needed_it_comes_as_the_key(guarded: Running) -> None:
    async with guarded.client() as client:
        refused = await client.post(SPEECH, json={"input": "Hi."})
        assert refused.status_code == 401
        assert error(refused)["type"] == "authentication_error"
        headers = {"Authorization": f"Bearer {TOKEN}"}
        assert (await client.post(SPEECH, json={"input": "Hi."}, headers=headers)).status_code == 200


async def test_while_the_voice_loads_one_is_told_when_to_come_again(
    running: Running, client: httpx.AsyncClient
) -> None:
    running.engines.loading.add("voice")
    answer = await client.post(SPEECH, json={"input": "Hi."})
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    assert error(answer)["type"] == "server_error"


class Slow(ScriptedVoice):
    """Speaks until it is let go on or left."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = self.left = 0
        self.go = asyncio.Event()
        self.changed = asyncio.Condition()

    async def speak(self, text: str) -> AsyncGenerator[Spoken, None]:
        await self._count("begun")
        try:
            yield Spoken(np.full(4800, 0.25, np.float32))
            await self.go.wait()
            yield Spoken(np.full(4800, 0.25, np.float32))
        finally:
            await self._count("left")

    async def _count(self, what: str) -> None:
        async with self.changed:
            setattr(self, what, getattr(self, what) + 1)
            self.changed.notify_all()

    async def until(self, what: str, count: int) -> None:
        async with self.changed:
            await self.changed.wait_for(lambda: getattr(self, what) >= count)


@pytest.fixture
def slow() -> tuple[ScriptedEngines, Slow]:
    engines, voice = ScriptedEngines(), Slow()
    engines.voice = voice
    return engines, voice


async def test_sound_leaves_before_the_rest_is_made(slow: tuple[ScriptedEngines, Slow], tmp_path: Path) -> None:
    engines, voice = slow
    async with served(tmp_path, engines) as server, server.client() as client:
        asked = {"input": "Hello.", "response_format": "pcm"}
        async with client.stream("POST", SPEECH, json=asked) as answer:
            pieces = answer.aiter_bytes()
            assert len(await anext(pieces)) > 1000
            assert not voice.go.is_set()
            voice.go.set()
            assert sum([len(piece) async for piece in pieces]) > 1000


async def test_who_leaves_stops_the_voice(slow: tuple[ScriptedEngines, Slow], tmp_path: Path) -> None:
    engines, voice = slow
    async with served(tmp_path, engines) as server, server.client() as client:
        async with client.stream("POST", SPEECH, json={"input": "Hello.", "response_format": "pcm"}) as answer:
            await anext(answer.aiter_bytes())
        await voice.until("left", 1)


async def test_of_a_hundred_at_once_those_who_are_too_many_are_told_when_to_come_again(
    slow: tuple[ScriptedEngines, Slow], tmp_path: Path
) -> None:
    engines, voice = slow
    async with served(tmp_path, engines) as server:
        limits = httpx.Limits(max_connections=None)
        async with server.client(limits=limits, timeout=60) as client:
            asked = {"input": "Hello.", "response_format": "pcm"}
            asking = [asyncio.create_task(client.post(SPEECH, json=asked)) for _ in range(100)]
            await voice.until("begun", SPEAKING)
            for done in asyncio.as_completed(asking):
                answer = await done
                if answer.status_code == 429:
                    assert int(answer.headers["retry-after"]) > 0
                    assert error(answer)["type"] == "rate_limit_error"
                if sum(task.done() for task in asking) >= 100 - SPEAKING - WAITING:
                    voice.go.set()
            counts = [task.result().status_code for task in asking]
    assert counts.count(200) == SPEAKING + WAITING
    assert counts.count(429) == 100 - SPEAKING - WAITING


class Mute(ScriptedVoice):
    """Says nothing, the first times that it is asked."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    async def speak(self, text: str) -> AsyncGenerator[Spoken, None]:
        self.times -= 1
        if self.times < 0:
            yield Spoken(np.full(2400, 0.25, np.float32))


@pytest.mark.parametrize(("times", "status"), [(1, 200), (2, 503)])
async def test_what_came_out_empty_is_tried_once_more(tmp_path: Path, times: int, status: int) -> None:
    engines = ScriptedEngines()
    engines.voice = Mute(times)
    async with served(tmp_path, engines) as server, server.client() as client:
        assert (await client.post(SPEECH, json={"input": "Hello."})).status_code == status


class Broken(ScriptedVoice):
    """Dies behind its first sound, or before it."""

    def __init__(self, begins: bool) -> None:
        super().__init__()
        self.begins = begins

    async def speak(self, text: str) -> AsyncGenerator[Spoken, None]:
        if self.begins:
            yield Spoken(np.full(2400, 0.25, np.float32))
        raise EngineError("The voice stopped unexpectedly.")


async def test_a_voice_that_dies_is_an_error_and_never_a_whole_answer(tmp_path: Path) -> None:
    engines = ScriptedEngines()
    async with served(tmp_path, engines) as server, server.client() as client:
        engines.voice = Broken(begins=False)
        answer = await client.post(SPEECH, json={"input": "Hello."})
        assert answer.status_code == 503
        assert error(answer)["message"] == "The voice stopped unexpectedly."
        engines.voice = Broken(begins=True)
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post(SPEECH, json={"input": "Hello."})
        asked = {"input": "Hello.", "stream_format": "sse", "response_format": "pcm"}
        last = json.loads((await client.post(SPEECH, json=asked)).text.strip().splitlines()[-1][6:])
        assert last["type"] == "error" and last["error"]["message"] == "The voice stopped unexpectedly."


async def test_a_reply_of_a_talk_comes_first(running: Running, client: httpx.AsyncClient) -> None:
    """While one is being made nothing is read aloud, and afterwards it is."""
    with running.engines.precedence.replying():
        asking = asyncio.create_task(client.post(SPEECH, json={"input": "Hello.", "response_format": "pcm"}))
        assert await client.get("/health")
        assert await client.get("/v1/models")
        assert not asking.done()
    assert (await asking).status_code == 200


async def test_samples_are_heard_at_the_speed_that_was_asked_for(client: httpx.AsyncClient) -> None:
    asked = {"input": "It is warm. It is sunny.", "response_format": "pcm", "speed": 2}
    sound: Samples = from_pcm16((await client.post(SPEECH, json=asked)).content)
    assert 0.2 * MOUTH_RATE <= len(sound) < 0.3 * MOUTH_RATE
