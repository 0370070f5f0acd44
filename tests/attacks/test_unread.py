"""A client that asks and never reads the answers is disconnected before they fill the memory."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress

from tests.web.conftest import Running

PING = bytes([0x89, 0x80 | 125]) + bytes(4) + bytes(125)
"""RFC 6455, section 5.5.2, with a mask of zeros."""
MOST = 40_000_000
"""Bytes of pings, to which the answers are about as many."""


async def test_pings_whose_answers_nobody_reads(running: Running) -> None:
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.setblocking(False)
    await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", running.address.port))
    reader, writer = await asyncio.open_connection(sock=client, limit=1024)
    writer.write(
        f"GET /v1/realtime HTTP/1.1\r\nHost: {running.host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
    )
    assert b"101" in await reader.readline()
    sent = 0
    with suppress(ConnectionError):
        while sent < MOST:
            writer.write(PING * 500)
            await writer.drain()
            sent += 500 * len(PING)
    assert sent < MOST, "it went on answering"
    writer.transport.abort()
