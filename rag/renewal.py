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
    content = {index: set(words(rows[index].text[:2000])) - EMPTY for index in best}
    for newer in sorted(best, key=lambda index: rows[index].seq):
        for older in best:
            if rows[older].seq >= rows[newer].seq or rows[older].speaker != rows[newer].speaker:
                continue
            union = len(content[older] | content[newer])
            alike = len(content[older] & content[newer]) / union if union else 0.0
            if alike >= ALIKE:
                adjusted[newer] = max(adjusted[newer], adjusted[older] + 0.01)
                older_of[newer] = older
            if alike >= SAME:
                adjusted[older] = -np.inf
    return adjusted, older_of
