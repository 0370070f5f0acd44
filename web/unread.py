"""Disconnects clients that do not read what they requested, and discards what was meant for them."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct

UNREAD_S = 60.0
"""Seconds that a client may leave data unread; it holds a place meanwhile."""
SYSTEM_S = 90.0
"""Seconds after which the system drops a connection whose other side accepts nothing. Longer than any answer waits, so
it affects only the unread rest of closed connections."""
LEAST = 16 << 10
"""Bytes that a client must read within UNREAD_S if more is waiting: a few per second are as good as none."""

logger = logging.getLogger(__name__)


def drop(transport: asyncio.WriteTransport) -> None:
    """End a connection at once, and make the system discard the data that it would otherwise go on offering."""
    connection = transport.get_extra_info("socket")
    if connection is not None and transport.get_write_buffer_size():
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


class UnreadWatch:
    """Watches one connection; it is told when data waits for the client and when none does any more."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._timer: asyncio.TimerHandle | None = None
        self._waiting = 0

    def begin(self) -> None:
        """Start watching. Call this once the protocol can be notified: over TLS, data waits at once."""
        self._transport.set_write_buffer_limits(high=1, low=0)  # reports any waiting data; high=0 would hang under TLS

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
