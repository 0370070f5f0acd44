"""What an MCP server answers, before the SDK reads it: within a bound, and only what is used here.

The SDK takes answers of any size, checks results against a schema of the server's by that schema's own patterns (which
may take for ever), and unpacks what comes packed. A server is somebody else's program: none of it may hold up a talk.
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
"""Bytes that may come for each thing that is asked: a picture of a screen has one or two million."""
MOST_PARTS = 100
"""Of a result; each is a text, or a word for what is none."""
MOST_LISTED = 1000
"""Tools in one answer."""
RECONNECT_S = 1.0
"""Between two attempts to listen to a server by HTTP, which may itself ask for none."""


class TooMuch(Exception):
    """More came than was asked for."""


class Allowance:
    """How much may still come over one connection; each question brings it anew."""

    def __init__(self) -> None:
        self.exceeded = False
        self._left = MOST

    def renew(self) -> None:
        self._left = MOST

    def spend(self, size: int) -> None:
        """Raises TooMuch."""
        self._left -= size
        if self._left < 0:
            self.exceeded = True
            raise TooMuch


@asynccontextmanager
async def narrowed(transport: Transport) -> AsyncIterator[TransportStreams]:
    """The same transport, over which only answers come."""
    async with transport as (incoming, outgoing):
        yield Answers(incoming), outgoing


class Answers:
    """An SDK's ReadStream of what another one brings. The SDK's types are known by then: it is heavy to import."""

    def __init__(self, stream: ReadStream[SessionMessage | Exception]) -> None:
        self._stream = stream

    @property
    def last_context(self) -> Any:
        return getattr(self._stream, "last_context", None)

    async def receive(self) -> SessionMessage | Exception:
        """What is neither an answer nor a question whether one is there is passed over: nobody asked for it."""
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
    """What Parley reads of a result."""
    kept = {name: value for name, value in result.items() if name not in ("structuredContent", "_meta")}
    if isinstance(tools := kept.get("tools"), list):
        kept["tools"] = [_without(tool, "outputSchema", "icons", "_meta") for tool in tools[:MOST_LISTED]]
    if isinstance(content := kept.get("content"), list):
        kept["content"] = [_without(part, "_meta") for part in content[:MOST_PARTS]]
    return kept


def _without(tree: Any, *names: str) -> Any:
    return {name: value for name, value in tree.items() if name not in names} if isinstance(tree, dict) else tree


def hooks(allowance: Allowance) -> dict[str, list[Any]]:
    """For an HTTP client's `event_hooks`: what it receives is counted and not unpacked."""
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
