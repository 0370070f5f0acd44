"""A server for tests that speaks OpenAI's chat API over real sockets, well or badly, as a script says."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

WORDS = ("Hel", "lo", " there", ".")


@dataclass
class ChatServer:
    """What it answers with, and what it saw."""

    url: str = ""
    pieces: Sequence[str | dict[str, Any] | bytes] = WORDS
    """Text, a whole delta, or raw bytes; each is sent at once."""
    status: int = 200
    body: str = ""
    """Of an answer that is an error."""
    models: Any = field(default_factory=lambda: {"data": [{"id": "tiny", "max_model_len": 2048}]})
    key: str = ""
    end: str = "done"
    """"done", "hang": it says nothing more, "disconnect": the connection breaks."""
    requests: list[dict[str, Any]] = field(default_factory=list)
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    """The client went away in the middle of a reply."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = re.search(r"content-length: *(\d+)", head, re.IGNORECASE)
            body = await reader.readexactly(int(length[1]) if length else 0)
            if self.key and f"authorization: bearer {self.key}".lower() not in head.lower():
                await self._answer(writer, 401, "wrong key")
            elif "/models" in head.splitlines()[0]:
                await self._answer(writer, 200, json.dumps(self.models))
            elif self.status != 200:
                await self._answer(writer, self.status, self.body)
            else:
                self.requests.append(json.loads(body))
                self.asked.set()
                await self._stream(reader, writer)
        writer.close()

    async def _answer(self, writer: asyncio.StreamWriter, status: int, text: str) -> None:
        content = text.encode()
        writer.write(f"HTTP/1.1 {status} .\r\nContent-Length: {len(content)}\r\nConnection: close\r\n\r\n".encode())
        writer.write(content)
        await writer.drain()

    async def _stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
        for piece in self.pieces:
            if isinstance(piece, bytes):
                writer.write(piece)
            else:
                delta = {"content": piece} if isinstance(piece, str) else piece
                writer.write(f"data: {json.dumps({'choices': [{'delta': delta, 'finish_reason': None}]})}\n\n".encode())
            await writer.drain()
        if self.end == "hang":
            await reader.read()  # until the client closes
            self.left.set()
        elif self.end == "done":
            writer.write(b'data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n')
            await writer.drain()


@asynccontextmanager
async def chat_server(**script: Any) -> AsyncIterator[ChatServer]:
    scripted = ChatServer(**script)
    server = await asyncio.start_server(scripted.serve, "127.0.0.1", 0)
    scripted.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    try:
        yield scripted
    finally:
        server.close()
