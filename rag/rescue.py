"""Set a damaged store aside, and build a new one from every turn that can still be read."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from rag.database import StoreDamaged
from rag.store import COLUMNS, Row, TurnStore, as_row
from rag.vectors import salvage

SMALLEST = 100
"""Bytes that a turn takes up in the file at least, with its index entries."""

log = logging.getLogger(__name__)


def opened(file: Path, vectors: Path, notices: list[str]) -> TurnStore:
    """Open the store in `file`. If damaged or missing, rebuild it from what it and the copies in `vectors` still hold.

    Raises what `TurnStore` raises, except for damage, which is reported in `notices`.
    """
    try:
        if file.exists() or not (rows := _copies(vectors)):
            return TurnStore(file, notices.append)
        return _rebuilt(file, rows, "The texts of this memory were missing", notices)
    except StoreDamaged as damage:
        aside = file.with_name(f"{file.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}")
        for suffix in ("", "-wal", "-shm"):
            part = file.with_name(file.name + suffix)
            if part.exists():
                part.rename(aside.with_name(aside.name + suffix))
        found = f"This memory was damaged ({damage}), and the damaged file is kept as {aside}"
        return _rebuilt(file, [*_copies(vectors), *_readable(aside)], found, notices)


def _rebuilt(file: Path, rows: list[Row], found: str, notices: list[str]) -> TurnStore:
    store = TurnStore(file, notices.append)
    in_order: list[Row] = sorted({row.id: row for row in rows}.values(), key=lambda row: row.seq)
    notice = f"{found}: {store.add(in_order)} turns were rescued."
    log.warning("%s", notice)
    notices.append(notice)
    return store


def _copies(vectors: Path) -> list[Row]:
    if not (vectors / "chroma.sqlite3").exists():
        return []
    try:
        return salvage(vectors)
    except Exception as error:  # noqa: BLE001 - Chroma raises what it likes; this is the second damage in a row
        log.warning("the copies in %s can't be read either: %s", vectors, error)
        return []


def _readable(file: Path) -> list[Row]:
    most = file.stat().st_size // SMALLEST
    with closing(sqlite3.connect(file)) as db:
        try:
            (last,) = db.execute("SELECT max(seq) FROM turns").fetchone()
        except sqlite3.DatabaseError:
            last = most
        return list(_between(db, 1, min(last or 0, most)))


def _between(db: sqlite3.Connection, first: int, last: int) -> Iterator[Row]:
    """Yield every row that can be read; if a range can't be read, try its halves."""
    if first > last:
        return
    try:
        rows = db.execute(
            f"SELECT {COLUMNS} FROM turns WHERE seq BETWEEN ? AND ? ORDER BY seq", (first, last)
        ).fetchall()
        yield from (as_row(row) for row in rows)
    except (sqlite3.DatabaseError, ValueError, TypeError) as error:
        if first == last or "no such table" in str(error) or "not a database" in str(error):
            return
        middle = (first + last) // 2
        yield from _between(db, first, middle)
        yield from _between(db, middle + 1, last)
