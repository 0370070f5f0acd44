"""What one user may have at once at a gateway, so that nobody takes everything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from starlette.types import Scope

SOON_S = 1
"""Seconds until a refused request may be sent again: one of the others may have ended."""
LIGHT = "/static/"
"""Files of the pages, which cost nothing; a browser may ask for all of them at once."""


@dataclass(frozen=True, slots=True)
class Limits:
    talks: int = 3
    requests: int = 12


class TooManyRequests(Exception):
    """The user has too many requests under way; the message is one sentence."""


class Requests:
    """The requests under way, by user."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: Counter[str] = Counter()

    @contextmanager
    def one(self, name: str, scope: Scope) -> Iterator[None]:
        """Count a user's request for its duration; a conversation is none. Raises TooManyRequests."""
        if scope["type"] != "http" or scope["path"].startswith(LIGHT):
            yield
            return
        if self._open[name] >= self._most:
            raise TooManyRequests(
                f"You already have {self._most} requests under way here, as many as one user may have: wait until one "
                "of them has ended."
            )
        self._open[name] += 1
        try:
            yield
        finally:
            self._open[name] -= 1
            if not self._open[name]:
                del self._open[name]
