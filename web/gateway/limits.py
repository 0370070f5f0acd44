"""What one user may have at once and ask in a minute at a gateway, so that nobody takes everything."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from starlette.types import Scope

SOON_S = 1
"""Seconds until a refused request may be sent again: one of the others may have ended."""
MINUTE_S = 60.0
LIGHT = "/static/"
"""Files of the pages, which cost nothing; a browser may ask for all of them at once."""


@dataclass(frozen=True, slots=True)
class Limits:
    talks: int = 3
    requests: int = 12
    a_minute: int = 600
    """Requests in a minute. Pages and programs that talk clause by clause send a few in a second."""


class TooManyRequests(Exception):
    """The user has too many requests under way, or has sent too many lately; the message is one sentence."""

    def __init__(self, message: str, retry_s: int) -> None:
        """`retry_s`: seconds until a retry is worthwhile."""
        super().__init__(message)
        self.retry_s = retry_s


class Requests:
    """The requests under way and of the last minute, by user."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock`: in seconds."""
        self._limits = limits
        self._clock = clock
        self._open: Counter[str] = Counter()
        self._paid: dict[str, float] = {}
        """When each user's allowance will be whole again: each request takes a share, which comes back with time (the
        generic cell rate algorithm, ITU-T I.371)."""

    @contextmanager
    def one(self, name: str, scope: Scope) -> Iterator[None]:
        """Count a user's request for its duration; a conversation is none. Raises TooManyRequests."""
        if scope["type"] != "http" or scope["path"].startswith(LIGHT):
            yield
            return
        most = self._limits.requests
        if self._open[name] >= most:
            raise TooManyRequests(
                f"You already have {most} requests under way here, as many as one user may have: wait until one "
                "of them has ended.",
                SOON_S,
            )
        self._pay(name)
        self._open[name] += 1
        try:
            yield
        finally:
            self._open[name] -= 1
            if not self._open[name]:
                del self._open[name]

    def _pay(self, name: str) -> None:
        now, share = self._clock(), MINUTE_S / self._limits.a_minute
        paid = max(now, self._paid.get(name, now)) + share
        if (wait_s := paid - now - MINUTE_S) > share / 1000:  # sums of shares are not exact
            raise TooManyRequests(
                f"You have sent {self._limits.a_minute} requests in a minute, as many as one user may: wait a moment.",
                math.ceil(wait_s),
            )
        self._paid[name] = paid
