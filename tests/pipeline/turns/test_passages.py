"""Recordings cut where nobody speaks, whole and in order."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.audio import EAR_RATE, Samples
from pipeline.turns.passages import AROUND_S, LONGEST_S, SILENCE_S, Cutter, Passage


class Loud:
    """Speech is whatever is loud."""

    def probability(self, frame: Samples) -> float:
        return float(min(1.0, np.abs(frame).max()))

    def reset(self) -> None:
        pass


def sound(*parts: tuple[float, float]) -> Samples:
    """Args: seconds, and how loud."""
    return np.concatenate([np.full(round(seconds * EAR_RATE), loud, np.float32) for seconds, loud in parts])


def cut(recording: Samples, at_once: int = 7001) -> list[Passage]:
    cutter = Cutter(Loud())
    passages = [
        passage for at in range(0, len(recording), at_once) for passage in cutter.feed(recording[at : at + at_once])
    ]
    return [*passages, *cutter.finish()]


def test_silence_is_no_passage() -> None:
    assert cut(sound((60, 0.0))) == []
    assert cut(np.zeros(0, np.float32)) == []


def test_a_passage_is_a_voice_with_the_quiet_around_it() -> None:
    (passage,) = cut(sound((5, 0.0), (3, 0.9), (4, 0.0)))
    assert passage.start == pytest.approx(5 - AROUND_S, abs=0.1)
    assert passage.end == pytest.approx(8 + AROUND_S, abs=0.1)


def test_a_long_pause_parts_passages_and_a_short_one_does_not() -> None:
    assert len(cut(sound((2, 0.9), (SILENCE_S + 0.5, 0.0), (2, 0.9)))) == 2
    assert len(cut(sound((2, 0.9), (SILENCE_S - 0.5, 0.0), (2, 0.9)))) == 1


def test_who_never_pauses_is_cut_where_it_is_quietest_and_nothing_is_lost() -> None:
    recording = sound((20, 0.9), (0.2, 0.6), (40, 0.9))
    passages = cut(recording)
    assert all(len(passage.sound) <= (LONGEST_S + 0.1) * EAR_RATE for passage in passages)
    assert passages[0].end == pytest.approx(20.1, abs=0.2)
    whole = np.concatenate([passage.sound for passage in passages])
    assert np.array_equal(whole[: len(recording)], recording)
    assert [passage.start for passage in passages[1:]] == pytest.approx([passage.end for passage in passages[:-1]])


def test_the_longest_pause_of_the_second_half_is_where_it_is_cut() -> None:
    first = cut(sound((16, 0.9), (0.2, 0.0), (4, 0.9), (0.8, 0.0), (30, 0.9)))[0]
    assert first.end == pytest.approx(20.6, abs=0.1)


@pytest.mark.parametrize("at_once", [160, 512, 100_000])
def test_how_it_comes_makes_no_difference(at_once: int) -> None:
    recording = sound((1, 0.0), (3, 0.9), (2, 0.0), (4, 0.8), (3, 0.0))
    starts = [(passage.start, len(passage.sound)) for passage in cut(recording, at_once)]
    assert starts == [(passage.start, len(passage.sound)) for passage in cut(recording)]
