"""What recall must know of every turn, without its text: in arrays, so that all turns are looked at in one stroke."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

PAUSE = 3600.0
"""Seconds of silence after which a conversation's next turn begins a new episode."""

_ABSENT = -1


@dataclass(frozen=True)
class Entry:
    """An indexed turn. `moment`: seconds since 1970; `day`: its speaker's own day, as an ordinal; `words`: how many."""

    seq: int
    id: str
    conversation: str
    speaker: str
    moment: float
    day: int
    words: int


class Catalogue:
    """Turns by position, in the order of saying. Columns are numpy arrays [turns]."""

    def __init__(self) -> None:
        self._columns: dict[str, NDArray[Any]] = {
            "seq": np.empty(64, np.int64),
            "conversation": np.empty(64, np.int32),
            "episode": np.empty(64, np.int32),
            "speaker": np.empty(64, np.int32),
            "day": np.empty(64, np.int32),
            "words": np.empty(64, np.int32),
            "before": np.empty(64, np.int32),
            "after": np.empty(64, np.int32),
        }
        self._episode_words = np.zeros(64, np.int64)
        self._episodes = 0
        self._latest: dict[int, tuple[int, float]] = {}  # conversation: its newest position and moment
        self.ids: list[str] = []
        self.position: dict[str, int] = {}
        self.conversations: dict[str, int] = {}
        self.speakers: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def newest(self) -> int:
        """The last seq held; 0 when empty."""
        return int(self._columns["seq"][len(self) - 1]) if self.ids else 0

    def add(self, entries: Iterable[Entry]) -> None:
        """In the order of saying, newer than what is held."""
        for entry in entries:
            here = len(self)
            if here == len(self._columns["seq"]):
                self._columns = {name: np.resize(column, 2 * here) for name, column in self._columns.items()}
            conversation = self.conversations.setdefault(entry.conversation, len(self.conversations))
            before, moment = self._latest.get(conversation, (_ABSENT, -np.inf))
            if before == _ABSENT or abs(entry.moment - moment) > PAUSE:
                before, episode = _ABSENT, self._new_episode()
            else:
                episode = int(self._columns["episode"][before])
                self._columns["after"][before] = here
            self._episode_words[episode] += entry.words
            self._latest[conversation] = (here, entry.moment)
            for name, value in {
                "seq": entry.seq,
                "conversation": conversation,
                "episode": episode,
                "speaker": self.speakers.setdefault(entry.speaker, len(self.speakers)),
                "day": entry.day,
                "words": entry.words,
                "before": before,
                "after": _ABSENT,
            }.items():
                self._columns[name][here] = value
            self.position[entry.id] = here
            self.ids.append(entry.id)

    def __getitem__(self, column: str) -> NDArray[Any]:
        return self._columns[column][: len(self)]

    @property
    def episode_words(self) -> NDArray[np.int64]:
        """[episodes]: words said in each."""
        return self._episode_words[: self._episodes]

    def positions(self, seqs: NDArray[np.int64]) -> NDArray[np.intp]:
        """Of ascending seqs; those not held are left out."""
        held = self["seq"]
        at = np.searchsorted(held, seqs)
        at = at[at < len(held)]
        return np.asarray(at[held[at] == seqs[: len(at)]], dtype=np.intp)

    def _new_episode(self) -> int:
        if self._episodes == len(self._episode_words):
            self._episode_words = np.concatenate([self._episode_words, np.zeros_like(self._episode_words)])
        self._episodes += 1
        return self._episodes - 1
