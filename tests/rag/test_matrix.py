"""Vectors compared one and all, whatever is added, replaced and removed in between."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rag.matrix import Matrix

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
