"""How many requests are processed at once, and how many may wait; further ones are told when to retry."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

from web.api.audio.errors import SOON_S, Refused

SPEAKING = max(2, os.cpu_count() or 1)
"""Texts that are read aloud at once: CPU engines have a core each, and CSM has eight slots."""
HEARING = 1
"""Passages transcribed at once: Whisper uses all cores. A short recording waits for a passage, not for hours."""
LISTENING = 2
"""Dictations at once: each occupies the ears while somebody speaks, and conversations must still be heard."""
WRITING = 4
"""Replies at once: as many as llama.cpp has slots; a server has its own queue."""
WAITING = 16
"""Requests of one kind that may wait for a place."""


class Queue:
    def __init__(
        self, at_once: int, waiting: int = WAITING, refused: Callable[[str], None] = lambda reason: None
    ) -> None:
        """`refused` is called whenever a request is refused."""
        self._places = asyncio.Semaphore(at_once)
        self._at_once, self._most = at_once, at_once + waiting
        self._refused = refused
        self._inside = 0
        self.working = 0
        """Requests that have a place."""

    @property
    def waiting(self) -> int:
        """Requests that have no place yet."""
        return self._inside - self.working

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Wait for a place. Raises Refused (429) if too many are already waiting."""
        async with self.taken_in(), self.turn():
            yield

    @asynccontextmanager
    async def taken_in(self) -> AsyncIterator[None]:
        """Admit work done piece by piece, each in a turn(). Raises Refused (429) if too many are already waiting."""
        if self._inside >= self._most:
            self._refused("queue_full")
            waiting = self._most - self._at_once
            full = f"{waiting} requests are already waiting" if waiting else "All places are taken"
            raise Refused(429, f"{full}: try again in {SOON_S} s.", None, "queue_full", SOON_S)
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a place for one piece; further pieces queue behind the requests already waiting."""
        async with self._places:
            self.working += 1
            try:
                yield
            finally:
                self.working -= 1


class Queues:
    """One queue for each kind of work."""

    def __init__(self, refused: Callable[[str], None] = lambda reason: None) -> None:
        self.speaking = Queue(SPEAKING, refused=refused)
        self.hearing = Queue(HEARING, refused=refused)
        self.writing = Queue(WRITING, refused=refused)
        self.listening = Queue(LISTENING, waiting=0, refused=refused)  # someone who is already speaking cannot wait

    @property
    def by_kind(self) -> Mapping[str, Queue]:
        return {
            "speaking": self.speaking,
            "hearing": self.hearing,
            "writing": self.writing,
            "listening": self.listening,
        }
