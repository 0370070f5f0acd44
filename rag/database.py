"""The memory's SQLite file: its schema and migrations, exclusive use by one program, transactions and errors."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rag.lexical import spaced
from rag.records import MemoryFault, MemoryFull, MemoryInUse

SCHEMA = """
CREATE TABLE about(key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE turns(
    seq          INTEGER PRIMARY KEY AUTOINCREMENT,  -- the order of saying; never used twice
    id           TEXT NOT NULL UNIQUE,
    speaker      TEXT NOT NULL,
    text         TEXT NOT NULL,
    at           TEXT NOT NULL,                      -- ISO 8601 with its offset
    moment       REAL NOT NULL,                      -- the same, seconds since 1970
    day          TEXT NOT NULL,                      -- the same, the speaker's own day
    conversation TEXT NOT NULL,
    words        INTEGER NOT NULL,                   -- how many carry meaning
    digest       BLOB NOT NULL,                      -- of speaker, text and the turn before: tells repetitions
    repeats      INTEGER,                            -- the seq this says again word for word; such a turn isn't indexed
    embedded     INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX turns_by_conversation ON turns(conversation, seq);
CREATE INDEX turns_by_moment ON turns(moment);
CREATE INDEX turns_by_day ON turns(day);
CREATE INDEX turns_by_digest ON turns(digest);
CREATE INDEX turns_repeating ON turns(repeats) WHERE repeats IS NOT NULL;
CREATE INDEX turns_waiting ON turns(seq) WHERE embedded = 0 AND repeats IS NULL;
CREATE TABLE vocabulary(word TEXT PRIMARY KEY, vector BLOB NOT NULL);
CREATE VIEW indexed AS SELECT seq, text FROM turns WHERE repeats IS NULL;
CREATE VIRTUAL TABLE words USING fts5(
    text, content='indexed', content_rowid='seq', tokenize='porter unicode61 remove_diacritics 2'
);
"""

FEW_PAGES = 1000
"""Free pages of 4 KiB that are left in the file for what is remembered next."""


def _first_schema(db: sqlite3.Connection) -> None:
    for statement in SCHEMA.split(";\n"):
        if statement.strip():
            db.execute(statement)


def _claims(db: sqlite3.Connection) -> None:
    """Create the table of claims for rag/claimed.py; triggers remove a turn's claims when it is deleted or changed."""
    db.execute(
        "CREATE TABLE claims(attribute TEXT NOT NULL, subject TEXT NOT NULL, seq INTEGER NOT NULL, value TEXT NOT NULL,"
        " PRIMARY KEY (attribute, subject, seq, value)) WITHOUT ROWID"
    )
    db.execute("CREATE INDEX claims_by_turn ON claims(seq)")
    db.execute("CREATE TRIGGER claims_gone AFTER DELETE ON turns BEGIN DELETE FROM claims WHERE seq = old.seq; END")
    db.execute(
        "CREATE TRIGGER claims_changed AFTER UPDATE OF text ON turns BEGIN"
        " DELETE FROM claims WHERE seq = old.seq;"
        " UPDATE about SET value = json_set(value, '$[1]', min(json_extract(value, '$[1]'), old.seq - 1))"
        " WHERE key = 'claims read'; END"
    )


def _spaced(db: sqlite3.Connection) -> None:
    """Index Chinese by single characters and pairs of them instead of whole runs of them."""
    db.execute("DROP VIEW indexed")
    db.execute("CREATE VIEW indexed AS SELECT seq, spaced(text) AS text FROM turns WHERE repeats IS NULL")
    db.execute("INSERT INTO words(words) VALUES ('rebuild')")


def _stated(db: sqlite3.Connection) -> None:
    """Keep what each turn claims, so that no question waits for the grammar."""
    db.execute("CREATE TABLE stated(seq INTEGER PRIMARY KEY, claims TEXT NOT NULL)")
    db.execute("CREATE TRIGGER stated_gone AFTER DELETE ON turns BEGIN DELETE FROM stated WHERE seq = old.seq; END")
    db.execute(
        "CREATE TRIGGER stated_changed AFTER UPDATE OF text ON turns BEGIN DELETE FROM stated WHERE seq = old.seq; END"
    )


MIGRATIONS: list[Callable[[sqlite3.Connection], None]] = [_first_schema, _claims, _spaced, _stated]
"""The step from each schema version to the next; the version is kept in SQLite's user_version."""


class StoreDamaged(MemoryFault):
    """The file is damaged and can't be read."""


class Database:
    """One connection, used by one thread at a time: inside `transaction`, or while holding `lock`."""

    def __init__(self, file: Path) -> None:
        """
        Raises:
            MemoryInUse: another program has the file open.
            StoreDamaged: the file can't be read.
            MemoryFault: the file was written by a newer version.
        """
        self._file = file
        self.lock = threading.RLock()
        file.parent.mkdir(parents=True, exist_ok=True)
        self.connection = sqlite3.connect(file, check_same_thread=False, isolation_level=None, timeout=0.5)
        self.connection.create_function("spaced", 1, spaced, deterministic=True)
        try:
            self.connection.execute(
                "PRAGMA locking_mode = EXCLUSIVE"
            )  # held by the kernel, so that a killed program releases it
            self.connection.execute("PRAGMA journal_mode = WAL")
            self.connection.execute("PRAGMA synchronous = FULL")
            self.connection.execute("PRAGMA secure_delete = ON")
            self._migrate()
            (verdict,) = self.connection.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                raise StoreDamaged(verdict)
        except sqlite3.OperationalError as error:
            self.connection.close()
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
                raise MemoryInUse(
                    f"The memory in {file.parent} is open in another program. Close that one, or use another folder."
                ) from error
            raise
        except sqlite3.DatabaseError as error:
            self.connection.close()
            raise StoreDamaged(str(error)) from error
        except BaseException:
            self.connection.close()
            raise

    def _migrate(self) -> None:
        (version,) = self.connection.execute("PRAGMA user_version").fetchone()
        if version > len(MIGRATIONS):
            raise MemoryFault(
                f"The memory in {self._file.parent} was written by a newer version (schema {version}, "
                f"this one knows {len(MIGRATIONS)}). Update this version, or use another folder."
            )
        for number, migration in enumerate(MIGRATIONS[version:], version + 1):
            with self.transaction() as db:
                migration(db)
                db.execute(f"PRAGMA user_version = {number}")

    @contextmanager
    def transaction(self, *, derived: bool = False) -> Iterator[sqlite3.Connection]:
        """Run the block as one transaction. Raises MemoryFull if the disk is full.

        `derived`: the data can be computed again from the turns, so do not wait until it is on the disk.
        """
        with self.lock:
            try:
                self.connection.execute(f"PRAGMA synchronous = {'NORMAL' if derived else 'FULL'}")
                self.connection.execute("BEGIN IMMEDIATE")
                yield self.connection
                self.connection.execute("COMMIT")
            except BaseException as error:
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")
                if isinstance(error, sqlite3.OperationalError) and _is_full(error):
                    raise MemoryFull(
                        f"The disk of {self._file.parent} is full: free some space, and the memory works again. "
                        "Nothing remembered before is lost."
                    ) from error
                raise

    def note(self, key: str) -> str | None:
        with self.lock:
            found = self.connection.execute("SELECT value FROM about WHERE key = ?", (key,)).fetchone()
        return found[0] if found else None

    def set_note(self, key: str, value: str | None) -> None:
        with self.transaction() as db:
            db.execute("DELETE FROM about WHERE key = ?", (key,))
            if value is not None:
                db.execute("INSERT INTO about(key, value) VALUES (?, ?)", (key, value))

    def clear_note(self, key: str, value: str) -> None:
        """Delete the note if it still has this value."""
        with self.transaction() as db:
            db.execute("DELETE FROM about WHERE key = ? AND value = ?", (key, value))

    def checkpoint(self) -> None:
        """Move the write-ahead log into the file and empty it, so that removed data is no longer on the disk.

        A file that is mostly free pages is also shrunk, if the disk has room for the copy that this takes.
        """
        with self.lock:
            (free,) = self.connection.execute("PRAGMA freelist_count").fetchone()
            (pages,) = self.connection.execute("PRAGMA page_count").fetchone()
            if free > max(pages // 2, FEW_PAGES):
                with suppress(sqlite3.OperationalError):
                    self.connection.execute("VACUUM")
            self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        with self.lock:
            self.connection.close()


def _is_full(error: sqlite3.OperationalError) -> bool:
    full = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_SHMSIZE}
    return getattr(error, "sqlite_errorcode", None) in full
