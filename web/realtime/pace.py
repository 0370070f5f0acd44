"""What was heard by a client that does not say: as much as real time has allowed since it was sent."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.audio import MOUTH_RATE


class Pace:
    """Playback at real time from the moment of sending, without gaps beyond those of the sending."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` gives seconds; a test gives its own."""
        self._clock = clock
        self._sent = 0
        self._played = 0.0
        """Samples, as of `_since`."""
        self._since = clock()
        self._paused = False

    def begin(self) -> None:
        """A new reply: nothing of it was sent."""
        self._sent, self._played, self._paused = 0, 0.0, False
        self._since = self._clock()

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
    def played(self) -> int:
        self._settle()
        return int(self._played)

    @property
    def left(self) -> float:
        """Seconds until all that was sent will have been played; 0 when it has been, or while it is paused."""
        self._settle()
        return 0.0 if self._paused else (self._sent - self._played) / MOUTH_RATE

    def _settle(self) -> None:
        now = self._clock()
        if not self._paused:
            self._played = min(self._sent, self._played + (now - self._since) * MOUTH_RATE)
        self._since = now
