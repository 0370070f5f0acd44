"""The doctor's messages: that a check has begun, its progress, and its finding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Grade = Literal["good", "fair", "bad", "open", "skipped"]

WORDS: Mapping[Grade, str] = {
    "good": "good",
    "fair": "works, but could be better",
    "bad": "does not work",
    "open": "no verdict",
    "skipped": "not tried",
}
"""The grades in words."""


@dataclass(frozen=True, slots=True)
class Verdict:
    grade: Grade
    text: str
    """What was found, and what to do if something is wrong, in whole sentences."""
    seconds: float | None = None
    figures: Mapping[str, float] = field(default_factory=dict)
    """Measurements, by name with unit."""


@dataclass(frozen=True, slots=True)
class Begun:
    check: str
    title: str


@dataclass(frozen=True, slots=True)
class Working:
    """A sign of life from a check that takes a while."""

    check: str
    title: str
    text: str
    passing: bool = False
    """Whether it is one of many that only count up; useful only if a display can replace the last one."""


@dataclass(frozen=True, slots=True)
class Finding:
    check: str
    title: str
    grade: Grade
    text: str
    seconds: float | None = None
    figures: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, check: str, title: str, verdict: Verdict) -> Finding:
        return cls(check, title, verdict.grade, verdict.text, verdict.seconds, verdict.figures)


Step = Begun | Working | Finding
