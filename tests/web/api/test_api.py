"""The API over a real socket, with scripted engines and real settings on disk."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import soundfile

from config import Settings, SettingsStore
from tests.web.conftest import Running, served
from tests.web.realtime.test_protocol import send, the
from tests.web.scripted import ScriptedEngines


async def test_health_tells_of_each_stage(tmp_path: Path) -> None:
    engines = ScriptedEngines()
    engines.failing = "espeak-ng is not installed."
    async with served(tmp_path, engines) as running, running.client() as client:
        health = (await client.get("/health")).json()
        assert health["ok"] is False
        assert health["engines"]["voice"]["last_error"] == "espeak-ng is not installed."
        engines.failing = ""
        health = (await client.get("/health")).json()
        assert (health["ok"], health["engines"]["mind"]["state"], health["conversations"]) == (True, "ready", 0)


async def test_settings_are_saved_and_applied(running: Running) -> None:
    async with running.client() as client:
        answer = await client.put("/api/settings", json={"turns": {"silence_ms": 700}, "voice": {"volume": 0.5}})
        assert answer.status_code == 200
        assert answer.json()["settings"]["turns"]["silence_ms"] == 700
        assert answer.json()["applied"] == ["voice"]
    assert running.engines.applied[-1].turns.silence_ms == 700
    kept = SettingsStore(running.data).load().settings
    assert (kept.turns.silence_ms, kept.voice.volume, kept.set_up) == (700, 0.5, True)


@pytest.mark.parametrize(
    ("changes", "field", "sentence"),
    [
        ({"turns": {"silence_ms": 5}}, "turns.silence_ms", "turns.silence_ms must be at least 100."),
        ({"turns": {"silence_ms": "soon"}}, "turns.silence_ms", "turns.silence_ms must be a whole number."),
        ({"voice": {"volume": 2}}, "voice.volume", "voice.volume must be at most 1.0."),
        ({"colour": "red"}, "colour", "There is no field named colour."),
        ({"audio": {"place": "moon"}}, "audio.place", "audio.place must be 'browser' or 'soundcard'."),
        ({"mind": {"persona": "x" * 8001}}, "mind.persona", "mind.persona may have at most 8000 characters."),
        ({"turns": 5}, "turns", "turns must be an object with fields."),
        ({"memory": {"enabled": "perhaps"}}, "memory.enabled", "memory.enabled must be true or false."),
        (
            {"memory": {"owner": "../anna"}},
            "memory.owner",
            "memory.owner has a character that cannot be used here, or is "
            "too long: use letters, digits, spaces, hyphens and apostrophes.",
        ),
        ({"mind": {"api_key": 5}}, "mind.api_key", "mind.api_key must be text."),
    ],
)
async def test_what_cannot_be_set_is_said_in_a_sentence(
    running: Running, changes: dict[str, object], field: str, sentence: str
) -> None:
    async with running.client() as client:
        answer = await client.put("/api/settings", json=changes)
    assert answer.status_code == 422
    assert answer.json() == {"error": {"message": sentence, "field": field}}
    assert not running.engines.applied


async def test_an_owner_may_have_any_name(running: Running) -> None:
    async with running.client() as client:
        for name in ("Jürgen Müller", "李小龍", "O’Brien", "Anne-Marie"):
            answer = await client.put("/api/settings", json={"memory": {"owner": name}})
            assert answer.json()["settings"]["memory"]["owner"] == name


async def test_an_engine_that_does_not_exist_is_refused_with_those_that_do(running: Running) -> None:
    async with running.client() as client:
        answer = await client.put("/api/settings", json={"ears": {"engine": "whisker"}})
    assert answer.status_code == 422
    assert answer.json()["error"]["field"] == "ears.engine"
    assert "pocketsphinx" in answer.json()["error"]["message"]


@pytest.mark.parametrize("body", ["", "{", "[]", "null", '"x"', "[" * 100_000])
async def test_a_body_that_is_no_object_is_refused(running: Running, body: str) -> None:
    async with running.client() as client:
        answer = await client.put("/api/settings", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert answer.json()["error"]["message"].endswith(".")


async def test_the_key_goes_in_and_never_comes_out(running: Running) -> None:
    async with running.client() as client:
        answer = await client.put("/api/settings", json={"mind": {"api_key": "sk-secret"}})
        assert answer.json()["api_key_set"] is True
        answer = await client.put("/api/settings", json=answer.json()["settings"])  # the whole tree, without the key
        for path in ("/api/settings", "/api/notices", "/health", "/api/engines"):
            assert "sk-secret" not in (await client.get(path)).text
    assert answer.json()["api_key_set"] is True
    assert SettingsStore(running.data).load().settings.mind.api_key.get_secret_value() == "sk-secret"


async def test_an_engine_that_cannot_load_leaves_the_old_settings(running: Running) -> None:
    running.engines.refusing = "eSpeak has no voice of that name."
    async with running.client() as client:
        answer = await client.put("/api/settings", json={"voice": {"name": "nobody"}})
        assert answer.status_code == 409
        assert "eSpeak has no voice of that name." in answer.json()["error"]["message"]
        assert (await client.get("/api/settings")).json()["settings"]["voice"]["name"] == ""
    assert SettingsStore(running.data).load().settings.voice.name == ""


async def test_settings_that_cannot_be_saved_do_not_stay_in_use(running: Running) -> None:
    (running.data / "settings.json").mkdir()  # nothing can be renamed over a folder, not even by root
    async with running.client() as client:
        answer = await client.put("/api/settings", json={"turns": {"silence_ms": 700}})
    assert answer.status_code == 507
    assert "old settings are kept" in answer.json()["error"]["message"]
    assert running.service.settings.turns.silence_ms == 500
    assert running.engines.applied[-1] == running.service.settings, "the engines are those of the old ones again"
    assert not list(running.data.glob(".settings-*"))


async def test_open_conversations_take_the_new_settings(running: Running) -> None:
    async with running.connect("?parley=1") as socket, running.client() as client:
        await the(socket, "session.created")
        await client.put("/api/settings", json={"mind": {"persona": "Be a pirate."}})
        event = await the(socket, "parley.settings")
        assert event["settings"]["mind"]["persona"] == "Be a pirate."
        assert "api_key" not in event["settings"]["mind"]
        item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Ahoy"}]}
        await send(socket, "conversation.item.create", item=item)
        await send(socket, "response.create")
        await the(socket, "response.done")
    assert running.engines.mind.prompts[-1].persona == "Be a pirate."


async def test_first_the_setup_page_then_the_talk_page(tmp_path: Path) -> None:
    async with served(tmp_path, settings=Settings()) as running, running.client() as client:
        assert (await client.get("/")).headers["location"] == "/setup"
        await client.put("/api/settings", json={"set_up": True})
        assert (await client.get("/")).headers["location"] == "/talk"


async def test_a_setting_is_escaped_in_the_pages(tmp_path: Path) -> None:
    settings = Settings(set_up=True)
    settings.mind.persona = "</textarea><script>alert(1)</script>"
    async with served(tmp_path, settings=settings) as running, running.client() as client:
        for path in ("/talk", "/setup", "/memory"):
            page = await client.get(path)
            assert page.status_code == 200
            assert "<script>alert(1)" not in page.text


async def test_notices_are_kept_for_the_page(running: Running) -> None:
    running.service.tell("warning", "The settings file was damaged.")
    async with running.client() as client:
        notices = (await client.get("/api/notices")).json()["notices"]
    assert [(told["severity"], told["text"]) for told in notices] == [("warning", "The settings file was damaged.")]


@pytest.mark.parametrize(
    "path", ["/static/../app.py", "/static/%2e%2e/app.py", "/static//etc/passwd", "/docs", "/nothing"]
)
async def test_nothing_else_is_served(running: Running, path: str) -> None:
    async with running.client() as client:
        assert (await client.get(path)).status_code == 404


async def test_what_can_be_chosen(running: Running) -> None:
    async with running.client() as client:
        answer = (await client.get("/api/engines")).json()
    assert {engine["name"] for engine in answer["stages"]["ears"]} >= {"pocketsphinx"}
    assert all(engine["label"] and engine["line"] for stage in answer["stages"].values() for engine in stage)
    assert answer["voices"] == [{"name": "en-gb", "label": "British English"}]
    offline = next(profile for profile in answer["profiles"] if profile["name"] == "offline")
    assert offline["mind"]["engine"] == "builtin"


async def test_the_voice_can_be_tried_as_a_file(running: Running) -> None:
    async with running.client() as client:
        answer = await client.post("/api/voice/hear", json={"text": "Hello"})
        assert answer.headers["content-type"] == "audio/wav"
        samples, rate = soundfile.read(io.BytesIO(answer.content))
        assert (len(samples), rate) == (4800, 24_000)
        assert (await client.post("/api/voice/hear", json={"text": "x" * 301})).status_code == 422
        running.engines.started = False
        assert (await client.post("/api/voice/hear", json={})).status_code == 503
