"""Headers that no browser sends: none of them opens what needs the token, and none breaks the server."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.fuzz import Fuzz
from tests.web.conftest import Running, served

TOKEN, PUBLIC = "t" * 43, "https://parley.example"
HEADERS = {
    "Host": "parley.example",
    "X-Forwarded-For": "203.0.113.7, 10.0.0.1",
    "X-Forwarded-Host": "parley.example",
    "X-Forwarded-Proto": "https",
    "Forwarded": "for=127.0.0.1;host=localhost;proto=https",
    "Origin": PUBLIC,
    "Authorization": "Bearer ek_" + "x" * 40,
    "Cookie": f"a=b; parley_token={'u' * 43}",
    "Sec-Fetch-Site": "same-origin",
    "Content-Type": "application/json",
    "Sec-WebSocket-Protocol": "realtime, openai-insecure-api-key.x",
}
LOCAL = ("127.0.0.1", "::1", "localhost", "127.0.0.1:1", "[::1]:8000", "unix:", "_hidden", "0", "")
"""As whom a stranger may want to be taken."""


async def answer(running: Running, head: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", running.address.port)
    with suppress(ConnectionError):
        writer.write(head + b"Connection: close\r\n\r\n")
        async with asyncio.timeout(60):
            return await reader.read(4096)
    writer.close()
    return b""


@pytest.mark.parametrize("proxies", [["127.0.0.1"], []], ids=["through the proxy", "past it"])
async def test_no_header_opens_what_needs_the_token(
    tmp_path: Path, proxies: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    async with served(tmp_path, token=TOKEN, public=[PUBLIC], proxies=proxies) as running:
        for seed in range(120):
            fuzz, lines = Fuzz(seed), list[bytes]()
            for name, value in HEADERS.items():
                said = fuzz.one_of(LOCAL).encode() if fuzz.random.random() < 0.2 else value.encode()
                said = fuzz.bytes(said, 3) if fuzz.random.random() < 0.2 else said
                lines += [f"{name}: ".encode() + said.translate(None, b"\r\n\0")] * fuzz.random.choice((0, 1, 1, 1, 2))
            method = fuzz.one_of(["GET /api/settings", "GET /health", "POST /v1/audio/speech", "DELETE /api/memory"])
            said = await answer(running, b"\r\n".join([f"{method} HTTP/1.1".encode(), *lines, b""]))
            status = said.partition(b" ")[2][:3]
            assert status in {b"", b"400", b"401", b"403", b"411", b"415", b"421"}, (seed, said[:200])
        assert not [each for each in caplog.records if each.levelno >= logging.ERROR]
        whole = f"GET /health HTTP/1.1\r\nHost: {running.host}\r\nAuthorization: Bearer {TOKEN}\r\n"
        assert (await answer(running, whole.encode())).startswith(b"HTTP/1.1 200")
