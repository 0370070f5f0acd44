"""Batches calls of several threads: the calls that arrive while a computation runs are computed together next.

No call waits for others: a call that is alone is computed alone, at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Features = NDArray[np.float32]


@dataclass(slots=True, eq=False)
class _Asked:
    features: Features
    answer: Any = None
    error: Exception | None = None
    done: bool = False


class Together:
    def __init__(self, compute: Callable[[Sequence[Features]], Sequence[Any]], most: int) -> None:
        """
        Args:
            compute: computes several arrays of one shape; returns an answer for each.
            most: the largest batch.
        """
        self._compute = compute
        self._most = most
        self._waiting: list[_Asked] = []
        self._computing = threading.Lock()

    def __call__(self, features: Features) -> Any:
        """Return the answer for one array. Raises whatever `compute` raised for its batch."""
        asked = _Asked(features)
        self._waiting.append(asked)
        with self._computing:
            if not asked.done:
                self._answer(asked)
        if asked.error is not None:
            raise asked.error
        return asked.answer

    def _answer(self, first: _Asked) -> None:
        same = [
            each for each in list(self._waiting) if each is not first and each.features.shape == first.features.shape
        ]
        batch = [first, *same[: self._most - 1]]
        for each in batch:
            self._waiting.remove(each)
            each.done = True
        try:
            answers = self._compute([each.features for each in batch])
        except Exception as error:  # noqa: BLE001 - each of their threads raises it
            for each in batch:
                each.error = error
        else:
            for each, answer in zip(batch, answers, strict=True):
                each.answer = answer
