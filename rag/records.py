"""What memory hands out, and what can go wrong with it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Remembered:
    """One turn as it was said.

    `at` is timezone-aware, in the offset it was recorded with, so that `at.date()` is the speaker's own day.
    """

    id: str
    speaker: str
    text: str
    at: datetime
    conversation: str


@dataclass(frozen=True)
class Recalled(Remembered):
    """A turn that fits a question: `score` in 0…1 (comparable within one recall), `why` in a few words for people."""

    score: float
    why: str


@dataclass(frozen=True)
class Recall:
    """`text` is ready for a prompt and never longer than the budget; `items` are the turns in it, best first."""

    text: str
    items: tuple[Recalled, ...]

    def __bool__(self) -> bool:
        return bool(self.items)


@dataclass(frozen=True)
class ConversationSummary:
    id: str
    first: datetime
    last: datetime
    turns: int
    opening: str
    """The first words said in it."""


@dataclass(frozen=True)
class MemorySize:
    turns: int
    conversations: int
    waiting: int
    """Turns still without a vector: found by their words, not yet by their meaning."""
    disk_bytes: int
    progress: float
    """Share of the turns that have their vector, 0…1: how far embedding anew by another model has come."""


class MemoryFault(RuntimeError):
    """Memory can't do what was asked; the message says why and what to do."""


class MemoryInUse(MemoryFault):
    """Another program holds this memory."""


class MemoryFull(MemoryFault):
    """There is no room on the disk. Nothing was half written."""
