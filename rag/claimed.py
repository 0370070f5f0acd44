"""What every turn claims: an index by which a question for a name or a home finds turns however they were worded, and
the claims themselves, so that no question waits for the grammar."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple

import numpy as np
from numpy.typing import NDArray

from rag.asked import Asked
from rag.claims import EXISTS, SOON, Claim, resolved, same_subject, told
from rag.database import Database
from rag.embedding import LONGEST
from rag.grammar import GRAMMAR, claims

READ = "claims read"
"""The note of how far the turns were read: the grammar's version and the last seq."""


class ClaimIndex:
    """Stores the claims of every turn. Triggers in rag/database.py remove those of turns that are removed or corrected;
    new turns must be `read`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def unread(self) -> bool:
        """Whether any turns are still to be read."""
        with self._database.lock:
            (newest,) = self._database.connection.execute("SELECT max(seq) FROM turns").fetchone()
            return (newest or 0) > self._read_to()

    def read(self, count: int) -> bool:
        """Read the next `count` turns in the order they were said. Return whether there were any."""
        with self._database.lock:
            start = self._read_to()
            found = self._database.connection.execute(
                "SELECT seq, speaker, conversation, text FROM turns WHERE seq > ? ORDER BY seq LIMIT ?",
                (start - SOON, count + SOON),  # the turns that a correction may refer to
            ).fetchall()
        if not found or found[-1][0] <= start:
            return False
        entries, spoken = list[tuple[int, str, str, str]](), list[tuple[int, tuple[str, str], Claim]]()
        stated = list[tuple[int, str]]()
        for seq, *who, text in found:
            recent = [claim for at, other, claim in spoken if other == tuple(who) and at >= seq - SOON]
            found_in_it = claims(text[:LONGEST])
            if found_in_it and seq > start:
                stated.append((seq, json.dumps([astuple(claim) for claim in found_in_it], ensure_ascii=False)))
            said = [claim for one in found_in_it if (claim := resolved(one, recent, recent)) is not None]
            spoken += [(seq, (who[0], who[1]), claim) for claim in said]
            entries += [(seq, claim.attribute, claim.subject, claim.value.lower()) for claim in said if seq > start]
        with self._database.transaction(derived=True) as db:
            if start != self._read_to():  # a turn was corrected meanwhile
                return True
            if start == 0:
                db.execute("DELETE FROM claims")
                db.execute("DELETE FROM stated")
            db.executemany(
                "INSERT OR REPLACE INTO claims(seq, attribute, subject, value)"
                " SELECT ?, ?, ?, ? WHERE EXISTS (SELECT 1 FROM turns WHERE seq = ?)",
                [(*entry, entry[0]) for entry in entries],
            )
            db.executemany(
                "INSERT OR REPLACE INTO stated(seq, claims)"
                " SELECT ?, ? WHERE EXISTS (SELECT 1 FROM turns WHERE seq = ?)",
                [(*entry, entry[0]) for entry in stated],
            )
            mark = json.dumps([GRAMMAR, found[-1][0]])
            db.execute("INSERT OR REPLACE INTO about(key, value) VALUES (?, ?)", (READ, mark))
        return True

    def of(self, seqs: Sequence[int]) -> Mapping[int, tuple[Claim, ...]]:
        """Return the claims of these turns by seq, except of turns that are still to be read."""
        with self._database.lock:
            read_to = self._read_to()
            stated = self._database.connection.execute(
                "SELECT seq, claims FROM stated WHERE seq IN (SELECT value FROM json_each(?))",
                (json.dumps(list(seqs)),),
            ).fetchall()
        nothing: dict[int, tuple[Claim, ...]] = {seq: () for seq in seqs if seq <= read_to}
        return nothing | {seq: tuple(Claim(*fields) for fields in json.loads(held)) for seq, held in stated}

    def told(self, asked: Asked, speakers: Sequence[str], count: int) -> NDArray[np.int64]:
        """Return the ascending seqs of the newest `count` turns that claim what is asked, or that what was claimed is
        over ("Rufus died"). Only these speakers' turns count, or everybody's if none are given."""
        with self._database.lock:
            subjects = self._named(asked)
            found = self._of(asked.attributes, subjects, speakers, count)
            stems = {told(value) for _, value in found if value} - {frozenset()}
            over = {
                subject
                for (subject,) in self._database.connection.execute(
                    "SELECT DISTINCT subject FROM claims WHERE attribute = ?", (EXISTS,)
                )
                if any(stem <= told(subject) for stem in stems)
            }
            found += self._of([EXISTS], over, speakers, count)
        return np.unique(np.array([seq for seq, _ in found], dtype=np.int64))[-count:]

    def _named(self, asked: Asked) -> set[str]:
        """Return all subjects that the asked one may be: "clara", "sister" and "sister clara" for "sister clara"."""
        if not asked.subject:
            return {""}
        held = self._database.connection.execute(
            "SELECT DISTINCT subject FROM claims WHERE attribute IN (SELECT value FROM json_each(?))",
            (json.dumps(asked.attributes),),
        )
        return {subject for (subject,) in held if same_subject(subject, asked.subject)}

    def _of(
        self, attributes: Iterable[str], subjects: Iterable[str], speakers: Iterable[str], count: int
    ) -> list[tuple[int, str]]:
        """Return seqs and values, newest first."""
        spoken = json.dumps(list(speakers))
        return self._database.connection.execute(
            "SELECT DISTINCT claims.seq, value FROM claims JOIN turns ON turns.seq = claims.seq"
            " WHERE attribute IN (SELECT value FROM json_each(?)) AND subject IN (SELECT value FROM json_each(?))"
            " AND repeats IS NULL AND (? = '[]' OR speaker IN (SELECT value FROM json_each(?)))"
            " ORDER BY claims.seq DESC LIMIT ?",
            (json.dumps(list(attributes)), json.dumps(list(subjects)), spoken, spoken, count),
        ).fetchall()

    def _read_to(self) -> int:
        version, seq = json.loads(self._database.note(READ) or "[0, 0]")
        return int(seq) if version == GRAMMAR else 0
