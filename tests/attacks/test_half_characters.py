"""Half characters, as "\ud800" in JSON: whichever door they come in by, everything goes on in whole ones."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from config import Settings, SettingsStore
from config.text import parsed, whole_characters
from tests.web.api.test_memory import remembering
from tests.web.conftest import Running
from tests.web.realtime.test_protocol import send, the

__all__ = ["remembering"]

HALF = "a\ud800b"
WHOLE = "a\N{REPLACEMENT CHARACTER}b"
JSON = {"Content-Type": "application/json"}


def test_pairs_become_characters_and_halves_a_sign() -> None:
    assert whole_characters(HALF) == WHOLE
    assert whole_characters("\ud83d\ude00") == "\N{GRINNING FACE}"
    assert parsed(rb'{"x\udfff": ["\ud83d\ude00", {"y": "\ud800"}], "z": 1}') == {
        "x\N{REPLACEMENT CHARACTER}": ["\N{GRINNING FACE}", {"y": "\N{REPLACEMENT CHARACTER}"}],
        "z": 1,
    }


def test_what_is_nested_too_deeply_is_no_json() -> None:
    with pytest.raises(ValueError):
        parsed("[" * 100_000)


async def test_in_a_clients_event_and_in_a_typed_message(running: Running) -> None:
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": HALF}]}
    async with running.connect() as socket:
        await the(socket, "session.created")
        await socket.send(json.dumps({"type": f"no.{HALF}", "event_id": HALF}))
        assert (await the(socket, "error"))["error"]["event_id"] == WHOLE
        await send(socket, "conversation.item.create", item=item)
        added = await the(socket, "conversation.item.added")
        assert added["item"]["content"][0]["text"] == WHOLE
        await send(socket, "response.create")
        await the(socket, "response.done")


async def test_in_a_setting(running: Running) -> None:
    body = json.dumps({"mind": {"persona": HALF}})
    async with running.client() as client:
        answer = await client.put("/api/settings", content=body, headers=JSON)
        assert answer.status_code == 200, answer.text
        assert (await client.get("/api/settings")).json()["settings"]["mind"]["persona"] == WHOLE
        assert (await client.get("/health")).status_code == 200
    assert SettingsStore(running.data).load().settings.mind.persona == WHOLE


def test_in_the_file_of_settings(tmp_path: Path) -> None:
    store = SettingsStore(tmp_path)
    store.save(Settings(profile="cpu"))
    tree = json.loads(store.path.read_text(encoding="utf-8"))
    tree["mind"]["persona"] = HALF
    store.path.write_text(json.dumps(tree))
    loaded = store.load()
    assert (loaded.settings.profile, loaded.settings.mind.persona, loaded.notice) == ("cpu", WHOLE, None)


@pytest.fixture
async def client(remembering: Running) -> AsyncIterator[httpx.AsyncClient]:
    async with remembering.client() as client:
        yield client


async def test_in_an_imported_memory_whose_conversations_have_odd_names(client: httpx.AsyncClient) -> None:
    at = "2026-11-20T12:00:00+00:00"
    names = ["a/b", "", HALF, "../c", "..", "."]
    lines = [{"id": f"i/{number}", "speaker": "user", "text": HALF, "at": at, "conversation": name}
             for number, name in enumerate(names)]  # fmt: skip
    lines.append({"id": HALF, "speaker": "user", "text": "x", "at": at, "conversation": "d"})
    body = "\n".join(json.dumps(line) for line in lines)
    headers = {"Content-Type": "application/jsonl"}
    assert (await client.post("/api/memory/import", content=body, headers=headers)).json() == {"added": len(lines)}
    for name in ["a%2Fb", "a%3Fb", "..%2Fc", "d", "imported%20.."]:
        zipped = await client.get(f"/api/conversations/{name}/export")
        assert zipped.status_code == 200, name
        assert {"transcript.txt", "turns.jsonl"} == set(zipfile.ZipFile(io.BytesIO(zipped.content)).namelist())
    for name in ["a%2Fb", "", "a%3Fb", "..%2Fc", "d", "imported%20..", "imported%20."]:
        answer = await client.delete(f"/api/memory/conversations/{name}", headers=JSON)
        assert answer.json() == {"forgotten": 1}, name
