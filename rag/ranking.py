"""Rankings made one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def fuse(rankings: Sequence[Mapping[str, float]], constant: int = 60) -> dict[str, float]:
    """Reciprocal rank fusion (Cormack, Clarke and Büttcher, SIGIR 2009), scaled so that first everywhere is 1."""
    scores: dict[str, float] = {}
    for ranking in rankings:
        for rank, id in enumerate(ranking, 1):
            scores[id] = scores.get(id, 0.0) + (constant + 1) / (constant + rank) / len(rankings)
    return dict(sorted(scores.items(), key=lambda entry: -entry[1]))
