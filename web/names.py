"""The names that users give to their conversations: one file in the data folder."""

from __future__ import annotations

import json
import threading
from pathlib import Path

from pipeline.disk import rewriting

FILE_NAME = "names.json"


class Names:
    def __init__(self, data: Path) -> None:
        self._path = data / FILE_NAME
        self._writing = threading.Lock()

    def all(self) -> dict[str, str]:
        """By conversation. A file that cannot be read has none: names are no reason to stop."""
        try:
            kept = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return {str(id): str(name) for id, name in kept.items()} if isinstance(kept, dict) else {}

    def give(self, conversation: str, name: str) -> None:
        """An empty name takes the old one away. Raises OSError."""
        with self._writing:
            names = {id: kept for id, kept in self.all().items() if id != conversation}
            self._write(names | ({conversation: name} if name else {}))

    def keep_only(self, conversations: set[str]) -> None:
        """The others were forgotten. Raises OSError."""
        with self._writing:
            names = self.all()
            kept = {id: name for id, name in names.items() if id in conversations}
            if kept != names:
                self._write(kept)

    def _write(self, names: dict[str, str]) -> None:
        with rewriting(self._path) as file:
            json.dump(names, file, ensure_ascii=False, indent=1)
