"""A Chroma server, to which no request takes forever: each has a deadline, and its answer a largest size.

Chroma's own client waits without limit. Its session is given a network of ours before it sends anything.
"""

from __future__ import annotations

import socket
import threading
import time
import weakref
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import httpcore
import httpx

from rag.records import MemoryFault

if TYPE_CHECKING:
    from chromadb.api.client import Client

DEADLINE_S = 10.0
"""Seconds for a whole request: to connect, to send it, and to read all of its answer."""
MOST_BYTES = 256 << 20
"""Of an answer; the ids of a million turns are 40 MB."""
PIECE = 1 << 16
"""Bytes that are handed to the network at once: its timeout is that of one sending, not of them all."""


@dataclass(frozen=True)
class ChromaServer:
    """The address of a Chroma server; `token`, if any, is sent as a bearer token."""

    host: str
    port: int = 8000
    ssl: bool = False
    token: str | None = None


class ServerLink:
    """All requests to one server, from any thread."""

    def __init__(self, server: ChromaServer) -> None:
        self.server = server
        self._lock = threading.Lock()
        self._ended = False
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._request = _Request()

    def connect(self) -> Client:
        """Return a client of the server. Raises what Chroma raises."""
        from chromadb.api.client import Client  # slow to import: only when needed
        from chromadb.config import Settings

        link = self

        class LinkedClient(Client):
            """Chroma's client, which sends its first requests while it is made."""

            def get_user_identity(self) -> Any:
                link._guard(cast(Any, self._server)._session)
                return super().get_user_identity()

            def _validate_tenant_database(self, tenant: str, database: str) -> None:
                link._guard(cast(Any, self._admin_client)._server._session)
                super()._validate_tenant_database(tenant, database)

        server = self.server
        settings = Settings(
            anonymized_telemetry=False,
            chroma_api_impl="chromadb.api.fastapi.FastAPI",
            chroma_server_host=server.host,
            chroma_server_http_port=server.port,
            chroma_server_ssl_enabled=server.ssl,
            chroma_server_headers={"Authorization": f"Bearer {server.token}"} if server.token else {},
        )
        return LinkedClient(settings=settings)

    def end(self) -> None:
        """Send nothing more. Requests under way fail at once."""
        with self._lock:
            self._ended = True
            for each in self._sockets:
                _shut(each)

    @property
    def seconds(self) -> float:
        """What is left of this thread's request. Raises httpcore.TimeoutException if nothing is."""
        left = self._request.until - time.monotonic()
        if left <= 0:
            raise httpcore.ReadTimeout(f"it did not answer completely within {DEADLINE_S:.0f} s")
        return left

    def opened(self, connection: socket.socket) -> None:
        with self._lock:
            self._sockets.add(connection)
            if self._ended:
                _shut(connection)

    def received(self, count: int) -> None:
        """Count what this thread's request received. Raises httpcore.ProtocolError if it is too much."""
        self._request.room -= count
        if self._request.room < 0:
            raise httpcore.RemoteProtocolError(f"it sent more than {MOST_BYTES >> 20} MB")

    def _guard(self, session: httpx.Client) -> None:
        session.event_hooks = {"request": [self._begin], "response": [_plain]}
        for transport in (session._transport, *session._mounts.values()):
            if isinstance(transport, httpx.HTTPTransport):
                transport._pool._network_backend = _Network(transport._pool._network_backend, self)

    def _begin(self, request: httpx.Request) -> None:
        if self._ended:
            raise MemoryFault("The memory is being closed.")
        request.headers["Accept-Encoding"] = "identity"
        self._request.until = time.monotonic() + DEADLINE_S
        self._request.room = MOST_BYTES


class _Request(threading.local):
    """Until when the request that this thread has under way must be over, and the bytes that its answer may still
    have."""

    until = 0.0
    room = 0


def _plain(answer: httpx.Response) -> None:
    """Refuse a packed answer, which could be of any size once unpacked."""
    if answer.headers.get("Content-Encoding", "identity") != "identity":
        raise httpx.DecodingError("it sent a packed answer, which nobody asked for")


def _shut(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)  # wakes the thread that reads from it, which close() would not


class _Network(httpcore.NetworkBackend):
    """httpcore's network, within the bounds of each request."""

    def __init__(self, network: httpcore.NetworkBackend, link: ServerLink) -> None:
        self._network, self._link = network, link

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        stream = self._network.connect_tcp(host, port, self._link.seconds, local_address, socket_options)
        return _Stream(stream, self._link)


class _Stream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream, link: ServerLink) -> None:
        self._stream, self._link = stream, link
        link.opened(stream.get_extra_info("socket"))

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        piece = self._stream.read(max_bytes, self._link.seconds)
        self._link.received(len(piece))
        return piece

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for start in range(0, len(buffer), PIECE):
            self._stream.write(buffer[start : start + PIECE], self._link.seconds)

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, self._link.seconds), self._link)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
