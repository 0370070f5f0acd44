"""Settings that cannot be put to use, and servers that take a question and never answer it.

A refused setting is answered in a sentence, is not on disk, and leaves the old ones in force; a change that waits for a
server holds up no other; a start always ends in a talk.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from config import Settings, SettingsStore
from config.engines import Stage
from pipeline.engine import EngineError, Report
from pipeline.engines import running as running_set
from pipeline.engines.lease import LeasedMind
from pipeline.engines.running import Engines
from pipeline.engines.slot import EnginePlan
from pipeline.llm.openai import OpenAIChat
from tests.pipeline.engines.scripted_engines import Script, ScriptedEngine
from tests.pipeline.engines.test_engines import settings, states, until
from tests.web.api.test_setup import add, recording
from tests.web.conftest import Running, served
from tests.web.realtime.test_protocol import send, the
from tests.web.scripted import ScriptedEngines
from web.changes import SettingsRefused
from web.service import Edit, Service

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


def changed(**branches: Any) -> Edit:
    """`mind={"model": "x"}` as an edit."""

    def edit(old: Settings) -> Settings:
        new = old.model_copy(deep=True)
        for branch, leaves in branches.items():
            for leaf, value in leaves.items():
                setattr(getattr(new, branch), leaf, value)
        return new

    return edit


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


async def test_an_import_loads_no_model_that_is_not_here(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    async with running.client() as client:
        tree = {"ears": {"engine": "whisper", "model": "someone/unheard-of"}}
        answer = await client.post("/api/settings/import", json=tree)
    assert answer.status_code == 409
    assert answer.json()["error"]["lacking"] == {"stage": "ears", "engine": "whisper", "model": "someone/unheard-of"}
    assert not running.engines.applied


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


@asynccontextmanager
async def silent() -> AsyncIterator[str]:
    """A server that accepts, reads, and never says a word."""
    writers: list[asyncio.StreamWriter] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await reader.read()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    finally:
        server.close()
        for writer in writers:
            writer.close()


@pytest.fixture
def mind_of_a_server(script: Script, monkeypatch: pytest.MonkeyPatch) -> Script:
    """All scripted, but for the mind "openai"."""
    scripted = Engines._chosen

    def chosen(engines: Engines, stage: Stage, name: str, settings: Settings) -> EnginePlan:
        if name != "openai":
            return scripted(engines, stage, name, settings)
        url = settings.mind.url
        return EnginePlan(name, lambda: LeasedMind(OpenAIChat(url, "")), url, patience_s=engines._peer_s)

    monkeypatch.setattr(Engines, "_chosen", chosen)
    return script


def test_only_what_asks_a_server_elsewhere_has_a_deadline(tmp_path: Path) -> None:
    tree = Settings()
    engines = Engines(tree, tmp_path, peer_s=7)
    assert {plan.patience_s for plan in engines._plans(tree).values()} == {None}
    tree.mind.engine, tree.memory.chroma_host = "openai", "chroma.example"
    plans = engines._plans(tree)
    assert {part for part, plan in plans.items() if plan.patience_s == 7} == {"mind", "memory"}


async def test_a_server_that_never_answers_has_its_time(mind_of_a_server: Script, tmp_path: Path) -> None:
    async with silent() as url:
        engines = Engines(settings(mind__engine="openai", mind__url=url), tmp_path, peer_s=0.05)
        await engines.start()
        assert states(engines)["mind"] == "failed"
        why = engines.health()["mind"].last_error
        assert why is not None and "did not answer completely" in why
        with pytest.raises(EngineError, match="did not answer completely"):
            engines.stages()
        await engines.stop()


@pytest.fixture
def any_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the script are in no catalogue."""
    monkeypatch.setattr("web.changes.check_engines", lambda settings: None)


@pytest.mark.usefixtures("any_engine")
async def test_a_change_that_waits_holds_up_no_other_and_gives_way_to_its_undoing(
    mind_of_a_server: Script, tmp_path: Path
) -> None:
    async with silent() as url:
        engines = Engines(settings(), tmp_path, peer_s=3600)  # it would wait for an hour
        await engines.start()
        service = Service(engines, SettingsStore(tmp_path), tmp_path, settings())
        service.store.save(service.settings)

        waiting = asyncio.create_task(service.change(changed(mind={"engine": "openai", "url": url})))
        await reached(lambda: engines.reloading().get("mind") is not None)
        assert await changing(service, voice={"volume": 0.5}) == []
        assert await changing(service, voice={"engine": "voice-2"}) == ["voice"]
        assert not waiting.done()
        assert SettingsStore(tmp_path).load().settings.mind.engine == "mind-1", "what is not in use is not kept"

        assert await changing(service, mind={"engine": "mind-1"}) == []
        with pytest.raises(SettingsRefused, match="another change replaced this one"):
            await waiting
        assert engines.reloading() == {}
        kept = SettingsStore(tmp_path).load().settings
        assert (kept.mind.engine, kept.mind.url, kept.voice.engine, kept.voice.volume) == ("mind-1", "", "voice-2", 0.5)
        await service.end()


@pytest.mark.usefixtures("any_engine")
async def test_changes_that_meet_do_not_lose_each_other(script: Script, tmp_path: Path) -> None:
    engines = Engines(settings(), tmp_path)
    await engines.start()
    script.waiting |= {"mind-2"}
    service = Service(engines, SettingsStore(tmp_path), tmp_path, settings())
    waiting = asyncio.create_task(service.change(changed(mind={"engine": "mind-2"})))
    await reached(lambda: "start mind-2" in script.diary)
    await changing(service, turns={"silence_ms": 900}, voice={"engine": "voice-2"})
    script.gate.set()
    await waiting
    now = service.settings
    assert (now.mind.engine, now.voice.engine, now.turns.silence_ms) == ("mind-2", "voice-2", 900)
    assert SettingsStore(tmp_path).load().settings == now
    assert [engines.health()[stage].engine for stage in ("mind", "voice")] == ["mind-2", "voice-2"]
    await service.end()


async def changing(service: Service, **branches: Any) -> list[str]:
    return await service.change(changed(**branches))


async def reached(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  # the condition has no event
            await asyncio.sleep(0.005)


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
