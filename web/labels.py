"""Names and pins that users give to conversations: one file in the data folder."""

from __future__ import annotations

import json
import threading
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from config.text import parsed
from pipeline.disk import rewriting

FILE_NAME = "names.json"


@dataclass(frozen=True, slots=True)
class Label:
    name: str = ""
    pinned: bool = False
    """Shown before all others."""


NONE = Label()


class Labels:
    def __init__(self, data: Path) -> None:
        self._path = data / FILE_NAME
        self._writing = threading.Lock()

    def all(self) -> dict[str, Label]:
        """Return the labels by conversation. An unreadable file counts as empty: names are no reason to stop."""
        try:
            kept = parsed(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return {str(id): _label(entry) for id, entry in kept.items()} if isinstance(kept, dict) else {}

    def give(self, conversation: str, **changes: Any) -> Label:
        """Change a `name` or `pinned`; an empty name removes the old one. Raises OSError."""
        with self._writing:
            labels = self.all()
            label = replace(labels.pop(conversation, NONE), **changes)
            self._write(labels | {conversation: label})
        return label

    def keep_only(self, conversations: set[str]) -> None:
        """Delete the labels of all other conversations, which were forgotten. Raises OSError."""
        with self._writing:
            labels = self.all()
            kept = {id: label for id, label in labels.items() if id in conversations}
            if kept != labels:
                self._write(kept)

    def _write(self, labels: dict[str, Label]) -> None:
        with rewriting(self._path) as file:
            entries = {id: asdict(label) for id, label in labels.items() if label != NONE}
            json.dump(entries, file, ensure_ascii=False, indent=1)


def _label(entry: object) -> Label:
    if isinstance(entry, dict):
        return Label(str(entry.get("name", "")), entry.get("pinned") is True)
    return Label(str(entry))  # a name alone, as before pins existed
