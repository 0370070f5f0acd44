"""Words: which of them carry meaning, and their stems."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable
from itertools import pairwise

WORD = re.compile(r"[^\W_]+")
HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff]+")
"""Runs of Chinese characters, which have no spaces between words."""

EMPTY = frozenset(
    """
    a an the is are was were be been being am i you he she it we they me him her us them my your his its our their mine
    yours ours theirs this that these those of to in on at for with by from as about into over after before and or but
    if so than then too very just do does did doing done have has had having will would can could should may might must
    not no nor what which who whom whose when where why how there here s t re ve ll d m don didn doesn isn wasn hey hi
    oh wow yeah thanks
    """.split()
)
"""Words that occur in every conversation."""

ASKING = EMPTY | frozenset(
    "long many much time times kind type kinds types some any ever tell told said say remember know".split()
)
"""The same for questions, with the words that only phrase a question."""


def words(text: str) -> list[str]:
    """Return the words in lower case as the full-text index has them; in order, except for Chinese."""
    return WORD.findall(spaced(text).lower())


def spaced(text: str) -> str:
    """Separate Chinese characters by spaces, both singly and in pairs, so that each is a word."""
    return HAN.sub(lambda run: f" {' '.join([*run[0], *_pairs(run[0])])} ", text)


def paired(text: str) -> str:
    """Separate Chinese characters by spaces in pairs, or singly if alone, for a search that should match few turns."""
    return HAN.sub(lambda run: f" {' '.join(_pairs(run[0]) or run[0])} ", text)


def _pairs(run: str) -> list[str]:
    return [first + second for first, second in pairwise(run)]


class Stemmer:
    """Stems words with SQLite's Porter tokenizer, which the full-text index uses too, so that both always agree."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}
        self._db = sqlite3.connect(":memory:", check_same_thread=False)
        self._db.execute("CREATE VIRTUAL TABLE word USING fts5(text, tokenize='porter unicode61 remove_diacritics 2')")
        self._db.execute("CREATE VIRTUAL TABLE stem USING fts5vocab(word, instance)")

    def stems(self, words: Iterable[str]) -> list[str]:
        """Return the stem of each word, in order."""
        words = list(words)
        new = list({word for word in words if word not in self._known})
        if new:
            if len(self._known) > 200_000:
                self._known.clear()
                new = list(set(words))
            self._known.update((word, word) for word in new)
            self._db.execute("DELETE FROM word")
            self._db.executemany("INSERT INTO word(rowid, text) VALUES (?, ?)", enumerate(new))
            self._known.update((new[row], stem) for stem, row in self._db.execute("SELECT term, doc FROM stem"))
        return [self._known[word] for word in words]
