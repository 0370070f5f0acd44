"""The memory's pages' side, on a real memory: SQLite and Chroma on disk."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from rag import AsyncMemory
from tests.web.conftest import Running, served
from tests.web.scripted import ScriptedEngines

MONDAY = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
TUESDAY = datetime(2026, 3, 3, 9, 0, tzinfo=UTC)
JSON = {"Content-Type": "application/json"}


class Letters:
    """A text's meaning is how often each letter stands in it: enough where meaning is not what is tested."""

    name = "letters"

    def fingerprint(self) -> str:
        return "letters"

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        counts = np.array([[1 + text.lower().count(chr(97 + letter)) for letter in range(26)] for text in texts])
        vectors: NDArray[np.float32] = (counts / np.linalg.norm(counts, axis=1, keepdims=True)).astype(np.float32)
        return vectors


@pytest.fixture
async def remembering(tmp_path: Path) -> AsyncIterator[Running]:
    memory = await AsyncMemory.open(tmp_path / "memory", embedder=Letters())
    engines = ScriptedEngines()
    engines.kept = memory
    await memory.remember("user", "My dog is called Rufus.", at=MONDAY, conversation="first")
    await memory.remember("assistant", "What a good name.", at=MONDAY, conversation="first")
    await memory.remember("user", "<b>I moved to Paris.</b>", at=TUESDAY, conversation="second")
    async with served(tmp_path, engines) as running:
        yield running
    await memory.close()


@pytest.fixture
async def client(remembering: Running) -> AsyncIterator[httpx.AsyncClient]:
    async with remembering.client(headers=JSON) as client:
        yield client


async def turns(client: httpx.AsyncClient, **query: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await client.get("/api/memory/turns", params=query)).json()["turns"]
    return found


async def texts(client: httpx.AsyncClient, **query: Any) -> list[str]:
    return [turn["text"] for turn in await turns(client, **query)]


async def test_an_overview_and_what_was_said(client: httpx.AsyncClient) -> None:
    overview = (await client.get("/api/memory")).json()
    assert overview["size"]["turns"] == 3
    assert {conversation["id"] for conversation in overview["conversations"]} == {"first", "second"}
    assert overview["paused"] is False
    assert await texts(client, conversation="first") == ["My dog is called Rufus.", "What a good name."]
    assert await texts(client, day="2026-03-03") == ["<b>I moved to Paris.</b>"]
    latest = await turns(client, limit=1)
    assert await texts(client, before=latest[0]["id"], limit=1) == ["What a good name."]
    found = (await client.get("/api/memory/search", params={"q": "Rufus"})).json()["turns"]
    assert [turn["text"] for turn in found] == ["My dog is called Rufus."]
    page = (await client.get("/api/memory/search", params={"q": "a", "limit": 1})).json()
    assert (len(page["turns"]), page["more"]) == (1, True)
    rest = (await client.get("/api/memory/search", params={"q": "a", "offset": 1})).json()
    assert page["turns"][0] not in rest["turns"] and not rest["more"]


async def test_correcting_a_turn(client: httpx.AsyncClient) -> None:
    id = (await turns(client, conversation="first"))[0]["id"]
    assert (await client.put(f"/api/memory/turns/{id}", json={"text": "My dog is called Bruno."})).status_code == 200
    assert (await texts(client, conversation="first"))[0] == "My dog is called Bruno."
    assert (await client.put("/api/memory/turns/nobody", json={"text": "x"})).status_code == 404
    answer = await client.put(f"/api/memory/turns/{id}", json={"text": ""})
    assert (answer.status_code, answer.json()["error"]) == (
        422,
        {"field": "text", "message": "text must not be empty."},
    )


async def test_forgetting_one_turn_a_day_a_conversation_and_everything(client: httpx.AsyncClient) -> None:
    id = (await turns(client, conversation="first"))[0]["id"]
    assert (await client.delete(f"/api/memory/turns/{id}")).json() == {"forgotten": 1}
    assert (await client.delete(f"/api/memory/turns/{id}")).status_code == 404
    assert (await client.delete("/api/memory/conversations/first")).json() == {"forgotten": 1}
    assert (await client.request("DELETE", "/api/memory", json={"everything": False})).status_code == 422
    assert (await client.delete("/api/memory")).status_code == 422
    assert (await client.delete("/api/memory/days/2026-03-03")).json() == {"forgotten": 1}
    assert (await client.delete("/api/memory/days/someday")).status_code == 422
    assert (await client.request("DELETE", "/api/memory", json={"everything": True})).json() == {"forgotten": 0}
    assert await texts(client) == []


async def test_taking_it_away_and_bringing_it_back(client: httpx.AsyncClient) -> None:
    exported = await client.get("/api/memory/export")
    assert "attachment" in exported.headers["content-disposition"]
    lines = [json.loads(line) for line in exported.text.splitlines()]
    assert [line["text"] for line in lines] == await texts(client)
    await client.request("DELETE", "/api/memory", json={"everything": True})
    headers = {"Content-Type": "application/jsonl"}
    assert (await client.post("/api/memory/import", content=exported.content, headers=headers)).json() == {"added": 3}
    assert (await client.post("/api/memory/import", content=exported.content, headers=headers)).json() == {"added": 0}
    assert len(await texts(client)) == 3
    answer = await client.post("/api/memory/import", content=b'{"text": "half', headers=headers)
    assert answer.status_code == 422
    message = answer.json()["error"]["message"]
    assert "the file" in message
    assert "import.jsonl" not in message
    for content in (
        b"[1]",
        b'{"speaker": "user", "at": 5}',
        b'{"speaker": [], "text": "x", "at": "", "conversation": ""}',
    ):
        answer = await client.post("/api/memory/import", content=content, headers=headers)
        message = answer.json()["error"]["message"]
        assert message.startswith("Line 1 of the file is not a turn of memory: it") and "object has no" not in message


async def test_pausing_is_a_setting(client: httpx.AsyncClient, remembering: Running) -> None:
    assert (await client.post("/api/memory/pause", json={"paused": True})).json() == {"paused": True}
    assert remembering.service.settings.memory.enabled is False
    assert (await client.get("/api/memory")).json()["paused"] is True
    assert (await client.post("/api/memory/pause", json={"paused": 5})).status_code == 422


async def test_a_memory_that_is_not_ready_is_a_sentence(running: Running) -> None:
    async with running.client() as client:
        answer = await client.get("/api/memory")
    assert answer.status_code == 503
    assert answer.json()["error"]["message"].endswith(".")


async def test_a_conversation_is_named_until_it_is_forgotten(client: httpx.AsyncClient, remembering: Running) -> None:
    async def names() -> dict[str, str]:
        overview = (await client.get("/api/memory")).json()
        return {each["id"]: each["name"] for each in overview["conversations"]}

    assert (await client.put("/api/conversations/first", json={"name": " Rufus 🐕 "})).json()["name"] == "Rufus 🐕"
    assert await names() == {"first": "Rufus 🐕", "second": ""}
    assert (await client.put("/api/conversations/nobody", json={"name": "x"})).status_code == 404
    assert (await client.put("/api/conversations/first", json={"name": "x" * 101})).status_code == 422
    await client.delete("/api/memory/conversations/first")
    assert await names() == {"second": ""}
    assert "Rufus" not in (remembering.data / "names.json").read_text()


async def test_a_conversation_is_pinned_and_keeps_its_name(client: httpx.AsyncClient, remembering: Running) -> None:
    place = "/api/conversations/first"
    (remembering.data / "names.json").write_text('{"first": "Rufus"}')  # as it was before there were pins
    assert (await client.put(place, json={"pinned": True})).json() == {"name": "Rufus", "pinned": True}
    assert (await client.put(place, json={"name": "My dog"})).json() == {"name": "My dog", "pinned": True}
    conversations = (await client.get("/api/memory")).json()["conversations"]
    assert {each["id"]: each["pinned"] for each in conversations} == {"first": True, "second": False}
    assert (await client.put(place, json={"pinned": "soon"})).status_code == 422
    assert (await client.put(place, json={"name": "", "pinned": False})).json() == {"name": "", "pinned": False}
    assert "first" not in (remembering.data / "names.json").read_text()
