"""The recalled turns as text for a prompt: as much of what matters as the budget holds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rag.ranking import Floats
from rag.store import Row

BREVITY = 0.6
"""How much a turn's length counts against it: its score less this times the logarithm of its characters."""


def header(row: Row) -> str:
    return f"[{row.at.day} {row.at:%b %Y}]"


def line(row: Row) -> str:
    """One line whatever was said, so that no text can pass for another turn or another day."""
    return f"{' '.join(row.speaker.split())}: {' '.join(row.text.split())}"


def pack(rows: Sequence[Row], scores: Floats, budget: int) -> tuple[str, list[int]]:
    """The text, at most `budget` characters, by day in the order of saying; and which rows are in it, best first.

    A row whose score is minus infinity is left out.
    """
    lines = [line(row) for row in rows]
    worth = scores - BREVITY * np.log([len(text) + 8 for text in lines])
    used, days, taken = 0, set[str](), []
    for index in np.argsort(-worth):
        if worth[index] == -np.inf:
            break
        row = rows[index]
        cost = len(lines[index]) + 1 + (0 if header(row) in days else len(header(row)) + 1)
        if used + cost - 1 > budget:
            continue
        used += cost
        days.add(header(row))
        taken.append(int(index))
    parts: list[str] = []
    shown = None
    for index in sorted(taken, key=lambda index: (rows[index].at, rows[index].seq)):
        if header(rows[index]) != shown:
            shown = header(rows[index])
            parts.append(shown)
        parts.append(lines[index])
    return "\n".join(parts), sorted(taken, key=lambda index: -scores[index])
