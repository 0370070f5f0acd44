"""What recall needs to know of every turn except its text, in arrays, so that all turns are scanned at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

PAUSE = 3600.0
"""Seconds of silence after which a conversation's next turn begins a new episode."""

_ABSENT = -1
_COLUMNS = {
    "seq": np.int64,
    "conversation": np.int32,
    "episode": np.int32,
    "speaker": np.int32,
    "day": np.int32,
    "words": np.int32,
    "before": np.int32,
    "after": np.int32,
}


@dataclass(frozen=True)
class Entries:
    """Indexed turns in the order they were said; every field has one value per turn.

    `moment`: seconds since 1970; `day`: the date where the speaker was, as an ordinal; `words`: how many.
    """

    seq: Sequence[int]
    id: Sequence[str]
    conversation: Sequence[str]
    speaker: Sequence[str]
    moment: Sequence[float]
    day: Sequence[int]
    words: Sequence[int]


class Catalogue:
    """The turns by position, in the order they were said. Columns are numpy arrays [turns]."""

    def __init__(self) -> None:
        self._columns: dict[str, NDArray[Any]] = {name: np.empty(0, dtype) for name, dtype in _COLUMNS.items()}
        self._episode_words = np.zeros(0, np.int64)
        self._latest = np.zeros(0, np.int64)  # [conversations]: the newest position of each
        self._latest_moment = np.zeros(0)
        self.position: dict[str, int] = {}
        self.conversations: dict[str, int] = {}
        self.speakers: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self.position)

    def add(self, entries: Entries) -> None:
        """Append turns that are newer than all those held."""
        count, first = len(entries.seq), len(self)
        if not count:
            return
        conversation = _numbered(entries.conversation, self.conversations)
        moment = np.array(entries.moment)
        grown = len(self.conversations)
        self._latest = _widened(self._latest, grown, _ABSENT)
        self._latest_moment = _widened(self._latest_moment, grown, -np.inf)

        # Sort by conversation, so that each turn follows the one said before it.
        order = np.argsort(conversation, kind="stable")
        spoken, here = conversation[order], first + order
        opens = np.diff(spoken, prepend=_ABSENT) != 0
        closes = np.append(opens[1:], True)
        before = np.where(opens, self._latest[spoken], np.roll(here, 1))
        since = np.where(opens, self._latest_moment[spoken], np.roll(moment[order], 1))
        starts = np.abs(moment[order] - since) > PAUSE
        before[starts] = _ABSENT

        held = len(self._episode_words)
        episode = held - 1 + np.cumsum(starts)
        goes_on = opens & ~starts
        episode[goes_on] = self["episode"][before[goes_on]]
        episode = episode[np.maximum.accumulate(np.where(opens | starts, np.arange(count), 0))]

        self._reserve(first + count)
        self.position.update(zip(entries.id, range(first, first + count), strict=True))
        new = slice(first, first + count)
        self._columns["seq"][new] = entries.seq
        self._columns["conversation"][new] = conversation
        self._columns["speaker"][new] = _numbered(entries.speaker, self.speakers)
        self._columns["day"][new] = entries.day
        self._columns["words"][new] = entries.words
        self._columns["after"][new] = _ABSENT
        self._columns["before"][here] = before
        self._columns["after"][before[~starts]] = here[~starts]
        self._columns["episode"][here] = episode
        self._episode_words = _widened(self._episode_words, held + int(starts.sum()), 0)
        np.add.at(self._episode_words, episode, np.array(entries.words)[order])
        self._latest[spoken[closes]] = here[closes]
        self._latest_moment[spoken[closes]] = moment[order][closes]

    def __getitem__(self, column: str) -> NDArray[Any]:
        return self._columns[column][: len(self)]

    @property
    def episode_words(self) -> NDArray[np.int64]:
        """Words said in each episode: [episodes]."""
        return self._episode_words

    def positions(self, seqs: NDArray[np.int64]) -> NDArray[np.intp]:
        """Return the positions of ascending seqs; seqs that are not held are left out."""
        held = self["seq"]
        at = np.searchsorted(held, seqs)
        at = at[at < len(held)]
        return np.asarray(at[held[at] == seqs[: len(at)]], dtype=np.intp)

    def _reserve(self, size: int) -> None:
        """Make room for `size` turns, and for half as many again if the columns have to grow."""
        if size > len(self._columns["seq"]):
            self._columns = {name: _widened(column, size + size // 2, 0) for name, column in self._columns.items()}


def _numbered(names: Sequence[str], numbers: dict[str, int]) -> NDArray[np.int64]:
    """Return the number of each name; new names get the next numbers."""
    return np.array([numbers.setdefault(name, len(numbers)) for name in names])


def _widened(column: NDArray[Any], size: int, filling: float) -> NDArray[Any]:
    return np.concatenate([column, np.full(size - len(column), filling, column.dtype)])
