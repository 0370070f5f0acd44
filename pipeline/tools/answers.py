"""Limits what an MCP server answers before the SDK reads it: its size, and only the fields used here.

The SDK accepts answers of any size, validates results by regular expressions in the server's own schema (which may take
for ever), and decompresses whatever is compressed. A server is a third-party program; none of this may hold up a
conversation.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import httpx2
    from mcp.client._transport import ReadStream, Transport, TransportStreams
    from mcp.shared.message import SessionMessage

MOST = 4 << 20
"""Bytes that may arrive per request; a screenshot has one or two million."""
MOST_PARTS = 100
"""Parts of a result; each is a text, or a note about what is not text."""
MOST_LISTED = 1000
"""Tools in one answer."""
RECONNECT_S = 1.0
"""Seconds between attempts to listen to a server by HTTP, because the server itself may request no delay."""


class TooMuch(Exception):
    """More arrived than was allowed."""


class Allowance:
    """How many bytes may still arrive over one connection; each request renews it."""

    def __init__(self) -> None:
        self.exceeded = False
        self._left = MOST

    def renew(self) -> None:
        self._left = MOST

    def spend(self, size: int) -> None:
        """Count bytes that arrived. Raises TooMuch."""
        self._left -= size
        if self._left < 0:
            self.exceeded = True
            raise TooMuch


@asynccontextmanager
async def narrowed(transport: Transport) -> AsyncIterator[TransportStreams]:
    """Wrap a transport so that only answers arrive."""
    async with transport as (incoming, outgoing):
        yield Answers(incoming), outgoing


class Answers:
    """Filters an SDK ReadStream. It imports the SDK's types only when used, because the SDK is slow to import."""

    def __init__(self, stream: ReadStream[SessionMessage | Exception]) -> None:
        self._stream = stream

    @property
    def last_context(self) -> Any:
        return getattr(self._stream, "last_context", None)

    async def receive(self) -> SessionMessage | Exception:
        """Return the next answer or ping; skip all other messages, because nobody asked for them."""
        from mcp_types import JSONRPCRequest, JSONRPCResponse

        while True:
            item = await self._stream.receive()
            message = getattr(item, "message", None)
            if isinstance(message, JSONRPCResponse):
                message.result = await asyncio.to_thread(used, message.result)
            elif getattr(message, "method", "ping") != "ping" or (
                isinstance(message, JSONRPCRequest) and message.params
            ):
                continue
            return item

    async def aclose(self) -> None:
        await self._stream.aclose()

    def __aiter__(self) -> Answers:
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        import anyio

        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    async def __aenter__(self) -> Answers:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


def used(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parts of a result that Parley reads."""
    kept = {name: value for name, value in result.items() if name not in ("structuredContent", "_meta")}
    if isinstance(tools := kept.get("tools"), list):
        kept["tools"] = [_without(tool, "outputSchema", "icons", "_meta") for tool in tools[:MOST_LISTED]]
    if isinstance(content := kept.get("content"), list):
        kept["content"] = [_without(part, "_meta") for part in content[:MOST_PARTS]]
    return kept


def _without(tree: Any, *names: str) -> Any:
    return {name: value for name, value in tree.items() if name not in names} if isinstance(tree, dict) else tree


def hooks(allowance: Allowance) -> dict[str, list[Any]]:
    """Return an HTTP client's `event_hooks` that count what it receives and refuse compression."""
    import httpx2

    class Counted(httpx2.AsyncByteStream):
        def __init__(self, stream: httpx2.AsyncByteStream) -> None:
            self._stream = stream

        async def __aiter__(self) -> AsyncIterator[bytes]:
            async for piece in self._stream:
                try:
                    allowance.spend(len(piece))
                except TooMuch:
                    raise httpx2.ReadError("more came than was asked for") from None
                yield piece

        async def aclose(self) -> None:
            await self._stream.aclose()

    async def asked(request: httpx2.Request) -> None:
        request.headers["Accept-Encoding"] = "identity"
        if request.method == "GET":
            await asyncio.sleep(RECONNECT_S)
        else:
            allowance.renew()

    async def answered(response: httpx2.Response) -> None:
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise httpx2.ReadError("the answer is packed")
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        response.stream = Counted(response.stream)

    return {"request": [asked], "response": [answered]}
