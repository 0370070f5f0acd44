"""A server for tests that speaks OpenAI's chat API over real sockets, well or badly, as a script says."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from pipeline.llm.openai import PROBE

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
    probed: Sequence[str | dict[str, Any] | bytes] = ("yes",)
    """What it answers to the question by which Parley gets to know it; `tries` has these requests."""
    refuses: Sequence[str] = ()
    """Fields that it does not know, and answers 400 to."""
    refused: int = 0
    """How often it did."""
    props: Any = None
    """What it tells of itself at /props, as llama.cpp does."""
    counts: Callable[[str], int] | None = None
    """Its tokenizer, at /tokenize, if it has one; `counted` has the texts that it was asked for."""
    counted: list[str] = field(default_factory=list)
    tries: list[dict[str, Any]] = field(default_factory=list)
    models: Any = field(default_factory=lambda: {"data": [{"id": "tiny", "max_model_len": 2048}]})
    key: str = ""
    end: str = "done"
    """"done", "hang": it says nothing more, "disconnect": the connection breaks."""
    requests: list[dict[str, Any]] = field(default_factory=list)
    listening: asyncio.Server = field(init=False)
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
            elif "/props" in head.splitlines()[0] and self.props:
                await self._answer(writer, 200, json.dumps(self.props))
            elif "/props" in head.splitlines()[0]:
                await self._answer(writer, 404, "no such page")
            elif "/tokenize" in head.splitlines()[0]:
                await self._tokenize(writer, json.loads(body))
            elif refused := [name for name in self.refuses if name in json.loads(body)]:
                self.refused += 1
                await self._answer(writer, 400, f"unknown field {refused[0]}")
            elif self.status != 200:
                await self._answer(writer, self.status, self.body)
            elif json.loads(body)["messages"][-1]["content"] == PROBE:
                self.tries.append(json.loads(body))
                await self._stream(reader, writer, self.probed, "done")
            else:
                self.requests.append(json.loads(body))
                self.asked.set()
                await self._stream(reader, writer, self.pieces, self.end)
        writer.close()

    async def _answer(self, writer: asyncio.StreamWriter, status: int, text: str) -> None:
        content = text.encode()
        writer.write(f"HTTP/1.1 {status} .\r\nContent-Length: {len(content)}\r\nConnection: close\r\n\r\n".encode())
        writer.write(content)
        await writer.drain()

    async def _tokenize(self, writer: asyncio.StreamWriter, request: dict[str, Any]) -> None:
        if self.counts is None:
            await self._answer(writer, 404, "no such page")
            return
        self.counted.append(request["prompt"])
        await self._answer(writer, 200, json.dumps({"tokens": [0] * self.counts(request["content"])}))

    async def _stream(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        pieces: Sequence[str | dict[str, Any] | bytes],
        end: str,
    ) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
        for piece in pieces:
            if isinstance(piece, bytes):
                writer.write(piece)
            else:
                delta = {"content": piece} if isinstance(piece, str) else piece
                writer.write(f"data: {json.dumps({'choices': [{'delta': delta, 'finish_reason': None}]})}\n\n".encode())
            await writer.drain()
        if end == "hang":
            await reader.read()  # until the client closes
            self.left.set()
        elif end == "done":
            writer.write(b'data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n')
            await writer.drain()


@asynccontextmanager
async def chat_server(port: int = 0, **script: Any) -> AsyncIterator[ChatServer]:
    scripted = ChatServer(**script)
    server = scripted.listening = await asyncio.start_server(scripted.serve, "127.0.0.1", port)
    scripted.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    try:
        yield scripted
    finally:
        server.close()
