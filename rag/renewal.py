"""Find what was said again later and differently: the newer turn counts, and the claims it ends are past."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rag.claims import MANY, SOON, Claim, resolved, standing, told
from rag.grammar import claims as read
from rag.lexical import EMPTY, words
from rag.ranking import Floats
from rag.store import Row

ALIKE = 0.34
"""Share of common words (Jaccard) at which two turns count as being about the same: "my number is 12", "… is 34"."""
SAME = 0.8
"""The same share, at which the older turn adds nothing."""
COMPARED = 40
"""How many of the best turns are compared with each other."""


@dataclass(frozen=True)
class Ended:
    """A claim that no longer holds, with the turn that made it and the turn that ended it, both by index."""

    older: int
    claim: Claim
    newer: int


def ended(turns: Sequence[tuple[str, str, int, Sequence[Claim]]]) -> list[Ended]:
    """Return the ended claims. The turns, in the order they were said, are (speaker, conversation, seq, claims)."""
    found: list[Ended] = []
    standing_of: dict[str, list[tuple[int, Claim]]] = {}
    for newer, (speaker, conversation, seq, claimed) in enumerate(turns):
        held = standing_of.setdefault(speaker, [])
        near = [claim for index, claim in held if turns[index][1] == conversation and turns[index][2] >= seq - SOON]
        said = [claim for one in claimed if (claim := resolved(one, [claim for _, claim in held], near)) is not None]
        for claim in said:
            over = [(older, past) for older, past in held if claim.ends(past)]
            found += [Ended(older, past, newer) for older, past in over]
            held[:] = [entry for entry in held if entry not in over]
        held += [(newer, claim) for claim in standing(said)]
    return found


def renewed(
    rows: Sequence[Row], scores: Floats, claims: Sequence[Sequence[Claim]]
) -> tuple[Floats, dict[int, int], dict[int, str]]:
    """Adjust scores so that a newer turn ranks above an older one that it resembles or whose claim it ends.

    Only turns of one speaker are compared. A statement repeated nearly word for word is shown once, at its newest time.

    Args:
        claims: of each row, as `rag.grammar.claims` returns them; empty for rows whose claims are not read.

    Returns:
        The scores; for each such newer turn, the older one; and for each turn with a past claim, until when it held
        and what it was about: "until May 2026: home", or "corrected: home" if it was corrected right away.
    """
    adjusted, older_of = scores.copy(), dict[int, int]()
    past: dict[int, dict[str, list[str]]] = {}
    order = sorted(range(len(rows)), key=lambda index: rows[index].seq)
    turns = [(rows[index].speaker, rows[index].conversation, rows[index].seq, claims[index]) for index in order]
    for end in ended(turns):
        older, newer = order[end.older], order[end.newer]
        adjusted[newer] = max(adjusted[newer], adjusted[older] + 0.01)
        older_of[newer] = older
        for index in (older, *_echoes(rows, older, newer, end.claim)):
            until = _until(rows[older], rows[newer])
            past.setdefault(index, {}).setdefault(until, []).append(end.claim.label)
    best = [int(index) for index in np.argsort(-scores)[:COMPARED]]
    alike = _alike([set(words(rows[index].text[:2000])) - EMPTY for index in best])
    pairs = [(best[newer], best[older], alike[newer, older]) for newer, older in np.argwhere(alike >= ALIKE).tolist()]
    for newer, older, likeness in sorted(pairs, key=lambda pair: rows[pair[0]].seq):
        if rows[older].seq >= rows[newer].seq or rows[older].speaker != rows[newer].speaker:
            continue
        adjusted[newer] = max(adjusted[newer], adjusted[older] + 0.01)
        older_of[newer] = older
        if likeness >= SAME:
            adjusted[older] = -np.inf
    return adjusted, older_of, {index: _said(ends) for index, ends in past.items()}


def _until(older: Row, newer: Row) -> str:
    if older.conversation == newer.conversation and newer.seq - older.seq <= SOON:
        return "corrected"
    return f"until {newer.at:%b %Y}"


def _said(ends: Mapping[str, Iterable[str]]) -> str:
    return "; ".join(f"{until}: {', '.join(dict.fromkeys(labels))}" for until, labels in ends.items())


def _echoes(rows: Sequence[Row], older: int, newer: int, claim: Claim) -> Iterable[int]:
    """Yield turns in which somebody repeated the claim to the speaker ("You live in Oslo. What is it like there?")."""
    value = set(words(claim.value)) - EMPTY
    if not value:
        return
    for index, row in enumerate(rows):
        if row.speaker == rows[older].speaker or not rows[older].seq < row.seq < rows[newer].seq:
            continue
        said = set(words(row.text[:2000]))
        if not value <= said or said.isdisjoint({"you", "your"}):
            continue
        if claim.attribute not in MANY or any(_same(claim, back) for back in read(_of_you(row.text))):
            yield index


def _same(one: Claim, other: Claim) -> bool:
    return (one.subject, one.attribute, one.holds) == (other.subject, other.attribute, other.holds) and told(
        one.value
    ) == told(other.value)


def _of_you(text: str) -> str:
    """Rephrase "you like olives" from the point of view of the person addressed: "I like olives"."""
    for pattern, own in ((r"\byou are\b|\byou're\b", "I am"), (r"\byour\b", "my"), (r"\byou\b", "I")):
        text = re.sub(pattern, own, text[:2000], flags=re.IGNORECASE)
    return text


def _alike(texts: Sequence[set[str]]) -> Floats:
    """[texts, texts]: the share of their words that two texts have in common (Jaccard)."""
    numbers: dict[str, int] = {}
    held = np.zeros((len(texts), sum(map(len, texts))), np.float32)
    for row, text in zip(held, texts, strict=True):
        row[[numbers.setdefault(word, len(numbers)) for word in text]] = 1.0
    common = (held @ held.T).astype(np.float64)
    sizes = held.sum(axis=1)
    return np.asarray(common / np.maximum(sizes[:, None] + sizes[None] - common, 1.0))
