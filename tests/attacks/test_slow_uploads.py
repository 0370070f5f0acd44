"""Bodies that come a byte now and then, to every route at once: none keeps its connection or holds anyone up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
from fastapi.openapi.utils import get_openapi

from config import Settings, SettingsStore
from pipeline.engines.running import Engines
from tests.web.conftest import Running
from web import guard, protocols
from web.address import Address
from web.api.audio.paths import canonical
from web.app import BODIES, create_app
from web.realtime.webrtc.routes import CALLS, SDP
from web.service import Service

FORM = "multipart/form-data; boundary=x"
PART = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'


def routes(folder: Path) -> list[tuple[str, str]]:
    """Each method and path that may have a body."""
    service = Service(Engines(Settings(), folder), SettingsStore(folder), folder, Settings())
    app = create_app(service, Address("127.0.0.1", 8000, None))
    paths = get_openapi(title="", version="", routes=app.routes)["paths"]
    return [(method.upper(), path) for path, methods in paths.items() for method in methods]


async def kept(running: Running, method: str, path: str, kind: str, begun: bytes) -> str:
    """Send the beginning of a body and then a byte now and then, until the server has had enough; what it said."""
    reader, writer = await asyncio.open_connection("127.0.0.1", running.address.port)
    head = f"{method} {path} HTTP/1.1\r\nHost: {running.host}\r\nContent-Type: {kind}\r\nContent-Length: 900000\r\n\r\n"
    writer.write(head.encode() + begun)

    async def drip() -> None:
        with suppress(ConnectionError):
            while True:
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.2)

    dripping = asyncio.create_task(drip())
    try:
        with suppress(ConnectionError):
            return (await reader.read()).partition(b"\r\n")[0].decode()
        return "cut off"
    finally:
        dripping.cancel()
        writer.close()


@pytest.mark.timeout(120)
@pytest.mark.slow
async def test_on_every_route_at_once(
    running: Running, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(guard, "BODY_S", 2.0)
    monkeypatch.setattr(protocols, "REQUEST_S", 2.0)
    slow: list[asyncio.Task[str]] = []
    for method, path in routes(tmp_path / "other"):
        kinds = [("application/json", b'{"text":')]
        if canonical(path) in BODIES:
            kinds.append((FORM, PART))
        if path == CALLS:
            kinds.append((SDP, b"v=0\r\n"))
        slow += [asyncio.create_task(kept(running, method, path, *kind)) for kind in kinds]
    async with running.client(timeout=60) as client:
        assert len(slow) > 60
        assert (await client.get("/health")).status_code == 200
        assert (await client.put("/api/settings", json={"voice": {"volume": 0.5}})).status_code == 200
        answers = await asyncio.gather(*slow)
        assert (await client.get("/health")).status_code == 200
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
    # Most are cut off before they have read it, because they are still sending.
    assert any(answer.startswith("HTTP/1.1 408") for answer in answers)
    assert not [answer for answer in answers if answer.startswith("HTTP/1.1 500")]


async def test_a_body_that_keeps_coming_is_taken(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes longer than the time there is for each part of it."""
    monkeypatch.setattr(guard, "BODY_S", 0.5)

    async def steadily() -> AsyncIterator[bytes]:
        yield b'{"set_up": '
        for _ in range(20):
            yield b" " * guard.LEAST
            await asyncio.sleep(0.05)
        yield b"true}"

    async with running.client(timeout=60) as client:
        answer = await client.put(
            "/api/settings",
            content=steadily(),
            headers={"Content-Type": "application/json"},
        )
        assert answer.status_code == 200
