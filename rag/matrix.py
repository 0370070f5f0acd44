"""Vectors in main memory, compared with a question one and all: exact, and up to some size faster than an index."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


class Matrix:
    """Unit vectors by id, in one array. May be used from several threads."""

    def __init__(self) -> None:
        self._ids: list[str] = []
        self._place: dict[str, int] = {}
        self._vectors = np.empty((0, 0), np.float32)
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._ids)

    def put(self, ids: Sequence[str], vectors: NDArray[np.float32]) -> None:
        """Add vectors [len(ids), dimensions]; those of ids that are held are replaced."""
        with self._lock:
            new = [id for id in dict.fromkeys(ids) if id not in self._place]
            self._place.update(zip(new, range(len(self), len(self) + len(new)), strict=True))
            self._ids += new
            if len(self) > len(self._vectors):  # half as many again, so that adding one by one copies little
                grown = np.zeros((len(self) + len(self) // 2, vectors.shape[1]), np.float32)
                grown[: len(self._vectors)] = self._vectors.reshape(-1, vectors.shape[1])
                self._vectors = grown
            self._vectors[[self._place[id] for id in ids]] = vectors

    def drop(self, ids: Sequence[str]) -> None:
        """Remove these ids; the last vector takes the place of each, and what it leaves is overwritten with zeros."""
        with self._lock:
            for id in ids:
                place = self._place.pop(id, None)
                if place is None:
                    continue
                last = self._ids.pop()
                if last != id:
                    self._ids[place], self._place[last] = last, place
                    self._vectors[place] = self._vectors[len(self)]
                self._vectors[len(self)] = 0.0

    def nearest(self, vector: NDArray[np.float32], count: int) -> dict[str, float]:
        """Return the ids of the `count` nearest to a unit vector [dimensions] with their cosines, best first."""
        with self._lock:
            if not self._ids:
                return {}
            cosines = self._vectors[: len(self)] @ vector
            best = np.arange(len(cosines))
            if count < len(cosines):
                best = np.argpartition(-cosines, count)[:count]
            best = best[np.argsort(-cosines[best], kind="stable")]
            return {self._ids[place]: float(cosines[place]) for place in best.tolist()}
