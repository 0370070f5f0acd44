"""People's voices by the API: learnt from a recording that is not kept, told, deleted like words."""

from __future__ import annotations

import base64
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile

from rag import AsyncMemory
from tests.support.scene import voice_direction
from tests.web.api.test_memory import JSON, Letters
from tests.web.conftest import Running, served
from tests.web.scripted import ScriptedEngines


def spoken(seconds: float = 8.0) -> str:
    file = io.BytesIO()
    soundfile.write(file, 0.1 * np.sin(np.arange(round(seconds * 24_000)) / 20), 24_000, format="WAV")
    return base64.b64encode(file.getvalue()).decode()


@pytest.fixture
async def household(tmp_path: Path) -> AsyncIterator[Running]:
    engines = ScriptedEngines()
    engines.kept = memory = await AsyncMemory.open(tmp_path / "memory", embedder=Letters())
    async with served(tmp_path, engines) as running:
        yield running
    await memory.close()


async def introduce(household: Running, named: str, **changes: Any) -> httpx.Response:
    household.engines.hears = voice_direction(named)
    async with household.client(headers=JSON) as client:
        return await client.post("/api/people", json={"name": named, "agreed": True, "data": spoken()} | changes)


async def people(household: Running) -> list[tuple[str, bool]]:
    async with household.client() as client:
        return [(each["name"], each["owner"]) for each in (await client.get("/api/people")).json()["people"]]


async def test_the_first_is_the_owner_and_no_sound_is_kept(household: Running) -> None:
    for name in ("Ben", "Zoë van Dijk"):
        assert (await introduce(household, name)).status_code == 200
    assert await people(household) == [("Ben", True), ("Zoë van Dijk", False)]
    assert [person.speaker for person in household.engines.people.all()] == ["user", "Zoë van Dijk"]
    kept = {file.name for file in household.data.rglob("*") if file.suffix in {".wav", ".flac", ".s16"}}
    assert not kept
    assert "Zoë" in (household.data / "people.json").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"agreed": False}, "agreed"),
        ({"name": "Guest"}, "for someone else"),
        ({"name": "user"}, "for someone else"),
        ({"name": "../Ben"}, "name"),
        ({"data": spoken(3.0)}, "a little longer"),
        ({"data": "x"}, "damaged"),
    ],
)
async def test_what_cannot_be_learnt_is_said(household: Running, changes: dict[str, Any], words: str) -> None:
    answer = await introduce(household, "Ben", **changes)
    assert answer.status_code == 422
    assert words in answer.json()["error"]["message"]
    assert not household.engines.people.all()


async def test_silence_teaches_no_voice(household: Running) -> None:
    household.engines.hears = None
    async with household.client(headers=JSON) as client:
        answer = await client.post("/api/people", json={"name": "Ben", "agreed": True, "data": spoken()})
    assert (answer.status_code, "Nothing was heard" in answer.text) == (422, True)


async def test_a_voice_is_deleted_by_itself_and_with_everything(household: Running) -> None:
    for name in ("Ben", "Anna", "Carla"):
        await introduce(household, name)
    file = household.data / "people.json"
    async with household.client(headers=JSON) as client:
        assert (await client.delete("/api/people/Anna")).status_code == 200
        assert (await client.delete("/api/people/Anna")).status_code == 404
        assert await people(household) == [("Ben", True), ("Carla", False)]
        assert "Anna" not in file.read_text(encoding="utf-8")
        await client.request("DELETE", "/api/memory", json={"everything": True})
    assert await people(household) == []
    assert not file.exists()
