"""The meaning of single words, so that "car" is found by "vehicle" where whole sentences are too unlike."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray


class Vocabulary:
    """Words by number, and a vector for each. Used by one thread at a time."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._vectors = np.empty((0, 0), np.float16)
        self._sum = np.zeros(0)

    def __len__(self) -> int:
        return len(self._numbers)

    def add(self, words: Sequence[str], vectors: NDArray[np.float16]) -> None:
        """vectors: float16 [len(words), dimensions]."""
        if not words:
            return
        held, dimensions = len(self), vectors.shape[1]
        if not held:
            self._vectors, self._sum = np.empty((1024, dimensions), np.float16), np.zeros(dimensions)
        while held + len(words) > len(self._vectors):
            self._vectors = np.concatenate([self._vectors, np.empty_like(self._vectors)])
        self._vectors[held : held + len(words)] = vectors
        self._sum += vectors.astype(np.float64).sum(0)
        self._numbers.update((word, held + offset) for offset, word in enumerate(words))

    def numbers(self, words: Iterable[str]) -> NDArray[np.intp]:
        """Of the words that are known."""
        return np.array([self._numbers[word] for word in words if word in self._numbers], dtype=np.intp)

    def lacking(self, words: Iterable[str]) -> list[str]:
        """Those that aren't known, each once."""
        return [word for word in dict.fromkeys(words) if word not in self._numbers]

    def likeness(self, words: NDArray[np.intp], others: NDArray[np.intp]) -> NDArray[np.float32]:
        """[len(words), len(others)]: cosines of the vectors less their mean, which all words have in common."""
        mean = (self._sum / max(len(self), 1)).astype(np.float32)
        first, second = (self._vectors[numbers].astype(np.float32) - mean for numbers in (words, others))
        first /= np.linalg.norm(first, axis=1, keepdims=True) + 1e-9
        second /= np.linalg.norm(second, axis=1, keepdims=True) + 1e-9
        return np.asarray(first @ second.T, dtype=np.float32)


def best_likeness(
    vocabulary: Vocabulary, terms: Sequence[str], weights: NDArray[np.float64], texts: Sequence[NDArray[np.intp]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How well each text holds something like each of the terms.

    Args:
        weights: [terms]
        texts: the numbers of each text's words

    Returns:
        [terms, texts]: the likeness of the text's word that is most like the term, 0 where there is none;
        and the weights [terms] of those terms that have a vector, 0 for the others.
    """
    best = np.zeros((len(terms), len(texts)))
    known = [index for index, term in enumerate(terms) if len(vocabulary.numbers([term]))]
    kept = np.zeros(len(terms))
    kept[known] = weights[known]
    filled = [index for index, numbers in enumerate(texts) if len(numbers)]
    if known and filled:
        flat = np.concatenate([texts[index] for index in filled])
        distinct, where = np.unique(flat, return_inverse=True)
        likeness = vocabulary.likeness(distinct, vocabulary.numbers([terms[index] for index in known]))[where]
        starts = np.cumsum([0, *(len(texts[index]) for index in filled[:-1])])
        best[np.ix_(known, filled)] = np.maximum.reduceat(likeness, starts, axis=0).T
    return best, kept
