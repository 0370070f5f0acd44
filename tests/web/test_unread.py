"""Who asks and does not read is let go, over HTTP and over Wyoming, and the system keeps nothing for them."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import ssl
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from pipeline.tts import Spoken
from tests.web.conftest import served
from tests.web.scripted import ScriptedEngines, ScriptedVoice
from tests.web.wyoming.test_wyoming import serving
from web.certificate import own

ASKED = json.dumps({"input": "Hello.", "response_format": "pcm"})


class Endless(ScriptedVoice):
    """Speaks until it is stopped."""

    def __init__(self) -> None:
        super().__init__()
        self.stopped = asyncio.Event()

    async def speak(self, text: str) -> AsyncGenerator[Spoken, None]:
        try:
            while True:
                yield Spoken(np.full(24_000, 0.25, np.float32))
                await asyncio.sleep(0)
        finally:
            self.stopped.set()


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    monkeypatch.setattr("web.unread.UNREAD_S", 0.1)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        yield client


async def read_to_the_end(client: socket.socket) -> int:
    read = 0
    while piece := await asyncio.get_running_loop().sock_recv(client, 1 << 16):
        read += len(piece)
    return read


@pytest.mark.parametrize("reads", [False, True])
async def test_over_http(client: socket.socket, tmp_path: Path, reads: bool) -> None:
    engines, voice, loop = ScriptedEngines(), Endless(), asyncio.get_running_loop()
    engines.voice = voice
    async with served(tmp_path, engines) as server:
        await loop.sock_connect(client, ("127.0.0.1", server.address.port))
        head = f"POST /v1/audio/speech HTTP/1.1\r\nHost: {server.host}\r\nContent-Type: application/json\r\n"
        await loop.sock_sendall(client, f"{head}Content-Length: {len(ASKED)}\r\n\r\n{ASKED}".encode())
        if reads:
            while not voice.stopped.is_set():  # a byte now and then is as good as none
                await loop.sock_recv(client, 1)
                await asyncio.sleep(0.01)
        await voice.stopped.wait()
        with pytest.raises(ConnectionResetError):
            await read_to_the_end(client)


async def test_by_tls_something_waits_at_once_and_that_is_no_fault(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """asyncio only logs it when a protocol's pause_writing fails."""
    certificate = own(tmp_path / "https", ["127.0.0.1"])
    trusted = ssl.create_default_context(cafile=str(certificate.authority))
    async with served(tmp_path / "data", certificate=certificate) as server:
        async with httpx.AsyncClient(verify=trusted, timeout=None) as client:
            answer = await client.get(f"https://127.0.0.1:{server.address.port}/v1/models")
        assert answer.status_code == 200
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_over_wyoming(client: socket.socket, tmp_path: Path) -> None:
    async with serving(tmp_path) as wyoming:
        wyoming.engines.voice = voice = Endless()
        await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", wyoming.port))
        await asyncio.get_running_loop().sock_sendall(client, b'{"type": "synthesize", "data": {"text": "Hello."}}\n')
        await voice.stopped.wait()
        with pytest.raises(ConnectionResetError):
            await read_to_the_end(client)
