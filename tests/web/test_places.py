"""How many conversations a machine is asked to hold."""

from __future__ import annotations

import pytest

from web.places import capacity

GB = 10**9


@pytest.mark.parametrize(
    ("cores", "memory", "conversations"),
    [(4, 16 * GB, 20), (16, 64 * GB, 80), (4, 2 * GB, 4), (1, 1 * GB, 1)],
    ids=["a small server", "a large one", "little memory", "hardly any"],
)
def test_it_follows_from_cores_and_memory(cores: int, memory: int, conversations: int) -> None:
    assert capacity(cores, memory) == conversations
