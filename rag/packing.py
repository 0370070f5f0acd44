"""Format the recalled turns as text for a prompt: as much of what matters as the budget allows."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence

import numpy as np

from rag.ranking import Floats
from rag.store import Row

BREVITY = 0.6
"""How much a turn's length counts against it: this times the logarithm of its characters is taken off its score."""


LONG = 480
"""Characters of a turn that are shown, a fifth of the usual budget; LoCoMo's longest turn has about 450."""

_SENTENCE = re.compile(r"(?<=[.!?…。！？])\s+")


def header(row: Row) -> str:
    return f"[{row.at.day} {row.at:%b %Y}]"


def line(row: Row, terms: Sequence[str] = (), past: str = "") -> str:
    """Format a turn as exactly one line, so that no text can pass for another turn or another day.

    `past`: what the turn claims that is no longer true, and until when it was.
    """
    since = f" ({past})" if past else ""
    return f"{' '.join(row.speaker.split())}{since}: {excerpt(row.text, terms)}"


def excerpt(text: str, terms: Sequence[str]) -> str:
    """Return the turn as it is shown: whole or, if longer than LONG, its sentences that hold the most terms."""
    text = " ".join(text.split())
    if len(text) <= LONG:
        return text
    sentences = [part for whole in _SENTENCE.split(text) for part in textwrap.wrap(whole, LONG // 2)]
    wanted = [sum(term[:6] in sentence.lower() for term in terms) for sentence in sentences]
    room, kept = LONG, set[int]()
    for index in sorted(range(len(sentences)), key=lambda index: (-wanted[index], index)):
        if len(sentences[index]) + 3 <= room:
            room -= len(sentences[index]) + 3
            kept.add(index)
        elif not wanted[index]:
            break
    gaps = ["" if index == 0 or index - 1 in kept else "… " for index in sorted(kept)]
    return " ".join(gap + sentences[index] for gap, index in zip(gaps, sorted(kept), strict=True))


def pack(
    rows: Sequence[Row], scores: Floats, budget: int, terms: Sequence[str] = (), past: Mapping[int, str] | None = None
) -> tuple[str, list[int]]:
    """Return the text, at most `budget` characters, by day in the order of the turns; and the rows in it, best first.

    Rows whose score is minus infinity are left out. `terms`: the question's words, used to shorten very long turns.
    `past`: by row, which of its claims are no longer true.
    """
    lines = [line(row, terms, (past or {}).get(index, "")) for index, row in enumerate(rows)]
    worth = scores - BREVITY * np.log([len(text) + 8 for text in lines])
    used, days, taken = 0, set[str](), []
    for index in np.argsort(-worth):
        if worth[index] == -np.inf:
            break
        cost = len(lines[index]) + 1
        if used + cost - 1 > budget:
            continue
        day = header(rows[index])
        cost += 0 if day in days else len(day) + 1
        if used + cost - 1 > budget:
            continue
        used += cost
        days.add(day)
        taken.append(int(index))
    parts: list[str] = []
    shown = None
    for index in sorted(taken, key=lambda index: (rows[index].at, rows[index].seq)):
        if header(rows[index]) != shown:
            shown = header(rows[index])
            parts.append(shown)
        parts.append(lines[index])
    return "\n".join(parts), sorted(taken, key=lambda index: -scores[index])
