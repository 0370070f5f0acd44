"""The talks beside this file (talks/*.toml): what was said, what is asked later, and which turns answer it."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from rag import Remembered

FOLDER = Path(__file__).with_suffix("")


@dataclass(frozen=True)
class Asked:
    text: str
    asker: str
    evidence: frozenset[str]
    """The ids of the turns that answer it."""


@dataclass(frozen=True)
class Talks:
    owner: str
    turns: list[Remembered]
    questions: list[Asked]
    now: datetime
    """When the questions are asked."""


def talks(language: str) -> Talks:
    """Read the talks in a language, by its two-letter code.

    Raises:
        ValueError: a question's evidence is in no turn, or in more than one.
    """
    held = tomllib.loads((FOLDER / f"{language}.toml").read_text(encoding="utf-8"))
    turns = [
        Remembered(f"{number}.{place}", speaker, text, _at(talk["at"], place), f"talk {number}")
        for number, talk in enumerate(held["talks"])
        for place, line in enumerate(talk["turns"])
        for speaker, text in [line.split(": ", 1)]
    ]
    questions = [
        Asked(
            question["ask"],
            question.get("asker", held["owner"]),
            frozenset(_holding(words, turns) for words in question["found"]),
        )
        for question in held["questions"]
    ]
    return Talks(held["owner"], turns, questions, held["now"].astimezone())


def _at(start: datetime, place: int) -> datetime:
    return (start + timedelta(seconds=15 * place)).astimezone()


def _holding(words: str, turns: list[Remembered]) -> str:
    holding = [turn.id for turn in turns if words in turn.text]
    if len(holding) != 1:
        raise ValueError(f"{len(holding)} turns hold “{words}”; name a part of one.")
    return holding[0]
