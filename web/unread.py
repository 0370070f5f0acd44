"""Disconnects clients that do not read what they requested, and keeps nothing that was meant for them."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct

UNREAD_S = 60.0
"""Seconds that a client may leave what was sent unread; it holds a place meanwhile."""
SYSTEM_S = 90.0
"""Seconds after which the system gives up a connection whose other side takes nothing. Longer than any answer waits:
what it had not read is what is left of a connection that was closed."""
LEAST = 16 << 10
"""Bytes of what waits that have to be taken within UNREAD_S: a few a second are as good as none."""

logger = logging.getLogger(__name__)


def drop(transport: asyncio.WriteTransport) -> None:
    """End a connection at once. The system would go on offering what it holds, so it is told to forget that too."""
    connection = transport.get_extra_info("socket")
    if connection is not None and transport.get_write_buffer_size():
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


class UnreadWatch:
    """Of one connection, told when something waits for its client and when nothing does any more."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._timer: asyncio.TimerHandle | None = None
        self._waiting = 0

    def begin(self) -> None:
        """Once whoever is told can hear it: by TLS something waits at once."""
        self._transport.set_write_buffer_limits(high=1, low=0)  # told of what waits; by TLS, 0 is waiting for ever

    def waits(self) -> None:
        self.ends()
        self._waiting = self._transport.get_write_buffer_size()
        self._timer = asyncio.get_running_loop().call_later(UNREAD_S, self._look)

    def ends(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        if self._waiting - self._transport.get_write_buffer_size() < LEAST:
            logger.warning("A client stopped reading its answer and was disconnected.")
            drop(self._transport)
        else:
            self.waits()
