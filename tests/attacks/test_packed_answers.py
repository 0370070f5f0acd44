"""A model server whose answer is small on the way and unpacks to a hundred megabytes: nothing of it is unpacked."""

from __future__ import annotations

import asyncio
import gzip
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from pipeline.engine import EngineError
from pipeline.llm.server import ChatServer

UNPACKED = 100_000_000


@asynccontextmanager
async def answering(body: bytes, encoding: str) -> AsyncIterator[ChatServer]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {encoding}\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    client = ChatServer(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", "", 20)
    try:
        yield client
    finally:
        await client.close()
        server.close()


@pytest.mark.parametrize("encoding", ["gzip", "gzip, gzip"])
async def test_a_bomb(encoding: str) -> None:
    bomb = bytes(UNPACKED)
    for _ in encoding.split(","):
        bomb = gzip.compress(bomb, 1)
    async with answering(bomb, encoding) as server:
        tracemalloc.start()
        try:
            with pytest.raises(EngineError, match="packs its answers"):
                await server.models()
            with pytest.raises(EngineError, match="packs its answers"):
                async for _ in server.deltas({}):
                    pass
            assert tracemalloc.get_traced_memory()[1] < UNPACKED / 10
        finally:
            tracemalloc.stop()


async def test_an_answer_that_says_it_is_plain() -> None:
    async with answering(b'{"data": [{"id": "tiny"}]}', "identity") as server:
        assert await server.models() == [{"id": "tiny"}]


NESTED = b'data: {"choices": [{"delta": {"content": ' + b"[" * 100_000 + b"\n\n"


@pytest.mark.parametrize("body", [NESTED, b'{"data": ' + b"[" * 100_000], ids=["events", "an answer"])
async def test_an_answer_that_is_nested_too_deeply(body: bytes) -> None:
    async with answering(body, "identity") as server:
        with pytest.raises(EngineError, match="does not speak"):
            await server.models()
        with pytest.raises(EngineError):
            async for _ in server.deltas({}):
                pass
