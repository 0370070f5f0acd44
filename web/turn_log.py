"""The records of finished turns: appended to a file, with the last ones kept in memory for the page."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any, BinaryIO

from config.text import parsed
from pipeline.disk import Appender, rewriting
from pipeline.turns.record import MARKS, TurnRecord, wordless

FILE_NAME = "turns.jsonl"
KEPT = 200

logger = logging.getLogger(__name__)


class TurnLog:
    """Append-only JSON lines. What was said is left out of the file unless `words()` is true."""

    def __init__(self, data: Path, words: Callable[[], bool]) -> None:
        self.path = data / FILE_NAME
        self._words = words
        self._last: deque[TurnRecord] = deque(maxlen=KEPT)
        self._disk = Appender(self._append)
        self._file = threading.Lock()

    def add(self, record: TurnRecord) -> None:
        """Add a record. Never blocks: `write` brings it to disk."""
        self._last.append(record)
        said = {"user": record.user, "heard": record.heard}
        logger.info(
            "turn %d %s: %s",
            record.turn,
            record.outcome,
            record.why,
            extra={"conversation": record.conversation, "turn": record.turn, "words": said},
        )
        self._disk.add(record)

    def last(self, count: int) -> list[TurnRecord]:
        """Return the last records, newest first."""
        return list(self._last)[::-1][:count]

    def of(self, conversation: str) -> list[dict[str, Any]]:
        """Return a conversation's records, oldest first, with words if they are known. Reads the file."""
        known = {record.turn: record.as_dict() for record in self._last if record.conversation == conversation}
        written = {record["turn"]: record for record in self._lines() if record["conversation"] == conversation}
        return [record for _, record in sorted((written | known).items())]

    def _lines(self) -> Iterator[dict[str, Any]]:
        if not self.path.exists():
            return
        with self.path.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                with suppress(ValueError):  # a line cut off by a power cut, or written by another program
                    record = parsed(line)
                    if isinstance(record, dict) and _is_turn(record):
                        yield record

    def forget(self, conversation: str | None = None, day: date | None = None, everything: bool = False) -> None:
        """Delete the words kept of a conversation, a day or all; the times stay, for troubleshooting.

        Call `written` first. Raises OSError.
        """

        def meant(name: str, at: str) -> bool:
            return everything or name == conversation or (day is not None and at[:10] == day.isoformat())

        for record in self._last:
            if meant(record.conversation, record.at):
                record.user = record.reply = record.heard = ""
        with self._file:
            if not self.path.exists():
                return
            with rewriting(self.path) as file:
                for line in self._lines():
                    gone = meant(line["conversation"], str(line.get("at", "")))
                    file.write(json.dumps(wordless(line) if gone else line, ensure_ascii=False) + "\n")

    def medians(self) -> dict[str, float]:
        """Return the seconds from the end of speech to each mark reached, as medians over the records in memory."""
        figures = {
            mark: [since for record in self._last if (since := record.since_speech_ended(mark)) is not None]
            for mark in MARKS
        }
        return {mark: median(values) for mark, values in figures.items() if values}

    async def write(self) -> None:
        """Write records to disk as they come, until cancelled; then write those still waiting."""
        await self._disk.run()

    async def written(self) -> None:
        """Wait until every record so far was written to disk, or has failed to be."""
        await self._disk.written()

    def _append(self, records: list[TurnRecord]) -> None:
        words = self._words()
        lines = (json.dumps(record.as_dict(words=words), ensure_ascii=False) + "\n" for record in records)
        try:
            with self._file, self.path.open("ab+") as file:
                if file.tell() and _last_byte(file) != b"\n":  # cut off: that must not spoil the next line
                    file.write(b"\n")
                file.writelines(line.encode() for line in lines)
        except OSError as error:
            logger.warning("The turn's record could not be written to %s: %s.", self.path, error.strerror)


def _is_turn(record: dict[str, Any]) -> bool:
    return isinstance(record.get("turn"), int) and isinstance(record.get("conversation"), str)


def _last_byte(file: BinaryIO) -> bytes:
    file.seek(-1, os.SEEK_END)
    return file.read(1)
