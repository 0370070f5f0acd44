"""Requests as nobody writes them by hand: each is answered with a sentence, and never by a 500."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import stat
from pathlib import Path

import pytest

from pipeline.turns.record import TurnRecord
from tests.web.conftest import Running, served
from web import guard, protocols
from web.preconditions import ServeError, data_folder, listen
from web.turn_log import TurnLog

TOKEN = "a-token-that-is-long-enough-for-the-test"
JSON = {"Content-Type": "application/json"}
LONG = "n" * 5000


@pytest.mark.parametrize("origin", ["http://[", "http://[::1", "http://]", "//", "http://\xa0"])
async def test_an_origin_that_is_none(running: Running, origin: str) -> None:
    async with running.client() as client:
        answer = await client.get("/health", headers=[(b"origin", origin.encode("latin-1"))])
    assert answer.status_code == 403


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", f"/{LONG}", None),
        ("GET", f"/static/{LONG}", None),
        ("GET", f"/api/conversations/{LONG}/export", None),
        ("GET", f"/api/voice/references/{LONG}", None),
        ("PUT", f"/api/voice/references/{LONG}", {"text": "x"}),
        ("DELETE", f"/api/voice/references/{LONG}.wav", None),
        ("DELETE", f"/api/memory/days/{LONG}", None),
        ("POST", "/api/downloads", {"models": [{"stage": "mind", "engine": "transformers", "model": LONG}]}),
        ("POST", "/api/downloads", {"models": [{"stage": "mind", "engine": "transformers", "model": "a\0/b"}]}),
        ("POST", "/api/voice/references", {"name": f"{LONG}.wav", "data": ""}),
        ("POST", "/api/mind/models", {"url": "http://[::1"}),
        ("POST", "/api/mind/models", {"url": "http://localhost:99999999"}),
        ("POST", "/api/mind/models", {"url": "http://127.0.0.1:9", "api_key": "a\N{EN DASH}b"}),
    ],
    ids=lambda value: str(value)[:36],
)
async def test_names_that_no_thing_has(running: Running, method: str, path: str, body: object) -> None:
    async with running.client() as client:
        answer = await client.request(method, path, json=body, headers=JSON if body is None else None)
        assert answer.status_code in (404, 422), answer.text
        status = (await client.get("/api/downloads")).json()
    assert status["state"] == "idle"


async def test_a_download_that_cannot_be_started_has_failed(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*args: object, **options: object) -> None:
        raise ValueError("embedded null byte")

    monkeypatch.setattr("web.api.downloads.asyncio.create_subprocess_exec", refuse)
    order = {"models": [{"stage": "ears", "engine": "whisper", "model": "someone/else"}]}
    async with running.client() as client:
        await client.post("/api/downloads", json=order)
        async with asyncio.timeout(20):
            while (status := (await client.get("/api/downloads")).json())["state"] == "asking":  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    assert (status["state"], status["message"].endswith(".")) == ("failed", True)


@pytest.mark.parametrize("neighbour", ["a b=c", "=x", "{json: 1}", 'q="open', "a@b=c", "\xe9=1"])
async def test_an_odd_cookie_does_not_cost_the_login(tmp_path: Path, neighbour: str) -> None:
    cookie = f"{neighbour}; parley_token={TOKEN}; {neighbour}"
    async with served(tmp_path, token=TOKEN) as running, running.client() as client:
        answer = await client.get("/health", headers=[(b"cookie", cookie.encode("latin-1"))])
        assert answer.status_code == 200
        assert (await client.get("/health", headers=[(b"cookie", neighbour.encode("latin-1"))])).status_code == 401


async def closed(running: Running, *said: bytes) -> bytes:
    """What the server says to a connection that stops in the middle, until it ends it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", running.address.port)
    for part in said:
        writer.write(part)
    try:
        async with asyncio.timeout(20):
            return await reader.read()
    finally:
        writer.close()


async def test_a_connection_that_says_nothing_or_half_ends(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocols, "REQUEST_S", 0.05)
    monkeypatch.setattr(guard, "BODY_S", 0.05)
    assert await closed(running) == b""
    assert await closed(running, b"GET /health HTTP/1.1\r\nHos") == b""
    whole = f"GET /health HTTP/1.1\r\nHost: {running.host}\r\n\r\n".encode()
    assert (await closed(running, whole + b"GET /hea")).startswith(b"HTTP/1.1 200")
    head = f"PUT /api/settings HTTP/1.1\r\nHost: {running.host}\r\nContent-Type: application/json\r\n"
    answer = await closed(running, head.encode() + b'Content-Length: 100\r\n\r\n{"turns":')
    assert answer.startswith(b"HTTP/1.1 408")


async def test_an_import_on_a_full_disk(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    async with running.client() as client:
        answer = await client.post("/api/memory/import", content="{}\n", headers={"Content-Type": "application/jsonl"})
    assert answer.status_code == 507
    assert "free some space" in answer.json()["error"]["message"]


def test_one_cut_line_costs_no_other(tmp_path: Path) -> None:
    def line(turn: int) -> bytes:
        return json.dumps({"conversation": "c", "turn": turn, "user": "caf\xe9"}, ensure_ascii=False).encode()

    log = TurnLog(tmp_path, lambda: True)
    cut = line(2)[:-3]
    log.path.write_bytes(line(1) + b"\n" + cut + b"\n12\n[]\n{}\n\xff\xfe\n" + line(3) + b"\n")
    assert [record["turn"] for record in log.of("c")] == [1, 3]
    assert cut.endswith(b"\xc3"), "it is cut in the middle of a character"


def test_what_follows_a_cut_line_is_whole(tmp_path: Path) -> None:
    log = TurnLog(tmp_path, lambda: False)
    log.path.write_bytes(b'{"conversation": "c", "tu')
    log._append([TurnRecord("c", 1)])
    assert [record["turn"] for record in log.of("c")] == [1]


@pytest.mark.parametrize("port", [65_536, 99_999, -1])
def test_a_port_that_does_not_exist(port: int) -> None:
    with pytest.raises(ServeError, match=rf"{port} is not a port: choose one"):
        listen("127.0.0.1", port)


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX")
def test_the_folder_of_data_is_its_owners_alone(tmp_path: Path) -> None:
    (tmp_path / "older").mkdir(mode=0o755)
    for name in ("older", "new"):
        assert stat.S_IMODE(data_folder(tmp_path / name).stat().st_mode) == 0o700
