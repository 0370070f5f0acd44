"""Computes every turn's vectors in the background and keeps the vectors in agreement with the texts."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rag.chroma_server import ChromaServer, ServerLink
from rag.embedding import LONGEST, Embedder, SentenceEmbedder
from rag.lexical import EMPTY, words
from rag.precedence import Precedence
from rag.records import MemoryFault
from rag.store import GONE, Row, TurnStore, Which
from rag.vectors import NONE, PATIENCE, Nearest, Vectors, panicked

log = logging.getLogger(__name__)

NEAREST = 200
"""Neighbours requested from each view of the vectors."""
BATCH = 16
"""Turns that are embedded in one step."""
NICE = 10
"""Niceness of the background thread, from 0 (like all others) to 19."""
PIECE = 4
"""Texts embedded at once; few, so that a question asked meanwhile hardly waits."""
READ = 8
"""Turns whose claims are read at once; each takes half a millisecond."""
LOOK = 5.0
"""Seconds between two checks of what other machines remembered or forgot on the same server."""
RETRY = 30.0
"""Seconds until the next try after the disk was full or the server unreachable."""


class Indexer:
    """Owns the vectors. They are opened on first use because that loads Chroma and computes the model's fingerprint.

    Failures are reported in `trouble` and the work is retried; meanwhile memory searches by words alone.
    """

    def __init__(
        self,
        store: TurnStore,
        folder: Path,
        embedder: Embedder,
        server: ChromaServer | None,
        owner: str,
        say: Callable[[str], None],
        precedence: Precedence,
    ) -> None:
        self._precedence = precedence
        self._store, self._folder, self._owner, self._say = store, folder, owner, say
        self._link = None if server is None else ServerLink(server)
        self._embedder = embedder
        self._old_embedder: Embedder | None = None
        self._vectors: Vectors | None = None
        self._old_vectors: Vectors | None = None
        self._lock = threading.RLock()  # held while the vectors are opened or replaced
        self._state = threading.Condition()
        self._closing = False
        self._compacting: str | None = None
        self._retry_at = self._look_at = 0.0
        self._counted = (0, 0)
        self.trouble: str | None = None
        self._thread = threading.Thread(target=self._run, name="memory-indexer", daemon=True)
        self._thread.start()

    def nudge(self) -> None:
        """Wake the background thread because there is work."""
        with self._state:
            self._state.notify_all()

    def settle(self) -> None:
        """Wait until there is nothing left to do, or nothing can be done."""
        with self._state:
            self._state.wait_for(lambda: self._closing or self.trouble is not None or not self._work_left())

    def look_up(self, query: str, words: list[str]) -> tuple[Nearest, NDArray[np.float32]]:
        """Return the turns nearest to a question, and vectors [len(words), dimensions] of words nobody has said.

        Both are empty if the vectors are unavailable; `trouble` then says why. A question does not wait for a server
        that has just failed, or that is being asked for something else.
        """
        nothing = NONE, np.empty((0, 0), np.float32)
        try:
            with self._soon() as held:
                if not held:
                    return nothing
                vectors, old, former = self._opened(), self._old_vectors, self._old_embedder
            asked, *others = self._embedder.embed([query, *words])
            if old is not None and former is not None:  # the previous model's vectors answer for now
                nearest = old.nearest(former.embed([query])[0], NEAREST)
            else:
                nearest = vectors.nearest(asked, NEAREST)
            return nearest, np.array(others, np.float32)
        except Exception as error:  # noqa: BLE001 - Chroma raises what it likes; recall goes on by words
            self._failed(error)
            return nothing

    def due(self) -> None:
        """Note that the vectors' files must be rewritten, because something is about to be forgotten or corrected."""
        self._store.set_note("compact", uuid.uuid4().hex)

    def drop(self) -> None:
        """Remove forgotten turns from the vectors, now or once they are available; later also from their files.

        `settle` waits for both.
        """
        try:
            with self._soon() as held:
                if held:
                    self._drop()
        except Exception as error:  # noqa: BLE001 - said, and tried again
            self._failed(error)
        self.nudge()

    def open(self) -> None:
        """Load the model and the vectors now."""
        self._embedder.embed(["warm"])
        with self._lock:
            self._opened()

    def close(self) -> None:
        with self._state:
            self._closing = True
            self._state.notify_all()
        if self._link is not None:
            self._link.end()
        self._thread.join()
        self._close_vectors()

    @contextmanager
    def _soon(self) -> Iterator[bool]:
        """Hold the lock while the block runs; yield False if a server does not let that be soon."""
        # Only the background thread tries again what failed.
        if self._link is not None and (self.trouble is not None or not self._lock.acquire(timeout=PATIENCE)):
            yield False
            return
        if self._link is None:
            self._lock.acquire()
        try:
            yield True
        finally:
            self._lock.release()

    # In the background

    def _work_left(self) -> bool:
        return (
            bool(self._store.waiting(1))
            or self._store.claims.unread()
            or any(self._store.note(work) is not None for work in ("compact", GONE))
        )

    def _look_due(self) -> bool:
        return self._link is not None and self._vectors is not None and time.monotonic() >= self._look_at

    def _run(self) -> None:
        _stand_back()
        while True:
            try:
                if not self._awaited():
                    return
                self._step()
                self.trouble = None
            except Exception as error:  # noqa: BLE001 - said, and tried again
                if self._closing:
                    return
                self._failed(error)
                if self._link is not None:  # it may come back without what it held: look when it does
                    self._close_vectors()

    def _awaited(self) -> bool:
        """Wait until there is work or a retry is due; return False when closing."""
        with self._state:
            while not self._closing:
                if self.trouble is None and (self._work_left() or self._look_due()):
                    return True
                self._state.notify_all()
                if self.trouble is not None:
                    rest = self._retry_at - time.monotonic()
                    if rest <= 0:
                        return True
                    self._state.wait(rest)
                else:
                    self._state.wait(LOOK if self._link is not None else None)
        return False

    def _step(self) -> None:
        self._precedence.give_way()
        if self._store.claims.read(READ):
            return
        self._drop()
        rows = self._store.waiting(BATCH)
        with self._lock:
            vectors = self._opened()
        if self._look_due():
            self._look_at = time.monotonic() + LOOK
            if vectors.counts() != self._counted:
                self._take_over(vectors)
        if rows:
            turns = [_spoken(row) for row in rows]
            contexts = [_in_context(row, self._store.before(row)) for row in rows]
            embedded = self._embed(turns + contexts)
            self._precedence.give_way()
            vectors.put(rows, {"turn": embedded[: len(rows)], "context": embedded[len(rows) :]})
            self._learn_words(rows)
            gone = self._store.mark_embedded(rows)
            if gone:
                vectors.drop([id for id in gone if not self._store.get([id])])
        elif (due := self._store.note("compact")) is not None:
            self._compact(vectors, due)
        if not self._store.waiting(1):
            self._finish_model()

    def _drop(self) -> None:
        with self._lock:
            gone = self._store.note(GONE)
            if gone is None:
                return
            vectors = self._opened()
            vectors.drop(json.loads(gone))
            if self._old_vectors is not None:
                self._old_vectors.drop(json.loads(gone))
            self._store.clear_note(GONE, gone)
            self._store.checkpoint()
        self.due()  # again, because files already rewritten meanwhile still held them

    def _compact(self, vectors: Vectors, due: str) -> None:
        self._compacting = self._compacting or due
        start = time.monotonic()
        if vectors.compact():
            self._store.clear_note("compact", self._compacting)  # unless another rewrite has become due
            self._compacting = None
        with self._state:  # leave half of the time to others, unless there is work
            self._state.wait(0.0 if self._closing else time.monotonic() - start)

    def _learn_words(self, rows: list[Row]) -> None:
        said = (word for row in rows for word in words(row.text[:LONGEST]) if word not in EMPTY and len(word) <= 40)
        new = self._store.unknown_words(said)
        if new:
            self._store.add_vocabulary(new, self._embed(new))

    def _embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed in small pieces: [len(texts), dimensions]."""
        pieces = []
        for start in range(0, len(texts), PIECE):
            self._precedence.give_way()
            pieces.append(self._embedder.embed(texts[start : start + PIECE]))
        return np.concatenate(pieces)

    def _failed(self, error: Exception) -> None:
        with self._state:
            if self.trouble is None:
                log.warning("memory: no vectors for now: %s", error)
            self._retry_at = time.monotonic() + RETRY
            self.trouble = f"For now, the memory searches by words only: {error}"
            self._state.notify_all()

    def _close_vectors(self) -> None:
        with self._lock:
            for vectors in (self._vectors, self._old_vectors):
                if vectors is not None:
                    vectors.close()
            self._vectors = self._old_vectors = self._old_embedder = None

    # Opening

    def _opened(self) -> Vectors:
        if self._vectors is None:
            model = self._embedder.fingerprint()
            self._vectors = self._open_or_replace(model)
            if self._store.note("model") not in (None, model):
                self._open_old(str(self._store.note("model")))
            elif self._store.note("model") is None:
                self._store.set_note("model", model)
                self._store.set_note("model name", self._embedder.name)
            if self._store.note("filling") != model:
                self._store.unmark()
                self._store.clear_vocabulary()
                self._store.set_note("filling", model)
            if self._link is None:
                self._reconcile(self._vectors)
            else:
                self._share(self._vectors)
            self.nudge()
        return self._vectors

    def _open_or_replace(self, model: str) -> Vectors:
        """Open the vectors; a damaged folder is set aside and everything embedded again from the texts."""
        try:
            return self._open(model)
        except Exception as error:
            if self._link is not None:
                raise MemoryFault(
                    f"The Chroma server at {self._link.server.host}:{self._link.server.port} does not answer: {error}"
                ) from error
            aside = self._folder.with_name(f"{self._folder.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}")
            self._folder.rename(aside)
            self._say(
                f"The vectors of this memory were damaged ({error}). They were set aside in {aside} and are being "
                "computed again."
            )
            self._store.unmark()
            return self._open(model)

    def _open(self, model: str) -> Vectors:
        vectors = Vectors(self._folder, self._link, owner=self._owner, model=model)
        try:
            vectors.probe()
        except BaseException as error:
            vectors.close()
            if panicked(error):
                raise MemoryFault(str(error)) from error
            raise
        return vectors

    def _open_old(self, model: str) -> None:
        """After a change of model, let the old vectors answer until the new are ready, if the old model still loads."""
        name = str(self._store.note("model name"))
        try:
            embedder = SentenceEmbedder(name)
            if embedder.fingerprint() == model:
                self._old_embedder, self._old_vectors = embedder, self._open(model)
        except Exception as error:  # noqa: BLE001 - words and what is embedded already must do
            log.warning("memory: the former embedding model %s can't be loaded: %s", name, error)

    def _finish_model(self) -> None:
        """Once the current model has embedded everything, drop the previous model's vectors."""
        model = self._store.note("filling")
        if model is None or model == self._store.note("model"):
            return
        with self._lock:
            if self._old_vectors is not None:
                self._old_vectors.close()
            self._old_vectors = self._old_embedder = None
            self._opened().retire_others()
            self._store.set_note("model", model)
            self._store.set_note("model name", self._embedder.name)
            self.due()

    def _reconcile(self, vectors: Vectors) -> None:
        """Reconcile after a crash; the texts decide. Texts without a vector get one, vectors without a text go."""
        wanted = self._store.embedded_ids()
        if vectors.count() == len(wanted) and self._store.note("compact") is None:
            return
        held = vectors.ids()
        self._store.unmark(wanted - held)
        extra = held - wanted - {row.id for row in self._store.get(list(held - wanted))}
        if extra:
            vectors.drop(list(extra))
            self.due()

    def _share(self, vectors: Vectors) -> None:
        """On opening, take over what other machines remembered, corrected and forgot on the server since last time."""
        self._take_over(vectors)
        held = {row.id: row for row in vectors.texts(vectors.ids())}
        embedded = self._store.embedded_ids()
        self._store.unmark(embedded - held.keys())
        for row in self._store.get(embedded & held.keys()):
            if row.text != held[row.id].text:
                self._store.rewrite(row, held[row.id].text)

    def _take_over(self, vectors: Vectors) -> None:
        """Take over what other machines remembered and forgot."""
        self._counted = vectors.counts()
        forgotten = vectors.forgotten() | set(json.loads(self._store.note(GONE) or "[]"))
        held = self._store.held(forgotten)
        if held:
            self._store.remove(Which.of(ids=held))
        there = vectors.ids() - forgotten
        said = vectors.texts(there - self._store.held(there))
        self._store.add(said)
        self._store.mark_embedded(said)


def _stand_back() -> None:
    """Let others have the core first. Only on Linux does a thread have a niceness of its own."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)


def _spoken(row: Row) -> str:
    return f"{row.speaker}: {row.text}"


def _in_context(row: Row, before: Row | None) -> str:
    return f"{_spoken(before)}\n{_spoken(row)}" if before is not None else _spoken(row)
