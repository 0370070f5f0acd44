"""The recordings of conversations in the data folder: made only if the user wants them, and kept until forgotten."""

from __future__ import annotations

import re
import shutil
from datetime import date, datetime
from pathlib import Path

FOLDER = "recordings"
_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}")


class Recordings:
    def __init__(self, data: Path) -> None:
        self._folder = data / FOLDER

    def folder(self, conversation: str) -> Path:
        """Return the folder for a conversation's sound. Raises ValueError if that cannot be a conversation's name."""
        if not _NAME.fullmatch(conversation):
            raise ValueError("A conversation's name has only letters, digits, - and _.")
        return self._folder / conversation

    def all(self) -> set[str]:
        """Return the conversations whose sound is stored."""
        return {folder.name for folder in self._folder.glob("*") if folder.is_dir()}

    def forget(self, conversation: str | None = None, day: date | None = None, everything: bool = False) -> int:
        """Delete the sound of a conversation, of those that ended on a day, or of all; returns how many there were."""
        folders = [folder for folder in self._folder.glob("*") if folder.is_dir()]
        gone = [each for each in folders if everything or each.name == conversation or _ended(each) == day]
        for folder in gone:
            shutil.rmtree(folder)
        return len(gone)


def _ended(folder: Path) -> date:
    newest = max((file.stat().st_mtime for file in folder.iterdir()), default=folder.stat().st_mtime)
    return datetime.fromtimestamp(newest).date()
