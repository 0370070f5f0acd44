"""Answers that are streamed while they are generated, and work that ends when its client disconnects."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import secrets
from collections.abc import AsyncGenerator, Awaitable, Mapping
from contextlib import aclosing
from typing import Any, TypeVar

from fastapi import Request
from fastapi.responses import Response
from starlette.types import Receive, Scope, Send

from web.api.audio.errors import Refused, error_body

EVENT_STREAM = "text/event-stream"

logger = logging.getLogger(__name__)

T = TypeVar("T")


class ClientGone(Exception):
    """Nobody waits for the answer any more."""


async def while_there(receive: Receive, work: Awaitable[T]) -> T:
    """Return the work's result; it is cancelled if the client disconnects. The request's body must have been read.

    Raises:
        ClientGone: the client has disconnected.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.create_task(_left(receive))
    try:
        await asyncio.wait([working, leaving], return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGone
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class Streamed(Response):
    """Sends pieces as they come. The first piece decides the status: a failure before it becomes an error answer.

    A later failure closes the connection before the end, which tells the client that the answer is incomplete.
    """

    def __init__(
        self,
        pieces: AsyncGenerator[bytes, None],
        media_type: str,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.pieces = pieces
        self.status_code = 200
        self.media_type = media_type
        self.background = None
        # LiveKit and OpenAI's SDK log this id for the request
        self.init_headers({"X-Request-Id": f"req_{secrets.token_hex(12)}", **(headers or {})})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await while_there(receive, self._send(send))
        except ClientGone:
            logger.info("A client disconnected before its answer was complete.")

    def init_headers(self, headers: Mapping[str, str] | None = None) -> None:
        super().init_headers(headers)
        self.raw_headers = [pair for pair in self.raw_headers if pair[0] != b"content-length"]

    async def _send(self, send: Send) -> None:
        async with aclosing(self.pieces) as pieces:
            first = await anext(pieces, b"")
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await self._piece(send, first)
            try:
                async for piece in pieces:
                    await self._piece(send, piece)
            except Refused as error:
                logger.warning("An answer ended in the middle: %s", error)
                return  # without the final message, which closes the connection
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _piece(self, send: Send, piece: bytes) -> None:
        await send({"type": "http.response.body", "body": piece, "more_body": True})


async def answered(request: Request, work: Awaitable[T]) -> T:
    """Do work for an answer that is sent whole. Raises Refused if the client has left."""
    try:
        return await while_there(request.receive, work)
    except ClientGone:
        raise Refused(499, "The client left.") from None


def event(tree: Mapping[str, Any]) -> bytes:
    """Serialize a tree as a server-sent event."""
    return f"data: {json.dumps(tree, ensure_ascii=False)}\n\n".encode()


async def events(trees: AsyncGenerator[Mapping[str, Any], None]) -> AsyncGenerator[bytes, None]:
    """Serialize trees as events; a failure after the first one becomes the last event, in OpenAI's shape."""
    begun = False
    async with aclosing(trees):
        try:
            async for tree in trees:
                yield event(tree)
                begun = True
        except Refused as error:
            if not begun:
                raise
            yield event({"type": "error", "error": error_body(error.status, str(error), error.param, error.code)})


def base64_text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
