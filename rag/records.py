"""The records that memory returns, and the errors it raises."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Remembered:
    """One turn as it was said.

    `at` is timezone-aware, in the offset it was recorded with, so `at.date()` is the date where the speaker was.
    """

    id: str
    speaker: str
    text: str
    at: datetime
    conversation: str


@dataclass(frozen=True)
class Recalled(Remembered):
    """A turn that fits a question. `score` is 0…1 and comparable within one recall; `why` briefly tells people why."""

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
    """Turns still without a vector, which are found by their words but not yet by their meaning."""
    disk_bytes: int
    progress: float
    """Share of the turns that have their vector, 0…1; shows how far embedding with a new model has come."""


class MemoryFault(RuntimeError):
    """Memory can't do what was asked; the message says why and what to do."""


class MemoryInUse(MemoryFault):
    """Another program has this memory open."""


class MemoryFull(MemoryFault):
    """The disk is full. Nothing was written in part."""
