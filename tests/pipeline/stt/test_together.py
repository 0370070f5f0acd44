"""Calls of several threads, computed as one."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import numpy as np
import pytest

from pipeline.stt.together import Features, Together


def until(condition: Callable[[], bool]) -> None:
    """What other threads do; a test that has failed ends by its time limit."""
    while not condition():
        time.sleep(0.001)


class Sum:
    """Adds up each array; the first computation lasts until it is let go."""

    def __init__(self, most: int = 3) -> None:
        self.batches: list[int] = []
        self.go_on = Event()
        self.together = Together(self, most)

    def __call__(self, features: Sequence[Features]) -> Sequence[float]:
        self.batches.append(len(features))
        if len(self.batches) == 1:
            self.go_on.wait()
        if any(each.min() < 0 for each in features):
            raise ValueError("negative")
        return [float(each.sum()) for each in features]

    def of(self, sums: Sequence[Features]) -> list[float | BaseException]:
        """The first is computed alone, while the others come."""
        with ThreadPoolExecutor(len(sums)) as threads:
            first = threads.submit(self.together, sums[0])
            until(lambda: bool(self.batches))
            others = [threads.submit(self.together, each) for each in sums[1:]]
            until(lambda: len(self.together._waiting) == len(others))
            self.go_on.set()
            return [error if (error := each.exception()) else each.result() for each in (first, *others)]


def test_those_that_come_meanwhile_are_one_batch_and_each_gets_its_own_answer() -> None:
    computed = Sum()
    assert computed.of([np.full(2, number, np.float32) for number in range(1, 6)]) == [2, 4, 6, 8, 10]
    assert computed.batches == [1, 3, 1], "never more than three"


def test_only_what_has_the_same_shape_goes_together() -> None:
    computed = Sum()
    assert computed.of([np.ones(size, np.float32) for size in (2, 3, 4, 3)]) == [2, 3, 4, 3]
    assert sorted(computed.batches) == [1, 1, 2]


def test_a_failure_is_told_to_each_of_its_batch_and_to_no_other() -> None:
    computed = Sum(most=2)
    one, *others = computed.of([np.ones(1, np.float32), *(np.full(1, -1, np.float32) for _ in range(2))])
    assert one == 1 and all(isinstance(other, ValueError) for other in others)
    assert computed.together(np.ones(1, np.float32)) == 1


@pytest.mark.parametrize("most", [1, 3])
def test_whoever_is_alone_is_computed_at_once(most: int) -> None:
    computed = Sum(most)
    computed.go_on.set()
    assert computed.together(np.ones(4, np.float32)) == 4
