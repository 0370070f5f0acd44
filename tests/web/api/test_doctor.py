"""The doctor as the page has it: verdicts line by line, one examination at a time, and called off by hanging up."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.types import Message

from pipeline.doctor import Begun, Step
from tests.support.no_optional_models import no_optional_models
from tests.web.conftest import Running
from tests.web.scripted import ScriptedVoice
from web.api.doctor import doctor_api

__all__ = ["no_optional_models"]  # used by each test


@pytest.fixture
async def client(running: Running) -> AsyncIterator[httpx.AsyncClient]:
    async with running.client(timeout=120) as client:
        yield client


async def findings(client: httpx.AsyncClient) -> dict[str, Any]:
    answer = await client.post("/api/doctor", json={})
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert lines[0] == {"begun": {"check": "computer", "title": "This computer"}}
    return {line["finding"]["check"]: line["finding"] for line in lines if "finding" in line}


async def test_the_doctor_tells_each_verdict(client: httpx.AsyncClient, running: Running) -> None:
    running.engines.mind.error = "The server is gone: start it."
    found = await findings(client)
    assert (found["ears"]["grade"], found["ears"]["word"]) == ("good", "good")
    assert (found["mind"]["word"], found["mind"]["text"]) == ("does not work", "The server is gone: start it.")


class Endless(ScriptedVoice):
    """Begins to speak, and is let go of when somebody hangs up."""

    def __init__(self) -> None:
        self.begun, self.let_go = asyncio.Event(), asyncio.Event()

    def speaker(self) -> Endless:
        return self

    async def speak(self, text: str) -> Any:
        self.begun.set()
        try:
            await asyncio.Event().wait()
            yield
        finally:
            self.let_go.set()


async def test_one_examination_at_a_time_and_hanging_up_ends_it(client: httpx.AsyncClient, running: Running) -> None:
    voice = running.engines.voice = Endless()
    async with asyncio.timeout(120):
        async with client.stream("POST", "/api/doctor", json={}) as answer:
            lines = answer.aiter_lines()  # kept: one that nobody has any more hangs up
            async for line in lines:
                if "begun" in (step := json.loads(line)) and step["begun"]["check"] == "voice":
                    break
            second = await client.post("/api/doctor", json={})
            assert second.status_code == 409
            assert "in another window" in second.text
            assert not voice.let_go.is_set()
        await voice.let_go.wait()
    running.engines.voice = ScriptedVoice(seconds=1.0)
    assert (await findings(client))["voice"]["grade"] == "good", "there can be another one"


async def test_hanging_up_while_a_line_is_sent_ends_it_too(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    sending, over = asyncio.Event(), asyncio.Event()

    async def steps(*arguments: Any, **options: Any) -> AsyncIterator[Step]:
        try:
            yield Begun("computer", "This computer")
            await asyncio.Event().wait()
        finally:
            over.set()

    async def receive() -> Message:
        await sending.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            sending.set()
            await asyncio.Event().wait()  # the connection takes no more

    monkeypatch.setattr("web.api.doctor.examine", steps)
    app = FastAPI()
    app.include_router(doctor_api(running.service))
    scope = {"type": "http", "method": "POST", "path": "/api/doctor", "query_string": b"", "headers": []}
    async with asyncio.timeout(60):
        await app(scope, receive, send)
    assert over.is_set()


async def test_a_conversation_is_left_its_sound_card(client: httpx.AsyncClient, running: Running) -> None:
    running.service.settings.audio.place = "soundcard"
    running.service.conversations = 1
    found = await findings(client)
    assert found["microphone"]["grade"] == found["speaker"]["grade"] == "skipped"
    assert "close the talk page" in found["microphone"]["text"]
