"""The meaning of single words, so that "vehicle" finds "car" even if the whole sentences are too different."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray

FIRST = 1000
"""Words after which their mean hardly moves any more."""


class Vocabulary:
    """Numbers words and holds a vector for each. Use it from one thread at a time."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._first = np.empty((0, 0), np.float32)
        self._common = np.empty(0, np.float32)
        """The mean vector of the first words."""
        self._units = np.empty((0, 0), np.float32)

    def __len__(self) -> int:
        return len(self._numbers)

    def add(self, words: Sequence[str], vectors: NDArray[np.float16]) -> None:
        """Add words with their vectors, float16 [len(words), dimensions].

        The mean of all words carries no meaning and is subtracted; the first FIRST words determine it.
        """
        fresh = [index for index, word in enumerate(words) if word not in self._numbers]
        if not fresh:
            return
        held, new = len(self), vectors[fresh].astype(np.float32)
        self._numbers.update((words[index], held + offset) for offset, index in enumerate(fresh))
        if held < FIRST:
            self._first = np.concatenate([self._first.reshape(-1, new.shape[1]), new])
            self._common = self._first.mean(axis=0)
            new, held = self._first, 0  # all words so far, because their mean has moved
        while held + len(new) > len(self._units):
            self._units = np.resize(self._units, (max(1024, 2 * len(self._units)), new.shape[1]))
        self._units[held : held + len(new)] = _unit(new - self._common)

    def after(self, count: int) -> Iterator[str]:
        """Return the words in the order of their numbers, without the first `count`."""
        return islice(self._numbers, count, None)

    def numbers(self, words: Iterable[str]) -> NDArray[np.intp]:
        """Return the numbers of the words that are known."""
        return np.array([self._numbers[word] for word in words if word in self._numbers], dtype=np.intp)

    def lacking(self, words: Iterable[str]) -> list[str]:
        """Return the unknown words, each once."""
        return [word for word in dict.fromkeys(words) if word not in self._numbers]

    def likeness(self, words: NDArray[np.intp], others: NDArray[np.intp]) -> NDArray[np.float32]:
        """Return cosines: [len(words), len(others)]."""
        return np.asarray(self._units[words] @ self._units[others].T, dtype=np.float32)


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(vectors / (np.linalg.norm(vectors, axis=1, keepdims=True) + 1e-9), dtype=np.float32)


def best_likeness(
    vocabulary: Vocabulary, terms: Sequence[str], weights: NDArray[np.float64], texts: Sequence[NDArray[np.intp]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Measure how well each text holds something similar to each term.

    Args:
        weights: [terms]
        texts: the numbers of each text's words

    Returns:
        [terms, texts]: the likeness between the term and the text's most similar word, 0 if there is none;
        and weights [terms], set to 0 for terms that have no vector.
    """
    best = np.zeros((len(terms), len(texts)))
    known = [index for index, term in enumerate(terms) if len(vocabulary.numbers([term]))]
    kept = np.zeros(len(terms))
    kept[known] = weights[known]
    filled = [index for index, numbers in enumerate(texts) if len(numbers)]
    if known and filled:
        flat = np.concatenate([texts[index] for index in filled])
        place = np.zeros(len(vocabulary), dtype=np.intp)  # each word's index among the distinct ones
        place[flat] = 1
        distinct = np.flatnonzero(place)
        place[distinct] = np.arange(len(distinct))
        likeness = vocabulary.likeness(distinct, vocabulary.numbers([terms[index] for index in known]))[place[flat]]
        starts = np.cumsum([0, *(len(texts[index]) for index in filled[:-1])])
        best[np.ix_(known, filled)] = np.maximum.reduceat(likeness, starts, axis=0).T
    return best, kept
