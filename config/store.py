"""Settings on disk: one JSON file in the data folder, replaced atomically, so a crash leaves the old or the new one."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError

from config.settings import Settings
from config.text import parsed

FILE_NAME = "settings.json"


class SettingsError(Exception):
    """The settings cannot be read or written; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Loaded:
    settings: Settings
    notice: str | None = None
    """What to tell the user: that the file was damaged and where it was moved."""


@dataclass(frozen=True, slots=True)
class Staged:
    """Settings written beside the file, to replace it or be deleted."""

    written: Path
    path: Path

    def keep(self) -> None:
        """Replace the file with it. Raises SettingsError."""
        try:
            self.written.replace(self.path)
        except OSError as error:
            self.drop()
            raise _unsaved(self.path.parent, error) from error

    def drop(self) -> None:
        """Delete it. Safe to call after it was kept."""
        self.written.unlink(missing_ok=True)


class SettingsStore:
    def __init__(self, data: Path) -> None:
        self.path = data / FILE_NAME

    def load(self) -> Loaded:
        """Read the file. If it is damaged, move it aside and use the defaults; the notice says so."""
        try:
            text = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return Loaded(Settings())
        except UnicodeDecodeError as error:
            return self._set_aside(str(error))
        except OSError as error:
            raise SettingsError(f"{self.path} cannot be read ({error.strerror}): check its owner and mode.") from error
        try:
            return Loaded(Settings.model_validate(parsed(text)))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "the file"
            return self._set_aside(f"{where}: {first['msg']}")
        except ValueError as error:
            return self._set_aside(f"it is not JSON: {error}")

    def save(self, settings: Settings) -> None:
        """Save the settings. Raises SettingsError if the folder is read-only or the disk full; the old file stays."""
        self.stage(settings).keep()

    def stage(self, settings: Settings) -> Staged:
        """Write the settings beside the file and flush them to disk; the old file stays until they are kept.

        Raises:
            SettingsError: the folder is read-only or the disk is full.
        """
        text = json.dumps(settings.model_dump(mode="json"), indent=2) + "\n"
        temporary = ""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=self.path.parent, prefix=".settings-")
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            if temporary:
                Path(temporary).unlink(missing_ok=True)
            raise _unsaved(self.path.parent, error) from error
        return Staged(Path(temporary), self.path)

    def _set_aside(self, why: str) -> Loaded:
        aside = self.path.with_name(f"settings-damaged-{datetime.now():%Y%m%d-%H%M%S}.json")
        try:
            self.path.rename(aside)
        except OSError:
            return Loaded(Settings(), f"The settings file {self.path} is damaged ({why}). Parley uses the defaults.")
        return Loaded(
            Settings(),
            f"The settings file was damaged ({why}). It was kept as {aside.name}, and Parley uses the defaults.",
        )


def _unsaved(folder: Path, error: OSError) -> SettingsError:
    return SettingsError(
        f"The settings could not be saved in {folder} ({error.strerror}). "
        "Free some space or make the folder writable; the old settings are kept."
    )
