"""What the setup page asks for: the machine, downloads, recordings of a voice, the settings as a file."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile

from config import Settings
from config.hardware import GB, Gpu, Hardware
from config.models import MODELS, find
from config.profiles import propose
from tests.support import encoding
from tests.support.hub import Hub, serve
from tests.web.conftest import Running, served
from tests.web.scripted import ScriptedEngines
from web.api.models import _proposed, _row
from web.changes import SettingsRefused, check_models
from web.preconditions import ServeError
from web.serve import load_settings

MODEL = "someone/noise"
WANTED: dict[str, Any] = {"models": [{"stage": "ears", "engine": "whisper", "model": MODEL}]}


@pytest.fixture
async def client(running: Running) -> AsyncIterator[httpx.AsyncClient]:
    async with running.client(timeout=60) as client:
        yield client


async def test_the_machine_and_what_it_can_run(client: httpx.AsyncClient) -> None:
    told = (await client.get("/api/hardware")).json()
    assert told["hardware"]["cores"] >= 1
    assert {row["stage"] for row in told["models"]} == {"ears", "mind", "voice"}
    for row in told["models"]:
        assert row["runs"] in ("well", "slowly", "no")
        assert row["why"].endswith(".")
    assert told["proposal"]["profile"] in ("offline", "small", "cpu", "gpu")


# --- downloads -------------------------------------------------------------------------------------------------------


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.bin").write_bytes(os.urandom(24_000_000))
    with serve({MODEL: folder}) as hub, monkeypatch.context() as patched:
        for name in [name for name in os.environ if name.startswith("HF_")]:
            patched.delenv(name)
        patched.setenv("HF_ENDPOINT", hub.url)
        patched.setenv("HF_HOME", str(tmp_path / "home"))
        yield hub


async def fetched(client: httpx.AsyncClient, **more: str) -> dict[str, Any]:
    """Begin a download and follow it to its end."""
    began = await client.post("/api/downloads", json=WANTED | more)
    assert began.status_code == 200, began.text
    return await ended(client)


async def ended(client: httpx.AsyncClient) -> dict[str, Any]:
    async with asyncio.timeout(120):
        while True:
            status: dict[str, Any] = (await client.get("/api/downloads")).json()
            if status["state"] not in ("asking", "fetching"):
                return status
            await asyncio.sleep(0.05)


async def test_a_model_is_fetched_with_its_progress(client: httpx.AsyncClient, hub: Hub, tmp_path: Path) -> None:
    assert (await client.get("/api/downloads")).json()["state"] == "idle"
    status = await fetched(client)
    assert status["state"] == "done", status
    assert status["have"] == status["size"] == 24_000_002
    assert [file["path"] for file in status["files"]] == ["config.json", "model.bin"]
    assert list((tmp_path / "home").rglob("snapshots/*/model.bin"))


async def test_a_download_is_stopped_and_goes_on(client: httpx.AsyncClient, hub: Hub, tmp_path: Path) -> None:
    hub.wait_after["model.bin"] = 22_000_000
    await client.post("/api/downloads", json=WANTED)
    assert await asyncio.to_thread(hub.paused.wait, 120)
    (part,) = (tmp_path / "home").rglob("*.parley-part")
    async with asyncio.timeout(60):
        while part.stat().st_size < 20_000_000:  # noqa: ASYNC110  # another process writes it
            await asyncio.sleep(0.02)
    second = await client.post("/api/downloads", json=WANTED)
    assert second.status_code == 409
    assert (await client.request("DELETE", "/api/downloads", headers={"Content-Type": "application/json"})).json()[
        "state"
    ] == "stopped"
    sent = hub.sent["model.bin"]
    assert (await fetched(client))["state"] == "done"
    assert hub.sent["model.bin"] - sent < 5_000_000


async def test_a_licence_and_its_token(client: httpx.AsyncClient, hub: Hub, tmp_path: Path) -> None:
    hub.gated.add(MODEL)
    hub.tokens.add("hf_right")
    status = await fetched(client)
    assert status["state"] == "failed"
    assert status["licence"] == f"{hub.url}/{MODEL}"
    status = await fetched(client, token="hf_right")
    assert status["state"] == "done"
    assert "hf_right" not in json.dumps(status)
    assert (tmp_path / "home" / "token").stat().st_mode & 0o777 == 0o600


async def test_what_needs_no_download_is_said(client: httpx.AsyncClient) -> None:
    answer = await client.post("/api/downloads", json={"models": [{"stage": "voice", "engine": "espeak"}]})
    assert answer.status_code == 422
    assert "needs no download" in answer.json()["error"]["message"]


async def test_a_server_ends_its_download(hub: Hub, tmp_path: Path) -> None:
    hub.wait_after["model.bin"] = 15_000_000
    async with served(tmp_path / "data") as running, running.client(timeout=60) as client:
        await client.post("/api/downloads", json=WANTED)
        assert await asyncio.to_thread(hub.paused.wait, 120)
    # Its lock is free: the process is gone.
    async with served(tmp_path / "data") as running, running.client(timeout=60) as client:
        assert (await fetched(client))["state"] == "done"


# --- recordings ------------------------------------------------------------------------------------------------------


def recording(seconds: float = 3.0, kind: str = "WAV") -> str:
    sound = (0.1 * np.sin(np.arange(int(24_000 * seconds)) / 20)).astype(np.float32)
    if kind in encoding.KINDS:
        return base64.b64encode(encoding.encoded(kind, sound, 24_000)).decode()
    file = io.BytesIO()
    soundfile.write(file, sound, 24_000, format=kind)
    return base64.b64encode(file.getvalue()).decode()


async def add(client: httpx.AsyncClient, name: str, data: str) -> httpx.Response:
    return await client.post("/api/voice/references", json={"name": name, "data": data})


@pytest.mark.parametrize(
    ("name", "kind"),
    [("My voice.WAV", "WAV"), ("me.flac", "FLAC"), ("me.mp3", "MP3"), ("me.m4a", "m4a"), ("me.webm", "webm")],
)
async def test_a_recording_is_kept_and_its_words_proposed(
    client: httpx.AsyncClient, running: Running, name: str, kind: str
) -> None:
    answer = (await add(client, name, recording(kind=kind))).json()
    assert answer["text"] == "what is the weather in paris"
    kept = running.data / "voices" / answer["recording"]
    assert soundfile.info(kept).duration == pytest.approx(3, abs=0.1)
    assert running.service.settings.voice.references[0].recording == answer["recording"]
    assert (await client.get(f"/api/voice/references/{answer['recording']}")).content == kept.read_bytes()

    said = await client.put(f"/api/voice/references/{answer['recording']}", json={"text": "What else?"})
    assert said.status_code == 200
    assert running.service.settings.voice.references[0].text == "What else?"

    gone = await client.request(
        "DELETE", f"/api/voice/references/{answer['recording']}", headers={"Content-Type": "application/json"}
    )
    assert gone.status_code == 200
    assert not kept.exists()
    assert running.service.settings.voice.references == []


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("voice.exe", base64.b64encode(b"MZ" * 4000).decode(), "is not a recording"),
        ("voice.wav", base64.b64encode(b"not a sound").decode(), "is not a recording"),
        ("voice.wav", "%%%", "arrived damaged"),
        ("voice.wav", recording(0.3), "it should be 1 to 60 s"),
        ("voice.wav", recording(61), "it should be 1 to 60 s"),
        ("voice.wav", "", "is empty"),
    ],
)
async def test_what_is_no_recording_of_a_voice(
    client: httpx.AsyncClient, running: Running, name: str, data: str, words: str
) -> None:
    answer = await add(client, name, data)
    assert answer.status_code == 422
    message = answer.json()["error"]["message"]
    assert words in message
    assert str(running.data) not in message
    assert not list((running.data / "voices").glob("*")) if (running.data / "voices").exists() else True


async def test_a_name_leads_nowhere_else(client: httpx.AsyncClient, running: Running) -> None:
    first = (await add(client, "../../etc/passwd.wav", recording())).json()
    second = (await add(client, "..\\..\\passwd.wav", recording())).json()
    assert (first["recording"], second["recording"]) == ("passwd.flac", "passwd-2.flac")
    assert {path.parent for path in running.data.rglob("*.flac")} == {running.data / "voices"}
    assert (await client.get("/api/voice/references/..%2Fsettings.json")).status_code == 404
    answer = await client.put("/api/settings", json={"voice": {"references": [{"recording": "../settings.json"}]}})
    assert answer.status_code == 422


async def test_a_voice_that_refuses_a_recording_leaves_nothing_behind(
    client: httpx.AsyncClient, running: Running
) -> None:
    running.engines.refusing = "It cannot speak like that."
    answer = await add(client, "me.wav", recording())
    assert answer.status_code == 409
    assert not list((running.data / "voices").iterdir())


async def test_there_is_a_bound_to_what_is_sent(client: httpx.AsyncClient) -> None:
    answer = await add(client, "me.wav", "A" * 28_000_000)
    assert answer.status_code == 413


async def test_without_ears_the_words_are_left_open(tmp_path: Path) -> None:
    engines = ScriptedEngines()
    engines.failing = "no ears"
    async with served(tmp_path, engines) as running, running.client() as client:
        assert (await add(client, "me.wav", recording())).json()["text"] == ""


# --- the settings as a file ------------------------------------------------------------------------------------------


async def test_settings_travel_without_the_key(client: httpx.AsyncClient, running: Running) -> None:
    await client.put("/api/settings", json={"mind": {"api_key": "secret"}, "voice": {"pitch": 30}})
    answer = await client.get("/api/settings/export")
    assert "attachment" in answer.headers["content-disposition"]
    assert "secret" not in answer.text
    assert (await client.get("/api/settings/export?key=true")).json()["mind"]["api_key"] == "secret"
    tree = answer.json()
    await client.put("/api/settings", json={"voice": {"pitch": 70}})
    back = await client.post("/api/settings/import", json=tree)
    assert back.status_code == 200, back.text
    assert running.service.settings.voice.pitch == 30
    assert running.service.settings.mind.api_key.get_secret_value() == "secret", "the kept key stays"
    assert "secret" not in back.text


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({"voice": {"pitch": 1000}}, "must be at most 99"),
        ({"voise": {}}, "There is no field named voise"),
        ({"mind": {"engine": "magic"}}, "There is no engine 'magic'"),
        ({"mind": 3}, "must be an object"),
    ],
)
async def test_a_file_that_is_wrong_changes_nothing(
    client: httpx.AsyncClient, running: Running, tree: dict[str, Any], words: str
) -> None:
    before = running.service.settings
    answer = await client.post("/api/settings/import", json=tree)
    assert answer.status_code == 422
    assert words in answer.json()["error"]["message"]
    assert running.service.settings == before


async def test_recordings_that_did_not_travel_are_said(client: httpx.AsyncClient) -> None:
    answer = await client.post("/api/settings/import", json={"voice": {"references": [{"recording": "me.wav"}]}})
    assert answer.json()["missing_recordings"] == ["me.wav"]
    assert answer.json()["settings"]["voice"]["references"] == []


# --- a language model's server ---------------------------------------------------------------------------------------


async def test_a_server_that_is_not_there(client: httpx.AsyncClient) -> None:
    answer = await client.post("/api/mind/models", json={"url": "http://127.0.0.1:9/v1"})
    assert answer.status_code == 503
    assert "127.0.0.1:9" in answer.json()["error"]["message"]


async def test_a_servers_models_and_the_kept_key(client: httpx.AsyncClient) -> None:
    asked: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).decode())
        body = b'{"data": [{"id": "llama3"}, {"id": "qwen"}]}'
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        await client.put("/api/settings", json={"mind": {"url": url, "api_key": "secret"}})
        assert (await client.post("/api/mind/models", json={"url": url})).json() == {"models": ["llama3", "qwen"]}
        await client.post("/api/mind/models", json={"url": url.replace("127.0.0.1", "localhost")})
    assert "Bearer secret" in asked[0]
    assert "secret" not in asked[1], "a kept key is shown to no other address"


# --- nothing is fetched behind the user's back -----------------------------------------------------------------------


def test_a_model_that_is_not_here_cannot_be_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    old, new = Settings(), Settings()
    new.ears.engine, new.ears.model = "whisper", MODEL
    with pytest.raises(SettingsRefused, match=f"{MODEL} is not on this computer yet. Download it") as refused:
        check_models(old, new)
    assert refused.value.field == "ears.engine"
    check_models(new, new)  # what is in force stays so, whatever became of the files
    snapshot = tmp_path / "hub" / f"models--{MODEL.replace('/', '--')}" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "model.bin").write_bytes(b"weights")
    with pytest.raises(SettingsRefused):
        check_models(old, new)  # a download that was not finished leaves no "main"
    refs = snapshot.parents[1] / "refs"
    refs.mkdir()
    (refs / "main").write_text("abc")
    check_models(old, new)
    new.ears.model = str(tmp_path)
    check_models(old, new)  # a folder of the user's


async def test_voices_of_csm_voice_are_there_to_hear_use_and_remove(
    client: httpx.AsyncClient, running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CSM_VOICES", str(tmp_path / "voices"))
    assert (await client.get("/api/voices/library")).json() == {"voices": []}
    voice = tmp_path / "voices" / "anna"
    voice.mkdir(parents=True)
    (tmp_path / "voices" / "no voice").mkdir()
    soundfile.write(voice / "recording.wav", np.full(48_000, 0.1), 24_000)
    (voice / "text.txt").write_text("Hello there.\n")
    (voice / "note.txt").write_text("She agreed.\n")
    assert (await client.get("/api/voices/library")).json() == {
        "voices": [{"name": "anna", "note": "She agreed.", "learnt": False}]
    }
    heard = await client.get("/api/voices/library/anna")
    assert heard.content == (voice / "recording.wav").read_bytes()
    assert (await client.post("/api/voices/library/anna", json={})).json() == {"recording": "anna.flac"}
    (kept,) = running.service.settings.voice.references
    assert (kept.recording, kept.text) == ("anna.flac", "Hello there.")
    assert (running.data / "voices" / "anna.flac").is_file()
    json = {"Content-Type": "application/json"}
    assert (await client.request("DELETE", "/api/voices/library/anna", headers=json)).status_code == 200
    assert not voice.exists()
    for name in ("anna", "..", "%2e%2e"):
        assert (await client.get(f"/api/voices/library/{name}")).status_code in (404, 405)


def test_a_model_is_not_offered_for_a_program_that_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("web.changes.look", lambda: machine(gpus=card(24)))
    old, new = Settings(), Settings()
    new.mind.engine = "vllm"
    for python, lacking in ((tmp_path / "nowhere", None), (tmp_path, {"stage": "mind", "engine": "vllm", "model": ""})):
        monkeypatch.setattr("web.changes.PYTHON", python)
        with pytest.raises(SettingsRefused) as refused:
            check_models(old, new)
        assert refused.value.lacking == lacking
    assert "vLLM is not installed yet" not in str(refused.value)


@pytest.mark.parametrize(
    ("system", "words"), [("Linux", "Needs an NVIDIA graphics card"), ("Darwin", "vLLM runs on Linux only")]
)
def test_where_vllm_cannot_run_neither_it_nor_its_model_is_offered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system: str, words: str
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("web.changes.look", lambda: machine(system=system))
    new = Settings()
    new.mind.engine = "vllm"
    for python in (tmp_path / "nowhere", tmp_path):
        monkeypatch.setattr("web.changes.PYTHON", python)
        with pytest.raises(SettingsRefused, match=words) as refused:
            check_models(Settings(), new)
        assert refused.value.lacking is None
        assert "setup.py vllm" not in str(refused.value), "nobody installs 3.5 GB in vain"


def test_a_profile_whose_models_are_not_here_is_refused_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    with pytest.raises(ServeError, match=r"is not on this computer yet.*`python3 setup.py models --profile gpu`"):
        load_settings(tmp_path, "gpu")
    assert not (tmp_path / "settings.json").exists(), "the old choice stays"


# --- the key and what is proposed ------------------------------------------------------------------------------------


async def test_a_key_is_forgotten_at_another_address(client: httpx.AsyncClient, running: Running) -> None:
    def key() -> str:
        return running.service.settings.mind.api_key.get_secret_value()

    async def put(**mind: str) -> None:
        assert (await client.put("/api/settings", json={"mind": mind})).status_code == 200

    await put(api_key="secret")
    await put(url="https://models.example/v1")
    assert key() == "secret", "it was entered before the address"
    await put(url="https://models.example/v2", model="large")
    assert key() == "secret"
    exported = (await client.get("/api/settings/export")).json()
    exported["mind"]["url"] = "https://elsewhere.example/v1"
    assert (await client.post("/api/settings/import", json=exported)).status_code == 200
    assert key() == ""
    await put(api_key="secret")
    for url in ("http://elsewhere.example/v1", "https://elsewhere.example:81/v1"):
        await put(url="https://elsewhere.example/v1", api_key="secret")
        await put(url=url)
        assert key() == "", url
    await put(url="https://third.example/v1", api_key="another")
    assert key() == "another"


async def test_the_key_of_a_cluster_never_comes_out(client: httpx.AsyncClient, running: Running) -> None:
    def key() -> str:
        return running.service.settings.cluster.key.get_secret_value()

    async def put(**cluster: Any) -> httpx.Response:
        return await client.put("/api/settings", json={"cluster": cluster})

    answer = await put(url="http://ray.example:8000", key="sk-secret", stages=["voice"])
    assert answer.status_code == 200 and "sk-secret" not in answer.text
    for path in ("/api/settings", "/api/settings/export", "/health"):
        assert "sk-secret" not in (await client.get(path)).text
    await put(stages=["ears", "voice"])
    assert key() == "sk-secret"
    await put(url="http://elsewhere.example:8000")
    assert key() == ""
    for wrong, sentence in (
        ({"url": "ray.example"}, "must begin with http"),
        ({"stages": ["mind"]}, "ears"),
        ({"key": "a\nb"}, "a character that never occurs in keys"),
        ({"url": "http://ray.example:99999999", "stages": []}, "like http://cluster.example:8000"),
    ):
        answer = await put(**wrong)
        assert answer.status_code == 422 and sentence in answer.text


async def test_a_model_need_not_be_here_for_an_engine_that_is_elsewhere(client: httpx.AsyncClient) -> None:
    elsewhere = {"cluster": {"url": "http://ray.example:8000", "stages": ["voice"]}}
    voice = {"voice": {"engine": "csm", "model": "somebody/a-model"}}
    assert (await client.put("/api/settings", json={**voice, **elsewhere})).status_code == 200
    answer = await client.put("/api/settings", json={"cluster": {"stages": []}})
    assert answer.status_code == 409 and "is not on this computer yet" in answer.text, "it would have to be, now"


def machine(**more: Any) -> Hardware:
    usual: dict[str, Any] = {"system": "Linux", "processor": "A processor", "cores": 8, "free_memory_bytes": 16 * GB}
    usual |= {"instructions": frozenset({"avx2"}), "memory_bytes": 32 * GB, "free_disk_bytes": 100 * GB}
    return Hardware(**(usual | more))


def card(gigabytes: int) -> tuple[Gpu, ...]:
    return (Gpu("A card", gigabytes * GB, gigabytes * GB, "570", 8.9),)


@pytest.mark.parametrize(
    "hardware",
    [machine(), machine(cores=2), machine(system="Darwin", instructions=frozenset({"neon"})),
     *(machine(gpus=card(size)) for size in (6, 8, 12, 16, 24, 80)), machine(system="Windows", gpus=card(24))],
)  # fmt: skip
def test_every_proposal_is_of_rows_that_the_page_can_show(hardware: Hardware) -> None:
    rows = [_row(model, hardware, Settings()) for model in MODELS]
    proposed = _proposed(propose(hardware), hardware, rows)
    assert [row["stage"] for row in proposed["choices"].values()] == ["ears", "mind", "voice"]
    for row in proposed["choices"].values():
        assert row["runs"] != "no", row
    usable = [row for row in proposed["choices"].values() if not row["missing"] and not row["here"]]
    assert proposed["download_bytes"] == sum(row["download_bytes"] for row in usable)


def test_the_page_says_that_csm_speaks_on_a_macs_own_gpu() -> None:
    csm, mac = find("voice", "csm", ""), machine(system="Darwin", instructions=frozenset({"neon"}), mlx=True)
    assert csm is not None
    assert "this Mac’s own GPU" in _row(csm, mac, Settings())["why"]


def test_what_is_downloaded_fits_or_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    small = machine(free_disk_bytes=1 * GB)
    proposed = _proposed(propose(small), small, [_row(model, small, Settings()) for model in MODELS])
    assert not proposed["room"]
    assert proposed["room_why"] == "9.2 GB to download, and the disk has 1.0 GB free."
