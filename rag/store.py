"""The turns as text in SQLite, from which everything else can be rebuilt. A turn is on the disk when `add` returns."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rag.catalogue import Entries
from rag.claimed import ClaimIndex
from rag.database import Database
from rag.lexical import EMPTY, words
from rag.records import ConversationSummary, Remembered

COLUMNS = "seq, id, speaker, text, at, conversation"
GONE = "gone"
"""The note that lists the ids still to be dropped from the vectors."""
PAGE = 10_000
"""Turns held in memory at once while iterating over all of them."""


Turn = Remembered
"""What is added: a turn that already has an id."""


@dataclass(frozen=True)
class Row(Remembered):
    """A turn with its position in the order they were said."""

    seq: int


def as_row(values: tuple[int, str, str, str, str, str]) -> Row:
    seq, id, speaker, text, at, conversation = values
    return Row(id, speaker, text, datetime.fromisoformat(at), conversation, seq)


@dataclass(frozen=True)
class Which:
    """A selection of turns: an SQL condition and its values."""

    condition: str
    values: tuple[object, ...]

    @classmethod
    def of(
        cls,
        *,
        ids: Iterable[str] | None = None,
        conversation: str | None = None,
        day: date | None = None,
        before: datetime | None = None,
        after_seq: int | None = None,
        before_seq: int | None = None,
    ) -> Which:
        """Return the selection of turns that meet every condition given."""
        given: dict[str, object] = {
            "id IN (SELECT value FROM json_each(?))": None if ids is None else json.dumps(list(ids)),
            "conversation = ?": conversation,
            "day = ?": None if day is None else day.isoformat(),
            "moment < ?": None if before is None else before.timestamp(),
            "seq > ?": after_seq,
            "seq < ?": before_seq,
        }
        met = {condition: value for condition, value in given.items() if value is not None}
        return cls(" AND ".join(met) or "TRUE", tuple(met.values()))


EVERY = Which.of()


class TurnStore:
    """The store of turns. Use it from one thread at a time."""

    def __init__(self, file: Path, say: Callable[[str], None]) -> None:
        """Raises what `Database` raises. `say` is called with a message about damage that was repaired."""
        self._database = Database(file)
        self._db, self._lock = self._database.connection, self._database.lock
        self.transaction, self.checkpoint = self._database.transaction, self._database.checkpoint
        database = self._database
        self.note, self.set_note, self.clear_note = database.note, database.set_note, database.clear_note
        self._say = say
        self.claims = ClaimIndex(database)
        self.rewritten = 0
        """Incremented when a turn was removed or corrected, so that everything derived from it is computed again."""

    def add(self, turns: Iterable[Turn]) -> int:
        """Add turns in the order they were said, except those whose id is already held. Return how many were added."""
        added = 0
        with self.transaction() as db:
            for turn in turns:
                if db.execute("SELECT 1 FROM turns WHERE id = ?", (turn.id,)).fetchone():
                    continue
                before = db.execute(
                    "SELECT speaker, text FROM turns WHERE conversation = ? ORDER BY seq DESC LIMIT 1",
                    (turn.conversation,),
                ).fetchone()
                digest = _digest(turn.speaker, turn.text, *(before or ("", "")))
                first = db.execute(
                    "SELECT seq FROM turns WHERE digest = ? AND repeats IS NULL LIMIT 1", (digest,)
                ).fetchone()
                seq = db.execute(
                    "INSERT INTO turns(id, speaker, text, at, moment, day, conversation, words, digest, repeats)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        turn.id,
                        turn.speaker,
                        turn.text,
                        turn.at.isoformat(),
                        turn.at.timestamp(),
                        turn.at.date().isoformat(),
                        turn.conversation,
                        _content(turn.text),
                        digest,
                        first and first[0],
                    ),
                ).lastrowid
                if first is None:
                    db.execute("INSERT INTO words(rowid, text) VALUES (?, spaced(?))", (seq, turn.text))
                added += 1
        return added

    def get(self, ids: Iterable[str]) -> list[Row]:
        return self.find(Which.of(ids=ids))

    def match(self, query: str, count: int) -> dict[str, float]:
        """Return BM25 scores by id (higher is better), best first. `query` is in FTS5's syntax."""
        with self._lock:
            found = self._matching(
                "SELECT turns.id, -found.score FROM (SELECT rowid, bm25(words) AS score FROM words WHERE words MATCH ?"
                " ORDER BY score LIMIT ?) AS found JOIN turns ON turns.seq = found.rowid ORDER BY found.score",
                (query, count),
            )
        return dict(found)

    def containing(self, parts: list[str], count: int, folded: Callable[[str], str]) -> list[str]:
        """Return the ids of the newest `count` indexed turns whose `folded` text holds each part. Reads every text."""
        condition = " AND ".join(["instr(folded(text), ?)"] * len(parts))
        with self._lock:
            self._db.create_function("folded", 1, folded, deterministic=True)
            found = self._db.execute(
                f"SELECT id FROM turns WHERE repeats IS NULL AND {condition} ORDER BY seq DESC LIMIT ?", (*parts, count)
            ).fetchall()
        return [id for (id,) in found]

    def postings(self, word: str, count: int) -> NDArray[np.int64]:
        """Return the ascending seqs of the newest `count` turns that hold the word."""
        with self._lock:
            # Fetched as one text: numpy parses it three times faster than Python makes that many tuples.
            [(found,)] = self._matching(
                "SELECT group_concat(rowid, ' ') FROM"
                " (SELECT rowid FROM words WHERE words MATCH ? ORDER BY rowid DESC LIMIT ?)",
                (f'"{word}"', count),
            )
        return np.sort(np.fromstring(found or "", dtype=np.int64, sep=" "))

    def entries(self, *, after_seq: int) -> tuple[Entries, int]:
        """Return the indexed turns after this seq, for the catalogue, and the seq to continue from."""
        with self._lock:
            (newest,) = self._db.execute("SELECT max(seq) FROM turns").fetchone()
            found = self._db.execute(
                "SELECT seq, id, conversation, speaker, moment, day, words FROM turns"
                " WHERE repeats IS NULL AND seq > ? ORDER BY seq",
                (after_seq,),
            ).fetchall()
        seq, id, conversation, speaker, moment, day, words = zip(*found, strict=True) if found else ((),) * 7
        ordinals = {each: date.fromisoformat(each).toordinal() for each in set(day)}
        entries = Entries(seq, id, conversation, speaker, moment, [ordinals[each] for each in day], words)
        return entries, newest or after_seq

    def rows_at(self, seqs: NDArray[np.int64]) -> list[Row]:
        """Return the turns in the order they were said."""
        return self._select(
            f"SELECT {COLUMNS} FROM turns WHERE seq IN (SELECT value FROM json_each(?)) ORDER BY seq",
            (json.dumps(seqs.tolist()),),
        )

    def before(self, row: Row) -> Row | None:
        """Return the turn said just before in the same conversation."""
        rows = self._select(
            f"SELECT {COLUMNS} FROM turns WHERE conversation = ? AND seq < ? ORDER BY seq DESC LIMIT 1",
            (row.conversation, row.seq),
        )
        return rows[0] if rows else None

    def waiting(self, count: int) -> list[Row]:
        """Return the oldest turns that have no vector yet."""
        return self._select(
            f"SELECT {COLUMNS} FROM turns WHERE embedded = 0 AND repeats IS NULL ORDER BY seq LIMIT ?", (count,)
        )

    def mark_embedded(self, rows: Iterable[Row]) -> list[str]:
        """Mark turns as having a vector. Return the ids of those forgotten or corrected meanwhile, left unmarked."""
        with self.transaction(derived=True) as db:
            return [
                row.id
                for row in rows
                if not db.execute(
                    "UPDATE turns SET embedded = 1 WHERE id = ? AND text = ?", (row.id, row.text)
                ).rowcount
            ]

    def unmark(self, ids: Iterable[str] | None = None) -> None:
        """Mark these turns, or all, as having no vector."""
        with self.transaction() as db:
            if ids is None:
                db.execute("UPDATE turns SET embedded = 0")
            else:
                db.executemany("UPDATE turns SET embedded = 0 WHERE id = ?", [(id,) for id in ids])

    def held(self, ids: Iterable[str]) -> set[str]:
        """Return those of the ids that the store holds."""
        asked = json.dumps(list(ids))
        with self._lock:
            found = self._db.execute("SELECT id FROM turns WHERE id IN (SELECT value FROM json_each(?))", (asked,))
            return {id for (id,) in found}

    def embedded_ids(self) -> set[str]:
        with self._lock:
            return {id for (id,) in self._db.execute("SELECT id FROM turns WHERE embedded = 1 AND repeats IS NULL")}

    def unknown_words(self, words: Iterable[str]) -> list[str]:
        """Return the words that have no vector."""
        asked = list(dict.fromkeys(words))
        with self._lock:
            known = {
                word
                for (word,) in self._db.execute(
                    "SELECT word FROM vocabulary WHERE word IN (SELECT value FROM json_each(?))", (json.dumps(asked),)
                )
            }
        return [word for word in asked if word not in known]

    def add_vocabulary(self, words: Sequence[str], vectors: NDArray[np.float32]) -> None:
        """Add vectors, float32 [len(words), dimensions]; they are stored as float16."""
        with self.transaction(derived=True) as db:
            db.executemany(
                "INSERT OR REPLACE INTO vocabulary(word, vector) VALUES (?, ?)",
                [(word, vector.astype(np.float16).tobytes()) for word, vector in zip(words, vectors, strict=True)],
            )

    def vocabulary(self, *, after: int) -> tuple[int, list[str], NDArray[np.float16]]:
        """Return a mark, and the words and vectors added since `after`, the mark returned last time (0 at first)."""
        with self._lock:
            found = self._db.execute(
                "SELECT rowid, word, vector FROM vocabulary WHERE rowid > ? ORDER BY rowid", (after,)
            ).fetchall()
        vectors = np.frombuffer(b"".join(vector for _, _, vector in found), dtype=np.float16)
        return (
            found[-1][0] if found else after,
            [word for _, word, _ in found],
            vectors.reshape(len(found), -1) if found else vectors.reshape(0, 0),
        )

    def clear_vocabulary(self) -> None:
        with self.transaction() as db:
            db.execute("DELETE FROM vocabulary")
            self.rewritten += 1

    def find(self, which: Which = EVERY, *, limit: int = -1, newest_first: bool = False) -> list[Row]:
        order = "DESC" if newest_first else "ASC"
        return self._select(
            f"SELECT {COLUMNS} FROM turns WHERE {which.condition} ORDER BY seq {order} LIMIT ?",
            (*which.values, limit),
        )

    def each(self) -> Iterator[Row]:
        """Yield all turns in order; others may use the store between two pages."""
        page = self.find(limit=PAGE)
        while page:
            yield from page
            page = self.find(Which.of(after_seq=page[-1].seq), limit=PAGE)

    def remove(self, which: Which) -> int:
        """Remove turns from the table, the word index and the file itself; note their vectors to be dropped in GONE."""
        with self.transaction() as db:
            found = db.execute(
                f"SELECT {COLUMNS} FROM turns WHERE {which.condition} AND repeats IS NULL", which.values
            ).fetchall()
            indexed = [as_row(values) for values in found]
            for row in indexed:
                db.execute("INSERT INTO words(words, rowid, text) VALUES ('delete', ?, spaced(?))", (row.seq, row.text))
            removed = db.execute(f"DELETE FROM turns WHERE {which.condition}", which.values).rowcount
            for row in indexed:
                _pass_on(db, row)
            db.execute("INSERT INTO words(words) VALUES ('optimize')")  # merges away the terms of deleted turns
            _forget_words(db, indexed)
            gone = [*json.loads(self.note(GONE) or "[]"), *(row.id for row in indexed)]
            db.execute("INSERT OR REPLACE INTO about(key, value) VALUES (?, ?)", (GONE, json.dumps(gone)))
            self.rewritten += 1
        self.checkpoint()
        return removed

    def rewrite(self, row: Row, text: str) -> None:
        with self.transaction() as db:
            (repeats,) = db.execute("SELECT repeats FROM turns WHERE seq = ?", (row.seq,)).fetchone()
            if repeats is None:
                db.execute("INSERT INTO words(words, rowid, text) VALUES ('delete', ?, spaced(?))", (row.seq, row.text))
                _pass_on(db, row)
            db.execute(
                "UPDATE turns SET text = ?, words = ?, digest = ?, repeats = NULL, embedded = 0 WHERE seq = ?",
                (text, _content(text), _digest(row.speaker, text, row.id, ""), row.seq),
            )
            db.execute("INSERT INTO words(rowid, text) VALUES (?, spaced(?))", (row.seq, text))
            db.execute("INSERT INTO words(words) VALUES ('optimize')")
            _forget_words(db, [row])
            self.rewritten += 1
        self.checkpoint()

    def _matching(self, statement: str, values: Sequence[object]) -> list[Any]:
        """Query the full-text index; if it is damaged, rebuild it from the turns."""
        try:
            return self._db.execute(statement, values).fetchall()
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as error:
            self._say(f"The index of words was damaged ({error}) and has been rebuilt.")
            with self.transaction() as db:
                db.execute("INSERT INTO words(words) VALUES ('rebuild')")
            return self._db.execute(statement, values).fetchall()

    def conversations(self) -> list[ConversationSummary]:
        """Return a summary of each conversation, newest first."""
        with self._lock:
            found = self._db.execute(
                "SELECT about.conversation, first.at, last.at, about.turns, substr(first.text, 1, 200)"
                " FROM (SELECT conversation, min(seq) AS first, max(seq) AS last, count(*) AS turns FROM turns"
                "       GROUP BY conversation) AS about"
                " JOIN turns AS first ON first.seq = about.first JOIN turns AS last ON last.seq = about.last"
                " ORDER BY last.moment DESC"
            ).fetchall()
        return [
            ConversationSummary(id, datetime.fromisoformat(first), datetime.fromisoformat(last), turns, opening)
            for id, first, last, turns, opening in found
        ]

    def days(self) -> list[date]:
        """Return the days on which something was said, newest first."""
        with self._lock:
            found = self._db.execute("SELECT DISTINCT day FROM turns ORDER BY day DESC").fetchall()
        return [date.fromisoformat(day) for (day,) in found]

    def counts(self) -> tuple[int, int, int, int]:
        """Return the number of turns, conversations, indexed turns, and indexed turns without a vector."""
        with self._lock:
            turns, conversations = self._db.execute(
                "SELECT count(*), count(DISTINCT conversation) FROM turns"
            ).fetchone()
            indexed, embedded = self._db.execute(
                "SELECT count(*), total(embedded) FROM turns WHERE repeats IS NULL"
            ).fetchone()
        return turns, conversations, indexed, indexed - int(embedded)

    def close(self) -> None:
        self._database.close()

    def _select(self, statement: str, values: Sequence[object]) -> list[Row]:
        with self._lock:
            return [as_row(found) for found in self._db.execute(statement, values)]


def _pass_on(db: sqlite3.Connection, row: Row) -> None:
    """Index the oldest of the turns that repeat this row, in place of the row, which is no longer indexed."""
    heir = db.execute("SELECT seq, text FROM turns WHERE repeats = ? ORDER BY seq LIMIT 1", (row.seq,)).fetchone()
    if heir:
        db.execute("UPDATE turns SET repeats = ? WHERE repeats = ?", (heir[0], row.seq))
        db.execute("UPDATE turns SET repeats = NULL WHERE seq = ?", (heir[0],))
        db.execute("INSERT INTO words(rowid, text) VALUES (?, spaced(?))", heir)


def _forget_words(db: sqlite3.Connection, rows: Iterable[Row]) -> None:
    """Delete from the vocabulary the words that only these removed rows had said."""
    for word in {word for row in rows for word in words(row.text)}:
        if not db.execute("SELECT 1 FROM words WHERE words MATCH ? LIMIT 1", (f'"{word}"',)).fetchone():
            db.execute("DELETE FROM vocabulary WHERE word = ?", (word,))


def _content(text: str) -> int:
    return sum(word not in EMPTY for word in words(text))


def _digest(*parts: str) -> bytes:
    return hashlib.blake2b("\x00".join(parts).encode(), digest_size=8).digest()
