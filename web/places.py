"""How many conversations this machine can hold at once, and how many are taken."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from config import Settings

PER_CORE = 3
"""Conversations for each core with the engines of the offline profile: those that hold on two cores, where 95 of 100
answers begin within a second (benchmarks/load.py --gateway, docs/SCALING.md). Faster cores hold more."""

PER_CORE_WRITING = 1
"""The same if a language model computes on the cores, as in the profile small. Cautious, and not measured: while such a
reply is made, Whisper and the language model use two cores in turn."""

WRITING = ("llama", "transformers")
"""The language models that may compute on the cores. The others run elsewhere, on a card, or are rules."""

ENGINES_BYTES = 1_500_000_000
"""Memory that the offline profile's engines, the server and the system around them need."""

EACH_BYTES = 120_000_000
"""Memory of one conversation: mostly the decoder that listens to it."""


def capacity(cores: int, memory_bytes: int, per_core: int = PER_CORE) -> int:
    """Return at least one: whoever has the machine to themselves may try."""
    return max(1, min(per_core * cores, (memory_bytes - ENGINES_BYTES) // EACH_BYTES))


def of_this_machine(settings: Settings) -> int:
    """Return how many conversations this machine holds with the engines of these settings."""
    per_core = PER_CORE_WRITING if settings.mind.engine in WRITING else PER_CORE
    return capacity(os.cpu_count() or 1, psutil.virtual_memory().total, per_core)


FULL_S, CLOSED_S = 5, 1
"""Seconds until a refused client may retry: somebody may have left, or another gateway may have a place."""


class NoPlace(Exception):
    """No further conversation may begin; the message is one sentence."""

    def __init__(self, message: str, retry_s: int, status: int = 503) -> None:
        """
        Args:
            retry_s: seconds until a retry is worthwhile.
            status: of the HTTP response; 503 lets a proxy ask another server.
        """
        super().__init__(message)
        self.retry_s = retry_s
        self.status = status


class Places:
    """One place for each conversation. Once closed, running conversations go on and no new one begins."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.taken = 0
        self.closed: str | None = None
        """Why no conversation may begin; None while they may."""
        self._free = asyncio.Event()
        self._free.set()

    @contextmanager
    def one(self) -> Iterator[None]:
        """Hold a place. Raises NoPlace."""
        if self.closed is not None:
            raise NoPlace(self.closed, CLOSED_S)
        if self.taken >= self.most:
            raise NoPlace(
                f"{self.most} conversations are already open: close one (a tab or a program), then try again.", FULL_S
            )
        self.taken += 1
        self._free.clear()
        try:
            yield
        finally:
            self.taken -= 1
            if not self.taken:
                self._free.set()

    def close(self, why: str) -> None:
        """Let no further conversation begin; `why` is one sentence."""
        self.closed = why

    async def empty(self) -> None:
        """Wait until no conversation runs."""
        await self._free.wait()


class Share(Places):
    """One user's share of the places, so that nobody takes them all."""

    def __init__(self, places: Places, most: int) -> None:
        super().__init__(min(most, places.most))
        self._places = places

    @contextmanager
    def one(self) -> Iterator[None]:
        if self._places.closed is None and self.taken >= self.most:
            raise NoPlace(
                f"You already have {self.most} conversations open here, as many as one user may have: close one (a tab "
                "or a program), then try again.",
                FULL_S,
                429,  # not a 503: another gateway would end the conversations that are open here
            )
        with self._places.one(), super().one():
            yield
