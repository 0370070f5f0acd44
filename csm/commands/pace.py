"""Reads requests from a socket, but not from a client that sends next to nothing."""

from __future__ import annotations

import io
import socket
import time
from typing import Any

__all__ = ["PacedReader"]

LEAST = 16 << 10
"""Bytes that must arrive in the time given; a request that is shorter must be complete by then."""


class PacedReader(io.RawIOBase):
    """Each LEAST bytes of a request, or its end, must arrive within `patience_s` seconds of waiting for them."""

    def __init__(self, connection: socket.socket, patience_s: float) -> None:
        self._connection, self._patience_s = connection, patience_s
        self.begin()

    def begin(self) -> None:
        """A new request may begin."""
        self._waited = 0.0
        self._read = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Raises TimeoutError."""
        left = self._patience_s - self._waited
        if left <= 0:
            raise TimeoutError
        began = time.monotonic()
        self._connection.settimeout(left)
        try:
            count = self._connection.recv_into(buffer)
        finally:
            self._connection.settimeout(self._patience_s)  # which is for answers
        self._waited += time.monotonic() - began
        self._read += count
        if self._read >= LEAST:
            self.begin()
        return count
