"""One record for each turn: when each thing happened, what was decided, and why."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field, fields
from typing import Any

MARKS = (
    "speech_started",
    "speech_ended",
    "soft_end",
    "decided",
    "transcript_final",
    "recalled",
    "first_token",
    "first_clause",
    "first_sample",
    "first_sent",
    "first_heard",
    "reply_made",
    "reply_done",
)


WORDS = ("user", "reply", "heard")
"""The fields of a record that hold what was said."""
LENGTH = re.compile(r"\d+ characters")
"""What those fields hold instead if words are not kept."""


@dataclass(slots=True)
class TurnRecord:
    """Times are in seconds on the conversation's clock; a mark that was never reached is absent."""

    conversation: str
    turn: int
    revision: int = 0
    at: str = ""
    """Wall-clock time the turn began, ISO 8601 with zone."""
    marks: dict[str, float] = field(default_factory=dict)
    user: str = ""
    reply: str = ""
    heard: str = ""
    outcome: str = ""
    why: str = ""
    end_of_turn: str = ""
    """Which strategy ended the turn, and on what figure."""
    speculations: int = 0
    wasted_tokens: int = 0
    notes: list[str] = field(default_factory=list)

    def mark(self, name: str, at: float) -> None:
        """Record the time of a mark, unless it already has one. Raises ValueError for an unknown mark."""
        if name not in MARKS:
            raise ValueError(f"unknown mark {name!r}")
        self.marks.setdefault(name, at)

    def since_speech_ended(self, name: str) -> float | None:
        """Return the seconds from the last sample of speech to a mark; None if either is unknown."""
        if name not in self.marks or "speech_ended" not in self.marks:
            return None
        return self.marks[name] - self.marks["speech_ended"]

    def as_dict(self, *, words: bool = True) -> dict[str, Any]:
        """Return the record for JSON; if not `words`, it holds nothing that was said."""
        return asdict(self) if words else wordless(asdict(self))

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> TurnRecord:
        names = {entry.name for entry in fields(cls)}
        return cls(**{name: value for name, value in record.items() if name in names})


def wordless(record: dict[str, Any]) -> dict[str, Any]:
    """Replace each text of a record, in the form of `as_dict`, by its length."""
    return {name: _length(str(value)) if name in WORDS else value for name, value in record.items()}


def _length(text: str) -> str:
    return text if LENGTH.fullmatch(text) else f"{len(text)} characters"
