from __future__ import annotations

import numpy as np
import pytest

from rag.vocabulary import FIRST, Vocabulary, best_likeness


def test_a_word_keeps_its_own_vector_however_words_are_added() -> None:
    chance = np.random.default_rng(0)
    words = [f"word{number}" for number in range(3 * FIRST)]
    vectors = (chance.standard_normal((len(words), 16)) + 3).astype(np.float16)
    vocabulary = Vocabulary()
    for start in range(0, len(words), 70):  # each batch says some words again
        again = slice(max(start - 30, 0), start + 70)
        vocabulary.add(words[again], vectors[again])
    assert len(vocabulary) == len(words)
    first = next(size for size in range(70, len(words), 70) if size >= FIRST)
    centred = vectors.astype(np.float32) - vectors[:first].astype(np.float32).mean(axis=0)
    units = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    some = chance.integers(0, len(words), 50)
    numbers = vocabulary.numbers(words[index] for index in some)
    assert vocabulary.likeness(numbers, numbers) == pytest.approx(units[some] @ units[some].T, abs=1e-3)


def test_the_best_word_of_each_text_and_none_for_what_is_unknown() -> None:
    vocabulary = Vocabulary()
    vocabulary.add(["car", "vehicle", "tea"], np.array([[1, 0.1, 0], [1, 0, 0.1], [-1, 0, 0]], dtype=np.float16))
    texts = [vocabulary.numbers(said) for said in (["vehicle", "tea"], [], ["tea"])]
    best, weights = best_likeness(vocabulary, ["car", "unknown"], np.array([2.0, 1.0]), texts)
    assert weights.tolist() == [2.0, 0.0]
    assert best[0, 0] > 0.9 and best[0, 1] == 0.0 and best[0, 2] < 0 and not best[1].any()
