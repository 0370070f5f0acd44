"""Whose voice it is, and what is kept of voices."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pytest

from pipeline.speakers.encoder import SIZE, Direction
from pipeline.speakers.people import FILE_NAME, KNOWN, LIKELY, Heard, People, who

TODAY = date(2026, 11, 20)


def direction(angle: float, axis: int = 1) -> Direction:
    """At an angle (cosine) from the first axis."""
    found = np.zeros(SIZE, np.float32)
    found[0], found[axis] = angle, np.sqrt(1 - angle**2)
    return found


def test_a_voice_is_known_when_it_is_like_enough_and_like_nobody_else(tmp_path: Path) -> None:
    people = People(tmp_path)
    ben = people.learn("Ben", [Heard(direction(1.0), 9.0)], TODAY)
    assert who(Heard(direction(KNOWN + 0.01), 3.0), people.all(), None) == ben
    assert who(Heard(direction(KNOWN - 0.01), 3.0), people.all(), None) is None
    people.learn("Bob", [Heard(direction(0.99, axis=2), 9.0)], TODAY)
    assert who(Heard(direction(0.999, axis=3), 3.0), people.all(), None) is None, "as like the one as the other"


def test_a_short_sound_is_taken_for_the_last_speakers_unless_it_is_unlike(tmp_path: Path) -> None:
    people = People(tmp_path)
    ben = people.learn("Ben", [Heard(direction(1.0), 9.0)], TODAY)
    anna = people.learn("Anna", [Heard(direction(0.0, axis=2), 9.0)], TODAY)
    short = Heard(direction(LIKELY + 0.02), 0.8)
    assert who(short, people.all(), ben) == ben
    assert who(short, people.all(), anna) is None
    assert who(short, people.all(), None) is None
    assert who(Heard(short.direction, 3.0), people.all(), ben) is None


def test_the_first_is_the_owner_and_the_next_one_once_they_are_gone(tmp_path: Path) -> None:
    people = People(tmp_path)
    for name in ("Ben", "Anna"):
        people.learn(name, [Heard(direction(0.5), 9.0)], TODAY)
    assert [(each.name, each.speaker) for each in people.all()] == [("Ben", "user"), ("Anna", "Anna")]
    assert people.forget("ben") and not people.forget("ben")
    assert people.learn("Carla", [Heard(direction(0.5), 9.0)], TODAY).speaker == "user"


def test_more_of_a_voice_makes_it_more_certain(tmp_path: Path) -> None:
    people = People(tmp_path)
    people.learn("Ben", [Heard(direction(0.8), 9.0)], TODAY)
    ben = people.learn("BEN", [Heard(direction(0.8, axis=2), 9.0)], date(2027, 1, 1))
    assert len(people.all()) == 1
    assert (ben.seconds, ben.since) == (18.0, TODAY)
    assert float(ben.direction @ direction(1.0)) > 0.88


def test_what_is_kept_is_read_again_and_gone_when_it_is_deleted(tmp_path: Path) -> None:
    people = People(tmp_path)
    people.learn("Zoë", [Heard(direction(0.6), 9.0)], TODAY)
    (again,) = People(tmp_path).all()
    assert (again.name, again.speaker, again.since) == ("Zoë", "user", TODAY)
    np.testing.assert_allclose(again.direction, direction(0.6), atol=1e-5)
    people.forget_all()
    assert not (tmp_path / FILE_NAME).exists()
    assert People(tmp_path).all() == ()


@pytest.mark.parametrize("content", ["", "[1]", '[{"name": "x", "direction": [1]}]', "{}", '{"a": 1}'])
def test_a_damaged_file_knows_nobody_and_can_be_deleted(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE_NAME).write_text(content)
    people = People(tmp_path)
    assert people.all() == ()
    people.forget_all()
    assert not (tmp_path / FILE_NAME).exists()
