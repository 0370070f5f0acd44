"""Vectors compared one and all, whatever is added, replaced and removed in between."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rag.vectors
from rag import Memory
from rag.matrix import Matrix
from tests.rag.conftest import WordEmbedder

STEPS = st.lists(st.tuples(st.booleans(), st.integers(0, 12), st.integers(0, 2**32 - 1)), max_size=60)


@given(STEPS, st.integers(1, 15))
def test_the_nearest_are_those_of_a_plain_dictionary(steps: list[tuple[bool, int, int]], count: int) -> None:
    matrix, held = Matrix(), dict[str, np.ndarray]()
    for kept, id, seed in steps:
        vector = np.random.default_rng(seed).standard_normal(4).astype(np.float32)
        if kept:
            matrix.put([str(id)], vector[None])
            held[str(id)] = vector
        else:
            matrix.drop([str(id)])
            held.pop(str(id), None)
    asked = np.random.default_rng(0).standard_normal(4).astype(np.float32)
    cosines = {id: float(vector @ asked) for id, vector in held.items()}
    found = matrix.nearest(asked, count)
    assert len(matrix) == len(held)
    assert list(found.values()) == sorted(found.values(), reverse=True)
    np.testing.assert_allclose(list(found.values()), sorted(cosines.values(), reverse=True)[:count], rtol=1e-5)
    assert all(abs(cosines[id] - cosine) < 1e-5 for id, cosine in found.items())


def test_a_large_memory_is_asked_by_chromas_index_and_finds_the_same(
    tmp_path: Path, words: WordEmbedder, long_memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(long_memory, tmp_path / "memory")
    found = []
    for exact in (1200, 1100, 1000):  # the second becomes too large while it is open
        monkeypatch.setattr(rag.vectors, "EXACT", exact)
        with Memory(tmp_path / "memory", embedder=words) as memory:
            memory.warm()
            said = memory.remember("Ann", "My dog is called Rufus.", conversation="c")
            memory.settle()
            vectors = memory._indexer._vectors
            assert vectors is not None and bool(vectors._matrices) == (exact == 1200)
            (vector,) = words.embed(["Ann: turn 7 about topic 0"])
            found.append(vectors.nearest(vector, 5))
            memory.forget(id=said)
            memory.settle()
    for other in found[1:]:
        assert next(iter(other.turn)) == next(iter(found[0].turn))
        np.testing.assert_allclose(sorted(other.turn.values()), sorted(found[0].turn.values()), atol=1e-5)


def test_what_is_corrected_and_forgotten_is_near_no_more(tmp_path: Path, words: WordEmbedder) -> None:
    with Memory(tmp_path, embedder=words) as memory:
        first, second = (memory.remember("Ann", f"My {animal} is called Rufus.") for animal in ("dog", "cat"))
        memory.settle()
        memory.correct(first, "The boiler is broken.")
        memory.forget(id=second)
        memory.settle()
        vectors = memory._indexer._vectors
        assert vectors is not None and vectors._matrices
        (vector,) = words.embed(["Ann: The boiler is broken."])
        nearest = vectors.nearest(vector, 5)
    assert list(nearest.turn) == list(nearest.context) == [first]
    assert nearest.turn[first] == pytest.approx(1.0, abs=1e-5)
