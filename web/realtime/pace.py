"""Estimates what was heard by a client that does not report it: as much as real time has allowed since it was sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from pipeline.audio import MOUTH_RATE


class ClientPlayback(Protocol):
    """How much of the replies' sound has been heard, in samples at 24 kHz."""

    def begin(self, reply: str) -> None:
        """Start counting for this reply, of which nothing has been sent yet."""

    def sent(self, samples: int) -> None:
        """Count this many more samples as sent, or about to be sent."""

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def drop(self, reply: str) -> None:
        """Discard the rest of this reply: neither what is queued nor what still arrives is played."""

    @property
    def paused(self) -> bool: ...

    @property
    def played(self) -> int: ...

    @property
    def left(self) -> float:
        """Seconds until everything sent has been played; 0 once it has been, or while playback is paused."""


class Pace(ClientPlayback):
    """Assumes playback in real time from the moment of sending, with no gaps other than those in sending."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` returns seconds; a test passes its own."""
        self._clock = clock
        self._sent = 0
        self._played = 0.0
        """Samples played as of `_since`."""
        self._since = clock()
        self._paused = False

    def begin(self, reply: str) -> None:
        """Start counting for this reply, which is played after what remains of the previous one."""
        self._settle()
        self._sent, self._played, self._paused = 0, min(0.0, self._played - self._sent), False

    def drop(self, reply: str) -> None:
        self._settle()
        self._played = self._sent

    def sent(self, samples: int) -> None:
        self._settle()
        self._sent += samples

    def pause(self) -> None:
        self._settle()
        self._paused = True

    def resume(self) -> None:
        self._settle()
        self._paused = False

    @property
    def paused(self) -> bool:
        return self._paused

    @property
    def played(self) -> int:
        self._settle()
        return max(0, int(self._played))

    @property
    def left(self) -> float:
        self._settle()
        return 0.0 if self._paused else (self._sent - self._played) / MOUTH_RATE

    def _settle(self) -> None:
        now = self._clock()
        if not self._paused:
            self._played = min(self._sent, self._played + (now - self._since) * MOUTH_RATE)
        self._since = now
