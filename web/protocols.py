"""uvicorn's protocols, which here do not keep a connection for a client that sends or reads next to nothing."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from web.unread import UnreadWatch

REQUEST_S = 10.0
"""Seconds within which the head of a request must arrive, and what is left of its body once it has been answered."""
UNREAD = 1 << 20
"""Bytes that may wait for a client that keeps sending requests."""


class Http(HttpToolsProtocol):
    """uvicorn's protocol, which here drops a connection whose request stays incomplete or whose answer is not read."""

    _patience: asyncio.TimerHandle | None = None
    _unread: UnreadWatch

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        super().connection_made(transport)
        self._unread = UnreadWatch(transport)
        self._unread.begin()
        self._wait()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread.waits()

    def resume_writing(self) -> None:
        self._unread.ends()
        super().resume_writing()

    def handle_websocket_upgrade(self) -> None:
        self.transport.set_write_buffer_limits()  # a WebSocket has limits of its own
        super().handle_websocket_upgrade()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._wait()

    def on_headers_complete(self) -> None:
        self._stop_waiting()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._stop_waiting()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.cycle.response_complete and self.cycle.more_body:
            self._wait()  # for the rest of a body that nobody wants any more

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        self._unread.ends()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._stop_waiting()
        self._patience = self.loop.call_later(REQUEST_S, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None


class RealtimeSocket(WebSocketsSansIOProtocol):
    """uvicorn's protocol, which here drops a client that sends pings but never reads the pongs.

    uvicorn 0.54 logs an error for each refused handshake, although it is complete, and for each client that it dropped
    while something was being sent: the client had answered no ping, or broken the protocol.
    """

    async def send(self, message: Any) -> None:
        if self.close_sent and message["type"] == "websocket.send":
            raise ClientDisconnected
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body", False):
            self.handshake_complete = True

    def handle_ping(self) -> None:
        super().handle_ping()
        if self.transport.get_write_buffer_size() > UNREAD:
            self.transport.abort()
