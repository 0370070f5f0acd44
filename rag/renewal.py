"""What was said again, later and differently: the newer word counts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rag.lexical import EMPTY, words
from rag.ranking import Floats
from rag.store import Row

ALIKE = 0.34
"""Share of two turns' words (Jaccard) from which they are taken to speak of the same: "my number is 12", "… is 34"."""
SAME = 0.8
"""From which the older one adds nothing."""
COMPARED = 40
"""How many of the best turns are compared with each other."""


def renewed(rows: Sequence[Row], scores: Floats) -> tuple[Floats, dict[int, int]]:
    """Scores in which a newer turn never stands behind an older one like it; and the older for each such newer.

    Only turns of one speaker are compared. What is said again nearly word for word is shown once, the newest time.
    """
    adjusted, older_of = scores.copy(), dict[int, int]()
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
    return adjusted, older_of


def _alike(texts: Sequence[set[str]]) -> Floats:
    """[texts, texts]: the share of their words that two texts have in common (Jaccard)."""
    numbers: dict[str, int] = {}
    held = np.zeros((len(texts), sum(map(len, texts))), np.float32)
    for row, text in zip(held, texts, strict=True):
        row[[numbers.setdefault(word, len(numbers)) for word in text]] = 1.0
    common = (held @ held.T).astype(np.float64)
    sizes = held.sum(axis=1)
    return np.asarray(common / np.maximum(sizes[:, None] + sizes[None] - common, 1.0))
