"""The routes by which a voice is taught: what they refuse, and in which words."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import soundfile

from tests.support import encoding
from tests.web.conftest import Running, served
from web import app
from web.api import teaching
from web.teaching import received

JSON = {"Content-Type": "application/json"}
ANNA = {"person": "Anna Lee", "agreed": True}


@pytest.fixture
async def client(running: Running) -> AsyncIterator[httpx.AsyncClient]:
    async with running.client(timeout=60) as client:
        yield client


@pytest.fixture
async def anna(client: httpx.AsyncClient) -> str:
    return str((await client.post("/api/teaching", json=ANNA)).json()["id"])


def sound(seconds: float = 1.0) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.zeros(int(24_000 * seconds)), 24_000, format="WAV")
    return file.getvalue()


async def send(client: httpx.AsyncClient, voice: str, name: str, content: bytes) -> httpx.Response:
    return await client.post("/api/teaching/recordings", data={"voice": voice}, files={"file": (name, content)})


def said(answer: httpx.Response) -> str:
    return str(answer.json()["error"]["message"])


async def test_nothing_is_begun_without_a_consent(client: httpx.AsyncClient, running: Running) -> None:
    for wrong in ({"agreed": False}, {"person": "  "}, {"person": "A\nB"}, {"language": "../x"}):
        assert (await client.post("/api/teaching", json=ANNA | wrong)).status_code == 422
    assert (await client.get("/api/teaching")).json()["voices"] == []
    begun = (await client.post("/api/teaching", json=ANNA | {"language": "zh"})).json()
    kept = json.loads((running.data / "taught" / begun["id"] / "about.json").read_text())
    assert (kept["person"], kept["language"]) == ("Anna Lee", "zh") and kept["agreed_at"]


async def test_recordings_are_kept_under_names_of_our_own(
    client: httpx.AsyncClient, anna: str, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = running.data / "taught" / anna / "recordings"
    for name in ("../../évil one.wav", "évil one.wav", "..\\..\\c.wav"):
        assert (await send(client, anna, name, sound())).status_code == 200
    assert (await send(client, anna, "c.txt", "Ça va.".encode())).status_code == 200
    telephone = encoding.encoded("m4a", np.zeros(24_000, np.float32), 24_000)
    assert (await send(client, anna, "d.m4a", telephone)).status_code == 200
    names = sorted(path.name for path in kept.iterdir())
    assert names == ["c.txt", "c.wav", "d.flac", "vil-one-2.wav", "vil-one.wav"]
    for name, content, words in (
        ("a.wav", b"", "a.wav is empty."),
        ("a.wav", b"none", "a.wav "),
        ("c.txt", b"\xff\xfe", "c.txt is not text in UTF-8: save it with that encoding."),
    ):
        answer = await send(client, anna, name, content)
        assert answer.status_code == 422 and said(answer).startswith(words)
    assert sorted(path.name for path in kept.iterdir()) == names
    answer = await client.delete(f"/api/teaching/{anna}/recordings/..%2Fabout.json", headers=JSON)
    assert answer.status_code == 404
    assert (await client.delete(f"/api/teaching/{anna}/recordings/c.wav", headers=JSON)).status_code == 200
    assert not (kept / "c.txt").exists()

    def full(*_: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(teaching, "receive", full)
    answer = await send(client, anna, "a.wav", sound())
    assert answer.status_code == 507 and "No space left" in said(answer)


async def test_recordings_take_no_more_room_than_there_should_be(
    client: httpx.AsyncClient, anna: str, monkeypatch: pytest.MonkeyPatch, running: Running
) -> None:
    monkeypatch.setattr(received, "VOICE_BYTES", 100_000)
    assert (await send(client, anna, "a.wav", sound())).status_code == 200
    assert (await send(client, anna, "b.wav", sound())).status_code == 200
    answer = await send(client, anna, "c.wav", sound())
    assert answer.status_code == 409 and said(answer).startswith("The recordings of a voice may take 100 kB")
    monkeypatch.setattr(teaching, "free_disk", lambda folder: received.ROOM_BYTES + len(sound()))
    answer = await send(client, anna, "c.wav", sound())
    assert answer.status_code == 507 and "2.0 GB must stay free for teaching" in said(answer)
    kept = running.data / "taught" / anna / "recordings"
    assert sorted(path.name for path in kept.iterdir()) == ["a.wav", "b.wav"]


async def test_what_is_too_large_or_from_elsewhere_is_refused(
    client: httpx.AsyncClient, anna: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(app.LARGER_BODIES, "/api/teaching/recordings", lambda: 10_000)
    async with served(tmp_path / "other") as other, other.client() as guarded:
        assert (await send(guarded, anna, "a.wav", sound())).status_code == 413
    for headers in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        files = {"file": ("a.wav", sound())}
        answer = await client.post("/api/teaching/recordings", data={"voice": anna}, files=files, headers=headers)
        assert answer.status_code == 403
    answer = await client.post(f"/api/teaching/{anna}/train", content="{}", headers={"Content-Type": "text/plain"})
    assert answer.status_code == 415


async def test_each_step_needs_the_one_before(
    client: httpx.AsyncClient, anna: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "no models"))
    answer = await client.post(f"/api/teaching/{anna}/prepare", json={})
    assert (answer.status_code, said(answer)) == (409, "There are no recordings yet: add some first.")
    await send(client, anna, "a.wav", sound())
    answer = await client.post(f"/api/teaching/{anna}/prepare", json={})
    assert answer.status_code == 409 and said(answer).startswith("CSM-1B is not on this computer yet")
    monkeypatch.setattr(teaching, "_ready", lambda service: None)
    for act in ("train", "estimate"):
        answer = await client.post(f"/api/teaching/{anna}/{act}", json={})
        assert (answer.status_code, said(answer)) == (409, "Prepare the recordings first.")
    for path, status in ((f"{anna}/use", 409), ("nobody/use", 404)):
        assert (await client.post(f"/api/teaching/{path}", json={})).status_code == status
    answer = await client.put(f"/api/teaching/{anna}/work", json={"do": "stop"})
    assert (answer.status_code, said(answer)) == (409, "Nothing is running for this voice: reload the page.")
    for path in ("clips/0123456789abcdef", "clips/..%2F..%2Fabout.json", "samples/step-000001-1.wav"):
        assert (await client.get(f"/api/teaching/{anna}/{path}")).status_code == 404


async def test_what_is_not_ours_in_its_folder_breaks_nothing(
    client: httpx.AsyncClient, anna: str, running: Running
) -> None:
    (running.data / "taught" / anna / "about.json").write_text("{")
    told = (await client.get("/api/teaching")).json()["voices"]
    assert "cannot be read" in told[0]["trouble"]
    assert (await client.get(f"/api/teaching/{anna}")).status_code == 500
    assert (await client.delete(f"/api/teaching/{anna}", headers=JSON)).status_code == 200
    assert (await client.get("/api/teaching")).json()["voices"] == []
