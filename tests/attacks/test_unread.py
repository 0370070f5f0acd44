"""A client that asks and never reads the answers is disconnected before they fill the memory, and leaves nothing."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from contextlib import suppress

import pytest
from uvicorn.protocols.utils import ClientDisconnected
from websockets.exceptions import ConnectionClosed

from tests.web.conftest import Running
from tests.web.realtime.test_protocol import send, the
from web.preconditions import listen
from web.protocols import RealtimeSocket

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


async def test_a_client_that_was_let_go_is_no_error(running: Running, caplog: pytest.LogCaptureFixture) -> None:
    """In the middle of a reply it breaks the protocol, so that the server closes, and goes on sending."""
    for _ in range(10):
        async with running.connect() as client:
            await the(client, "session.created")
            item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hello"}]}
            await send(client, "conversation.item.create", item=item)
            await send(client, "response.create")
            await the(client, "response.output_audio.delta")
            client.transport.write(b"\x83\x80" + bytes(4))  # an opcode that is reserved: RFC 6455, section 5.2
            with suppress(ConnectionClosed):
                await the(client, "response.done")
    assert not [each for each in caplog.records if each.levelno >= logging.ERROR]


async def test_what_is_sent_to_whoever_was_let_go_is_dropped() -> None:
    gone = RealtimeSocket.__new__(RealtimeSocket)
    gone.close_sent = True
    with pytest.raises(ClientDisconnected):
        await gone.send({"type": "websocket.send", "text": "x"})


@pytest.mark.skipif(sys.platform != "linux", reason="TCP_USER_TIMEOUT is Linux's")
async def test_what_nobody_reads_does_not_keep_a_closed_connection() -> None:
    lost = asyncio.Event()

    class Talker(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)
            transport.write(bytes(MOST))
            transport.close()  # which waits for all of it to be taken

        def connection_lost(self, error: Exception | None) -> None:
            assert isinstance(error, TimeoutError)
            lost.set()

    loop = asyncio.get_running_loop()
    with listen("127.0.0.1", 0, unread_s=1) as listener, socket.socket() as client:
        client.setblocking(False)
        server = await loop.create_server(Talker, sock=listener)
        await loop.sock_connect(client, listener.getsockname())
        async with asyncio.timeout(60):
            await lost.wait()
        server.close()
