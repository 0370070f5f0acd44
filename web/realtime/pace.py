"""What was heard by a client that does not report it: as much as real time has allowed since it was sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from pipeline.audio import MOUTH_RATE


class ClientPlayback(Protocol):
    """How much of the replies' sound was heard, in samples at 24 kHz."""

    def begin(self, reply: str) -> None:
        """From here on it is about this one, of which nothing was sent."""

    def sent(self, samples: int) -> None:
        """So many more of it were sent, or soon will be."""

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def drop(self, reply: str) -> None:
        """What is left of that one is not played, nor what is still sent of it."""

    @property
    def paused(self) -> bool: ...

    @property
    def played(self) -> int: ...

    @property
    def left(self) -> float:
        """Seconds until all that was sent will have been played; 0 when it has been, or while it is paused."""


class Pace(ClientPlayback):
    """Supposed: at real time from the moment of sending, without gaps beyond those of the sending."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` gives seconds; a test gives its own."""
        self._clock = clock
        self._sent = 0
        self._played = 0.0
        """Samples, as of `_since`."""
        self._since = clock()
        self._paused = False

    def begin(self, reply: str) -> None:
        """It is played after what is left of the one before."""
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
