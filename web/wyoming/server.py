"""The TCP server. The protocol has no key, so it listens only on a configured address, and by default not at all."""

from __future__ import annotations

import asyncio
import logging
import socket
from contextlib import suppress

from wyoming.error import Error

from web import unread
from web.api.audio.queue import Queues
from web.service import Service
from web.unread import drop
from web.voices import Voices
from web.wyoming.handler import Handler
from web.wyoming.wire import LINE, write_event

MOST = 16
"""Clients at once; further ones are disconnected."""

logger = logging.getLogger(__name__)


class WyomingServer:
    def __init__(self, service: Service, voices: Voices, queues: Queues) -> None:
        self._service, self._voices, self._queues = service, voices, queues
        self._clients: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self, listener: socket.socket) -> None:
        self._server = await asyncio.start_server(self._connected, sock=listener, limit=LINE)

    async def stop(self) -> None:
        """Disconnect all clients, and wait until their requests have ended."""
        if self._server is not None:
            self._server.close()
        for client in self._clients:
            client.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = asyncio.current_task()
        assert client is not None
        if len(self._clients) >= MOST:
            logger.warning("A Wyoming client was turned away: %d are connected.", MOST)
            told = Error(f"{MOST} clients are already connected: try again later.", "too_many_clients")
            with suppress(ConnectionError, TimeoutError):
                await write_event(writer, told)
            writer.close()
            return
        self._clients.add(client)
        try:
            await Handler(self._service, self._voices, self._queues, reader, writer).run()
            writer.close()
            with suppress(ConnectionError, TimeoutError):
                async with asyncio.timeout(unread.UNREAD_S):
                    await writer.wait_closed()
        except asyncio.CancelledError:
            pass  # by stop(), which waits for it; asyncio's streams would log it as an error
        finally:
            self._clients.discard(client)
            drop(writer.transport)
