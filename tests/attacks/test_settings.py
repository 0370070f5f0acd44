"""Settings that cannot be put to use, and servers that take a question and never answer it.

A refused setting is answered in a sentence, is not on disk, and leaves the old ones in force; a change that waits for a
server holds up no other; a start always ends in a talk.
"""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from config import Settings, SettingsStore
from config.store import Staged
from pipeline.engine import Report
from pipeline.engines import running as running_set
from pipeline.engines.running import Engines
from tests.pipeline.engines.scripted_engines import Script, ScriptedEngine
from tests.pipeline.engines.test_engines import settings, until
from tests.web.api.test_setup import add, recording
from tests.web.conftest import Running, served
from tests.web.realtime.test_protocol import send, the
from tests.web.scripted import ScriptedEngines
from web.service import Service

REFUSED = [
    ({"mind": {"api_key": "sk\N{EN DASH}1234"}}, "mind.api_key"),
    ({"mind": {"api_key": "sk\n1234"}}, "mind.api_key"),
    ({"mind": {"url": "http://[::1"}}, "mind.url"),
    ({"mind": {"url": "http://localhost:99999999/v1"}}, "mind.url"),
    ({"mind": {"url": "localhost:11434"}}, "mind.url"),
    ({"mind": {"url": "file:///etc/passwd"}}, "mind.url"),
    ({"ears": {"engine": "whisper", "model": "x" * 5000}}, "ears.model"),
    ({"mind": {"engine": "transformers", "model": "a\0/b"}}, "mind.model"),
    ({"voice": {"engine": "v" * 5000}}, "voice.engine"),
]


@pytest.mark.parametrize(("changes", "field"), REFUSED, ids=lambda value: str(value)[:40])
@pytest.mark.parametrize("door", ["put", "import"])
async def test_what_could_never_be_used_is_refused_at_each_door(
    running: Running, door: str, changes: dict[str, Any], field: str
) -> None:
    SettingsStore(running.data).save(running.service.settings)
    before = (running.data / "settings.json").read_bytes()
    async with running.client() as client:
        ask = client.put if door == "put" else client.post
        answer = await ask("/api/settings" if door == "put" else "/api/settings/import", json=changes)
    assert answer.status_code == 422, answer.text
    error = answer.json()["error"]
    assert (error["field"], error["message"].endswith(".")) == (field, True)
    assert len(error["message"]) < 300
    assert (running.data / "settings.json").read_bytes() == before
    assert not running.engines.applied


async def test_a_change_that_is_replaced_while_it_is_written_leaves_no_file_with_its_keys(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = running.service.store
    entered, go_on, written = threading.Event(), threading.Event(), threading.Event()
    stage = store.stage

    def slow(settings: Settings) -> Staged:
        entered.set()
        assert go_on.wait(60)
        try:
            return stage(settings)
        finally:
            written.set()

    monkeypatch.setattr(store, "stage", slow)
    changing = asyncio.create_task(running.service.change(lambda settings: settings))
    await asyncio.to_thread(entered.wait, 60)
    (attempt,) = running.service._attempts
    changing.cancel()
    await asyncio.wait([changing])
    go_on.set()
    await asyncio.to_thread(written.wait, 60)
    await asyncio.wait([attempt.task])
    assert not [*running.data.glob(".settings-*")]


async def test_an_engine_that_breaks_is_a_sentence_and_changes_nothing(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(settings: Settings) -> list[str]:
        raise UnicodeEncodeError("ascii", "\N{EN DASH}", 0, 1, "ordinal not in range")

    monkeypatch.setattr(running.engines, "apply", broken)
    async with running.client() as client:
        answer = await client.put("/api/settings", json={"voice": {"pitch": 30}})
    assert answer.status_code == 409
    assert answer.json()["error"]["message"].endswith(".")
    assert running.service.settings.voice.pitch == 50
    assert not (running.data / "settings.json").exists()
    assert not list(running.data.glob(".settings-*"))


# --- the engines themselves ------------------------------------------------------------------------------------------


async def test_a_stage_that_breaks_says_why(
    script: Script,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def start(engine: ScriptedEngine, report: Report) -> None:
        if engine.name == "mind-1":
            raise ValueError("Invalid IPv6 URL")

    monkeypatch.setattr(ScriptedEngine, "start", start)
    engines = Engines(settings(), tmp_path)
    await engines.start()
    assert engines.health()["mind"].state == "failed"
    assert engines.health()["mind"].last_error == "The mind (mind-1) could not be started: Invalid IPv6 URL."
    await engines.stop()


async def test_a_start_ends_in_a_talk(
    script: Script,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(running_set, "STAND_INS", {"ears": "ears-2", "mind": "mind-2", "voice": "voice-2"})
    script.failing |= {"mind-1": "Its server is not running.", "voice-1": "Its model is damaged."}
    service = Service(Engines(settings(), tmp_path), SettingsStore(tmp_path), tmp_path, settings())
    service.begin()
    await until(lambda: len(service.notices) == 2)
    service.engines.stages()  # raises unless each stage runs
    assert "mind: Its server is not running. mind-2 is used until then." in [n.text for n in service.notices]
    mind = service.engines.health()["mind"]
    assert (mind.engine, mind.state, mind.last_error) == ("mind-2", "ready", "Its server is not running.")

    # It is no change that the settings ask for: another stage can be changed meanwhile, and the real one comes back.
    assert await service.engines.apply(settings(ears__engine="ears-2")) == ["ears", "mind", "voice"]
    assert service.engines.health()["mind"].last_error == "Its server is not running."
    script.failing.clear()
    assert await service.engines.apply(settings(ears__engine="ears-2")) == ["mind", "voice"]
    assert [service.engines.health()[stage].engine for stage in ("mind", "voice")] == ["mind-1", "voice-1"]
    await service.end()


# --- parts that are not ready ----------------------------------------------------------------------------------------


async def test_an_open_conversation_gets_settings_that_came_while_an_engine_restarted(running: Running) -> None:
    async with running.connect("?parley=1") as socket, running.client() as client:
        await the(socket, "session.created")
        running.engines.loading.add("ears")
        await client.put("/api/settings", json={"mind": {"persona": "Be a pirate."}})
        await the(socket, "parley.settings")
        running.engines.loading.clear()
        running.engines.change()
        await the(socket, "parley.engines")
        item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Ahoy"}]}
        await send(socket, "conversation.item.create", item=item)
        await send(socket, "response.create")
        await the(socket, "response.done")
    assert running.engines.mind.prompts[-1].persona == "Be a pirate."


async def test_the_voice_is_heard_and_a_recording_understood_while_the_mind_loads(tmp_path: Path) -> None:
    engines = ScriptedEngines()
    engines.loading.add("mind")
    async with served(tmp_path, engines) as running, running.client() as client:
        assert (await client.post("/api/voice/hear", json={"text": "Hello"})).status_code == 200
        assert (await add(client, "me.wav", recording())).json()["text"] == "what is the weather in paris"
