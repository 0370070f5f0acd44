"""The vectors in Chroma, on disk beside the texts or on a server, with a copy of every text to rebuild from."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from rag.chroma_server import ServerLink
from rag.records import MemoryFault
from rag.store import Row

if TYPE_CHECKING:
    from chromadb.api.client import Client

VIEWS = ("turn", "context")
"""The turn with its speaker; the same preceded by the turn before it."""
BATCH = 1000
STEP = 32
"""Turns copied at once when files are rewritten; few, so that recalling, remembering and forgetting hardly wait."""
PATIENCE = 0.5
"""Seconds that a question waits while the files are swapped, which takes some seconds in a large memory."""


@dataclass(frozen=True)
class Nearest:
    """Maps ids to cosines in each view, best first."""

    turn: Mapping[str, float]
    context: Mapping[str, float]


NONE = Nearest({}, {})


class Vectors:
    """One owner's vectors by one embedding model: a collection per view, with cosine distance."""

    def __init__(self, folder: Path, server: ServerLink | None, *, owner: str, model: str) -> None:
        """`model` is the fingerprint of the embedder. Raises what Chroma raises, and OSError."""
        self._folder = folder
        self._server = server
        # Servers are shared between owners, folders are not. Hashing makes the owner's name a valid collection name.
        self._prefix = hashlib.blake2b(owner.encode(), digest_size=8).hexdigest()
        self._model = model
        self._writing = threading.RLock()  # always acquired before _lock
        self._lock = threading.RLock()  # guards the client and its collections, which a compaction replaces
        self._client = _connect(folder, server)
        self._collections = {view: self._collection(self._name(view)) for view in VIEWS}
        self._fresh: dict[str, Any] = {}  # the new collections during a compaction
        self._uncopied: list[str] = []

    def put(self, rows: Sequence[Row], vectors: dict[str, NDArray[np.float32]]) -> None:
        """Store unit vectors, per view float32 [len(rows), dimensions]. Entries with the same id are replaced."""
        texts = [row.text for row in rows]
        about = [
            {"speaker": row.speaker, "at": row.at.isoformat(), "conversation": row.conversation, "seq": row.seq}
            for row in rows
        ]
        with self._writing:
            for view, collection in (*self._collections.items(), *self._fresh.items()):
                held = {"documents": texts, "metadatas": about} if view == VIEWS[0] else {}
                collection.upsert(ids=[row.id for row in rows], embeddings=vectors[view], **held)

    def nearest(self, vector: NDArray[np.float32], count: int) -> Nearest:
        """Return the `count` nearest in each view to a unit vector [dimensions]; none while the files are swapped."""
        from chromadb.errors import InternalError

        try:
            return self._nearest(vector, count)
        except InternalError:  # Chroma read an index whose first files were being written: retry
            if not self._writing.acquire(timeout=PATIENCE):
                return NONE
            try:
                return self._nearest(vector, count)
            finally:
                self._writing.release()

    def _nearest(self, vector: NDArray[np.float32], count: int) -> Nearest:
        if not self._lock.acquire(timeout=PATIENCE):
            return NONE
        try:
            return Nearest(*(_nearest(self._collections[view], vector, count) for view in VIEWS))
        finally:
            self._lock.release()

    def drop(self, ids: Sequence[str]) -> None:
        """Drop these ids. A server keeps only the ids, marked as forgotten, for the other machines."""
        with self._writing:
            for start in range(0, len(ids), BATCH):
                part = list(ids[start : start + BATCH])
                for collection in (*self._fresh.values(), *self._collections.values()):
                    collection.delete(ids=part)
                if self._server is not None:
                    self._collection(self._name("forgotten")).upsert(ids=part, embeddings=[[1.0]] * len(part))

    def forgotten(self) -> set[str]:
        """Return the ids that any machine dropped from the server."""
        with self._lock:
            return set(self._collection(self._name("forgotten")).get(include=[])["ids"])

    def probe(self) -> None:
        """Raise what Chroma raises if an index can't be read; Chroma itself reads an index only at the first query."""
        with self._lock:
            for collection in self._collections.values():
                first = collection.get(limit=1, include=["embeddings"])["embeddings"]
                if len(first):
                    _nearest(collection, first[0], 1)

    def count(self) -> int:
        with self._lock:
            return min(int(collection.count()) for collection in self._collections.values())

    def ids(self) -> set[str]:
        """Return the ids present in every view."""
        with self._lock:
            held = [set(collection.get(include=[])["ids"]) for collection in self._collections.values()]
        return set.intersection(*held)

    def texts(self, ids: Collection[str]) -> list[Row]:
        """Return the copies of these turns, in the order in which their own machine stored them."""
        wanted = list(ids)
        with self._lock:
            found = [
                row
                for start in range(0, len(wanted), BATCH)
                for row in _texts(self._collections[VIEWS[0]], wanted[start : start + BATCH])
            ]
        return sorted(found, key=lambda row: row.seq)

    def counts(self) -> tuple[int, int]:
        """Return the number of turns on the server, and of turns forgotten there."""
        with self._lock:
            return self._collections[VIEWS[0]].count(), self._collection(self._name("forgotten")).count()

    def retire_others(self) -> None:
        """Remove the collections of other models."""
        with self._writing:
            fresh = {collection.name for collection in self._fresh.values()}
            mine = fresh | {self._name(view) for view in (*VIEWS, "forgotten")}
            for collection in self._client.list_collections():
                if collection.name.startswith(self._prefix) and collection.name not in mine:
                    self._client.delete_collection(collection.name)

    def compact(self) -> bool:
        """Do one step of rewriting the index, because Chroma only marks dropped entries and keeps their bytes on disk.

        Questions are answered meanwhile. What is dropped between two steps leaves bytes behind again.

        Returns:
            Whether that was the last step; always True with a server, which manages its own disk.
        """
        if self._server is not None:
            return True
        with self._writing:
            if not self._fresh:
                self._begin()
            part, self._uncopied = self._uncopied[:STEP], self._uncopied[STEP:]
            for view, fresh in self._fresh.items() if part else ():
                copied = self._collections[view].get(ids=part, include=["embeddings", "documents", "metadatas"])
                held = {name: copied[name] for name in ("documents", "metadatas") if view == VIEWS[0]}
                if copied["ids"]:
                    fresh.upsert(ids=copied["ids"], embeddings=copied["embeddings"], **held)
            if self._uncopied:
                return False
            with self._lock:
                self._change_places()
            return True

    def _begin(self) -> None:
        names = {view: self._name(view) + ".new" for view in VIEWS}
        for collection in self._client.list_collections():  # an unfinished one lacks later turns
            if collection.name in names.values():
                self._client.delete_collection(collection.name)
        self._fresh = {view: self._collection(name) for view, name in names.items()}
        self._uncopied = list(self.ids())

    def _change_places(self) -> None:
        for view, fresh in self._fresh.items():
            self._client.delete_collection(self._name(view))
            fresh.modify(name=self._name(view))
        self._fresh = {}
        self._client.close()
        _sweep(self._folder)
        self._client = _connect(self._folder, None)
        self._collections = {view: self._collection(self._name(view)) for view in VIEWS}

    def close(self) -> None:
        with self._lock:
            self._client.close()

    def _name(self, view: str) -> str:
        return f"{self._prefix}.{view}.{self._model}"

    def _collection(self, name: str) -> Any:
        # ef_search: how widely HNSW searches; at 200 it nearly always finds the true neighbours.
        return self._client.get_or_create_collection(
            name, configuration={"hnsw": {"space": "cosine", "ef_search": 200}}, embedding_function=None
        )


def salvage(folder: Path) -> list[Row]:
    """Return every text that Chroma's folder still holds, whichever model embedded it, in the order they were said."""
    client = _connect(folder, None)
    try:
        turns = {
            turn.id: turn
            for collection in client.list_collections()
            if f".{VIEWS[0]}." in collection.name
            for turn in _texts(collection)
        }
    finally:
        client.close()
    return list(turns.values())


def panicked(error: BaseException) -> bool:
    """Whether Chroma's Rust code panicked, as it does on some damage; `except Exception` does not catch that."""
    return type(error).__name__ == "PanicException"


def _connect(folder: Path, server: ServerLink | None) -> Client:
    if server is not None:
        return server.connect()
    import chromadb  # slow to import: only when needed
    from chromadb.api.shared_system_client import SharedSystemClient
    from chromadb.config import Settings

    try:
        settings = Settings(anonymized_telemetry=False)
        return cast("Client", chromadb.PersistentClient(path=str(folder), settings=settings))
    except BaseException as error:
        # Chroma caches the half-started system of a folder it can't read, and would return it again.
        SharedSystemClient._identifier_to_system.pop(str(folder), None)
        if panicked(error):
            raise MemoryFault(str(error)) from error
        raise


def _nearest(collection: Any, vector: NDArray[np.float32], count: int) -> dict[str, float]:
    found = collection.query(query_embeddings=vector[None], n_results=count, include=["distances"])
    return {id: 1.0 - distance for id, distance in zip(found["ids"][0], found["distances"][0], strict=True)}


def _texts(collection: Any, ids: list[str] | None = None) -> Iterator[Row]:
    held = collection.get(ids=ids, include=["documents", "metadatas"])
    rows = sorted(zip(held["ids"], held["documents"], held["metadatas"], strict=True), key=lambda row: row[2]["seq"])
    for id, text, about in rows:
        yield Row(id, about["speaker"], text, datetime.fromisoformat(about["at"]), about["conversation"], about["seq"])


def _sweep(folder: Path) -> None:
    """Delete what no collection uses any more, including the free pages of Chroma's own database."""
    with closing(sqlite3.connect(folder / "chroma.sqlite3", isolation_level=None)) as db:
        used = {segment for (segment,) in db.execute("SELECT id FROM segments")}
        db.execute("INSERT INTO embedding_fulltext_search(embedding_fulltext_search) VALUES ('optimize')")
        db.execute("VACUUM")
    for entry in folder.iterdir():
        if entry.is_dir() and entry.name not in used:
            shutil.rmtree(entry)
