"""The language model's summaries of days, in one file in the data folder. Deleting a turn deletes its summary."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

from pipeline.disk import rewriting

FILE_NAME = "summaries.json"


@dataclass(frozen=True, slots=True)
class Summary:
    text: str
    by: str
    """The language model's name."""
    turns: tuple[str, ...]
    """The ids of the turns it was made from."""
    conversations: tuple[str, ...]
    """The conversations of those turns."""


class Summaries:
    def __init__(self, data: Path) -> None:
        self._path = data / FILE_NAME
        self._writing = threading.Lock()
        self.deletions = 0
        """Deletions so far: a summary begun before the last one may contain what was deleted."""

    def all(self) -> dict[date, Summary]:
        """Return the summaries by day. An unreadable file counts as empty: its summaries can be made again."""
        try:
            kept = json.loads(self._path.read_text(encoding="utf-8"))
            return {date.fromisoformat(day): _summary(entry) for day, entry in kept.items()}
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return {}

    def keep(self, day: date, summary: Summary, *, deletions: int) -> bool:
        """Save a summary unless something was deleted since the count was `deletions`. Raises OSError."""
        with self._writing:
            if deletions != self.deletions:
                return False
            self._write(self.all() | {day: summary})
        return True

    def forget(
        self,
        id: str | None = None,
        conversation: str | None = None,
        day: date | None = None,
        everything: bool = False,
    ) -> None:
        """Delete the summaries made from a turn, a conversation or a day, or all. Raises OSError."""

        def meant(of: date, summary: Summary) -> bool:
            return everything or of == day or id in summary.turns or conversation in summary.conversations

        self._drop(meant)

    def _drop(self, meant: Callable[[date, Summary], bool]) -> None:
        with self._writing:
            self.deletions += 1
            if not self._path.exists():
                return
            self._write({day: summary for day, summary in self.all().items() if not meant(day, summary)})

    def _write(self, summaries: dict[date, Summary]) -> None:
        if not summaries:
            self._path.unlink(missing_ok=True)
            return
        with rewriting(self._path) as file:
            entries = {day.isoformat(): asdict(summary) for day, summary in summaries.items()}
            json.dump(entries, file, ensure_ascii=False, indent=1)


def _summary(entry: dict[str, object]) -> Summary:
    turns, conversations = entry["turns"], entry["conversations"]
    if not isinstance(turns, list) or not isinstance(conversations, list):
        raise TypeError
    return Summary(str(entry["text"]), str(entry["by"]), (*map(str, turns),), (*map(str, conversations),))
