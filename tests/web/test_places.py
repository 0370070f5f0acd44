"""How many conversations a machine is asked to hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from config import Settings
from config.profiles import PROFILES
from tests.web.conftest import served
from web.places import capacity, of_this_machine

GB = 10**9


@pytest.mark.parametrize(
    ("cores", "memory", "conversations"),
    [(4, 16 * GB, 12), (16, 64 * GB, 48), (4, 2 * GB, 4), (1, 1 * GB, 1)],
    ids=["a small server", "a large one", "little memory", "hardly any"],
)
def test_it_follows_from_cores_and_memory(cores: int, memory: int, conversations: int) -> None:
    assert capacity(cores, memory) == conversations


def test_fewer_where_a_language_model_computes_on_the_cores() -> None:
    offline, small = (PROFILES[name].applied_to(Settings()) for name in ("offline", "small"))
    assert 1 <= of_this_machine(small) < of_this_machine(offline)


async def test_a_change_of_engines_changes_the_places(tmp_path: Path) -> None:
    async with served(tmp_path) as running:
        before = running.service.places.most
        assert before == of_this_machine(running.service.settings)
        await running.service.change(lambda now: PROFILES["small"].applied_to(now))
        assert running.service.places.most == of_this_machine(running.service.settings) < before
