"""The public interface of the memory: remember, recall, forget."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import threading
import unicodedata
import uuid
from collections.abc import Iterator
from contextlib import suppress
from datetime import date, datetime
from pathlib import Path

import numpy as np

from rag.chroma_server import ChromaServer
from rag.embedding import Embedder, SentenceEmbedder
from rag.indexer import Indexer
from rag.lexical import WORD, paired
from rag.packing import pack
from rag.precedence import Precedence
from rag.ranking import RELEVANT, fits
from rag.records import ConversationSummary, MemorySize, Recall, Recalled, Remembered
from rag.renewal import renewed
from rag.rescue import opened
from rag.retriever import Found, Retriever, reasons
from rag.store import Which

LONGEST_QUERY = 2_000
"""Characters of a question that are read."""
LONGEST_NAME = 200
"""Characters of an owner's folder name; file systems allow 255 bytes."""
LONGEST_TEXT = 1_048_576
"""Characters of one turn; an hour of speech is 60,000."""


class Memory:
    """What one owner said and heard, stored on disk.

    May be called from several threads. A turn is on the disk when `remember` returns; its vector is computed in the
    background, and until then the turn is found by its words only.
    """

    def __init__(
        self,
        path: Path,
        *,
        owner: str = "default",
        embedder: Embedder | None = None,
        chroma: ChromaServer | None = None,
    ) -> None:
        """
        Raises:
            MemoryInUse: another program has this owner's memory open.
            MemoryFault: the memory was written by a newer version.
        """
        self._folder = Path(path) / _folder_name(owner)
        self._notices: list[str] = []
        self._turns = opened(self._folder / "turns.sqlite3", self._folder / "vectors", self._notices)
        self._precedence = Precedence()
        self._indexer = Indexer(
            self._turns,
            self._folder / "vectors",
            embedder or SentenceEmbedder(),
            chroma,
            owner,
            self._notices.append,
            self._precedence,
        )
        self._retriever = Retriever(self._turns)
        self._recalling = threading.Lock()
        self._conversation = uuid.uuid4().hex

    # Remembering

    def remember(self, speaker: str, text: str, *, at: datetime | None = None, conversation: str | None = None) -> str:
        """Store one turn; it is on the disk when this returns. A naive `at` is local time; None means now.

        Raises:
            ValueError: the text or the speaker is empty, or the text is longer than 1,048,576 characters.
            MemoryFull: the disk is full.
        """
        turn = Remembered(
            uuid.uuid4().hex,
            _clean(speaker, "speaker"),
            _clean(text, "text"),
            _aware(at),
            conversation or self._conversation,
        )
        self._turns.add([turn])
        self._indexer.nudge()
        return turn.id

    def settle(self) -> None:
        """Wait until the background work is done: every turn has its vector, and forgotten turns are gone."""
        self._indexer.settle()

    # Recalling

    def recall(
        self,
        query: str,
        *,
        budget_chars: int = 2400,
        now: datetime | None = None,
        exclude_conversation: str | None = None,
        asker: str | None = None,
    ) -> Recall:
        """Return the turns that are relevant to `query`, as text of at most `budget_chars` characters for a prompt.

        Args:
            now: the time to which words such as "yesterday" in the query refer; None means the present.
            exclude_conversation: the current conversation, which needs no recalling.
            asker: who asks, by the name given to `remember`; "my" and "I" in the query then refer to them.
        """
        with self._precedence.question():
            found = self.find(query, now=now, exclude_conversation=exclude_conversation, asker=asker)
            return _packed(found, budget_chars)

    def find(
        self,
        query: str,
        *,
        now: datetime | None = None,
        exclude_conversation: str | None = None,
        asker: str | None = None,
    ) -> Found:
        """Return every candidate with all the ranking knows about it, for inspection and for fitting."""
        query = _tidy(query[:LONGEST_QUERY])
        with self._recalling:
            unheard = self._retriever.unheard(query)
            nearest, vectors = self._indexer.look_up(query, unheard)
            self._retriever.hear(unheard, vectors)
            return self._retriever.find(
                query, nearest, now=_aware(now), asker=asker, exclude_conversation=exclude_conversation
            )

    def search(self, query: str, *, limit: int = 50, offset: int = 0) -> list[Remembered]:
        """Return turns that contain words of `query`, best first, then turns that contain every part of it as
        substrings, newest first.

        The latter also finds text without spaces, such as Chinese.
        """
        wanted = _fts_query(query)
        if not wanted:
            return []
        end = offset + limit
        found = list(self._turns.match(wanted, end))
        if len(found) < end:
            parts = folded(_tidy(query)).split()
            known = set(found)
            found += [id for id in self._turns.containing(parts, end, folded) if id not in known]
        page = found[offset:end]
        rows = {row.id: row for row in self._turns.get(page)}
        return [rows[id] for id in page if id in rows]

    # Managing what is stored

    def forget(
        self,
        *,
        id: str | None = None,
        conversation: str | None = None,
        day: date | None = None,
        before: datetime | None = None,
        everything: bool = False,
    ) -> int:
        """Remove the turns that meet all given conditions. Return how many.

        Raises:
            ValueError: no condition was given and `everything` is False.
        """
        if not everything and id is None and conversation is None and day is None and before is None:
            raise ValueError(
                "Say what to forget: an id, a conversation, a day, everything before a time, or everything."
            )
        which = Which.of(
            ids=None if id is None else [id],
            conversation=conversation,
            day=day,
            before=None if before is None else _aware(before),
        )
        if everything:
            self._drop_set_aside()
        if not self._turns.find(which, limit=1):
            return 0
        self._indexer.due()  # first, so that a crash between texts and vectors is repaired at the next start
        removed = self._turns.remove(which)
        self._indexer.drop()
        return removed

    def _drop_set_aside(self) -> None:
        """Delete damaged files that were set aside for rescue, because they still contain the words."""
        for aside in self._folder.glob("*.damaged-*"):
            if aside.is_dir():
                shutil.rmtree(aside)
            else:
                aside.unlink()

    def correct(self, id: str, text: str) -> None:
        """Replace the text of a turn.

        Raises:
            KeyError: there is no such turn.
        """
        rows = self._turns.get([id])
        if not rows:
            raise KeyError(id)
        text = _clean(text, "text")
        self._indexer.due()
        self._turns.rewrite(rows[0], text)
        self._indexer.nudge()

    def conversations(self) -> list[ConversationSummary]:
        """Return a summary of each conversation, newest first."""
        return self._turns.conversations()

    def days(self) -> list[date]:
        """Return the days on which something was said, newest first."""
        return self._turns.days()

    def turns(
        self,
        *,
        conversation: str | None = None,
        day: date | None = None,
        limit: int = 200,
        before: str | None = None,
    ) -> list[Remembered]:
        """Return the newest `limit` turns in order; to page backwards, set `before` to a turn's id."""
        anchor = self._turns.get([before]) if before is not None else []
        which = Which.of(conversation=conversation, day=day, before_seq=anchor[0].seq if anchor else None)
        rows = self._turns.find(which, limit=limit, newest_first=True)
        return list(reversed(rows))

    def export(self, file: Path) -> int:
        """Write every turn as a line of JSON. Return how many."""
        count = 0
        with Path(file).open("w", encoding="utf-8") as out:
            for row in self._turns.each():
                count += 1
                entry = {
                    "id": row.id,
                    "speaker": row.speaker,
                    "text": row.text,
                    "at": row.at.isoformat(),
                    "conversation": row.conversation,
                }
                out.write(json.dumps(entry, ensure_ascii=False) + "\n")
        return count

    def import_(self, file: Path) -> int:
        """Add what `export` wrote, except turns whose id is already there. Return how many were added.

        Raises:
            ValueError: a line isn't a turn; nothing was added.
        """
        added = self._turns.add(_read_jsonl(Path(file)))
        self._indexer.nudge()
        return added

    def size(self) -> MemorySize:
        turns, conversations, indexed, waiting = self._turns.counts()
        disk = _bytes_in(self._folder)
        return MemorySize(turns, conversations, waiting, disk, 1.0 - waiting / indexed if indexed else 1.0)

    @property
    def notices(self) -> tuple[str, ...]:
        """Messages for people: damage that was repaired, and what does not work at present."""
        return (*self._notices, *([self._indexer.trouble] if self._indexer.trouble else []))

    def warm(self) -> None:
        """Load the embedding model and the indexes now instead of at the first question."""
        self._indexer.open()
        with self._recalling:
            self._retriever.refresh()

    def close(self) -> None:
        self._indexer.close()
        self._turns.close()

    def __enter__(self) -> Memory:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _folder_name(owner: str) -> str:
    """Return a folder name that is readable if possible and never leads out of the memory's folder."""
    if not owner.strip():
        raise ValueError("The owner of a memory needs a name.")
    name = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else f"%{ord(c):x}." for c in owner)
    if len(name) <= LONGEST_NAME:
        return name
    return f"{name[: LONGEST_NAME - 33]}-{hashlib.blake2b(owner.encode(), digest_size=16).hexdigest()}"


def _clean(text: str, what: str) -> str:
    """Make a text fit to be stored and shown, without control characters or lone surrogates.

    Raises ValueError if it is empty or too long.
    """
    if len(text) > LONGEST_TEXT:
        raise ValueError(f"The {what} has {len(text):,} characters; a turn may have up to {LONGEST_TEXT:,}.")
    text = _tidy(text)
    if not text:
        raise ValueError(f"There is nothing to remember: the {what} is empty.")
    return text


def _tidy(text: str) -> str:
    text = text.encode("utf-8", "replace").decode("utf-8")
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f]", " ", text).strip()


def _aware(at: datetime | None) -> datetime:
    return datetime.now().astimezone() if at is None else at if at.tzinfo else at.astimezone()


def folded(text: str) -> str:
    """Remove what a search ignores: case, accents, and how a character is composed."""
    plain = unicodedata.normalize("NFKD", text).casefold()
    return re.sub("[\u0300-\u036f]", "", plain)


def _fts_query(text: str) -> str:
    return " OR ".join(f'"{word}"' for word in dict.fromkeys(WORD.findall(paired(text).lower())))


def _packed(found: Found, budget_chars: int) -> Recall:
    if not found.rows or not (found.told.any() or fits(found.question, found.features)):
        return Recall("", ())
    scores, older_of, past = renewed(found.rows, found.scores, found.claims)
    kept = np.where(scores >= scores.max() - RELEVANT, scores, -np.inf)
    text, taken = pack(found.rows, kept, budget_chars, found.question.terms, past)
    items = (_recalled(found, index, older_of.get(index), past.get(index, "")) for index in taken)
    return Recall(text, tuple(items))


def _recalled(found: Found, index: int, older: int | None, past: str) -> Recalled:
    row, best = found.rows[index], float(found.scores.max())
    why = reasons(found, index)
    if older is not None:
        why += f", newer than what was said on {found.rows[older].at:%Y-%m-%d}"
    if past:
        why += f", {past}"
    score = float(np.exp(found.scores[index] - best))
    return Recalled(row.id, row.speaker, row.text, row.at, row.conversation, score=score, why=why)


def _read_jsonl(file: Path) -> Iterator[Remembered]:
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                yield _read_turn(line)
            except ValueError as error:
                raise ValueError(f"Line {number} of {os.fspath(file)} is not a turn of memory: {error}") from error


def _read_turn(line: str) -> Remembered:
    """Read one line of an export. Raises ValueError, with a sentence as its message."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        raise ValueError("it is not JSON.") from None
    if not isinstance(entry, dict):
        raise ValueError("it is not a JSON object.")
    for name in ("speaker", "text", "at", "conversation"):
        if not isinstance(entry.get(name), str):
            raise ValueError(f"its “{name}” is missing, or is not text.")
    try:
        at = datetime.fromisoformat(entry["at"])
    except ValueError:
        raise ValueError("its “at” is not a time such as 2026-05-31T18:30:00+02:00.") from None
    return Remembered(
        _addressable(_tidy(str(entry.get("id") or ""))) or uuid.uuid4().hex,
        _clean(entry["speaker"], "speaker"),
        _clean(entry["text"], "text"),
        _aware(at),
        _addressable(_tidy(entry["conversation"])),
    )


def _addressable(name: str) -> str:
    """Rename “.” and “..”: browsers and servers take an address that ends in them for a folder or its parent."""
    return f"imported {name}" if name in {".", ".."} else name


def _bytes_in(folder: Path) -> int:
    """Return the size of the folder's files; a file that disappears meanwhile counts as nothing."""
    total = 0
    for place, _, names in os.walk(folder):  # skips folders it can no longer list
        for name in names:
            with suppress(FileNotFoundError):
                total += (Path(place) / name).lstat().st_size
    return total
