"""The voices that `csm-voice` keeps: folders with a recording, its transcript and, if taught, an adapter.

csm/commands/voices.py, which is not imported here, uses the same format.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

__all__ = ["CsmVoice", "csm_folder", "csm_voices", "keep_voice"]

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


@dataclass(frozen=True, slots=True)
class CsmVoice:
    """A folder as `csm-voice` makes it: recording.wav (or .flac …), text.txt, and perhaps note.txt and adapter/."""

    folder: Path
    recording: Path
    text: str
    note: str

    @property
    def adapter(self) -> Path | None:
        return folder if (folder := self.folder / "adapter").is_dir() else None

    def told(self) -> dict[str, str | bool]:
        return {"name": self.folder.name, "note": self.note, "learnt": self.adapter is not None}


def csm_folder() -> Path:
    """Return the folder in which csm keeps voices."""
    if chosen := os.environ.get("CSM_VOICES"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share").expanduser() / "csm" / "voices"


def csm_voices(folder: Path) -> Iterator[CsmVoice]:
    """Yield the voices by name. Folders that are not voices, or cannot be read, are skipped."""
    for each in sorted(folder.glob("*/")):
        recordings = list(each.glob("recording.*"))
        with suppress(OSError, ValueError):
            if NAME.fullmatch(each.name) and len(recordings) == 1:
                note = each / "note.txt"
                words = note.read_text(encoding="utf-8").strip() if note.is_file() else ""
                text = (each / "text.txt").read_text(encoding="utf-8").strip()
                yield CsmVoice(each, recordings[0], text, words)


def keep_voice(folder: Path, name: str, recording: Path, text: str, note: str, adapter: Path) -> CsmVoice:
    """Save a taught voice completely or not at all, replacing one of the same name. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".new-", dir=folder) as made:
        new, kept = Path(made) / name, folder / name
        new.mkdir()
        shutil.copyfile(recording, new / f"recording{recording.suffix}")
        (new / "text.txt").write_text(f"{text}\n", encoding="utf-8")
        (new / "note.txt").write_text(f"{note}\n", encoding="utf-8")
        # Of a checkpoint, copy only what is needed to speak: its state for further training is many times as large.
        shutil.copytree(
            adapter, new / "adapter", ignore=shutil.ignore_patterns("quantized", "state.pt", "progress.json")
        )
        if kept.exists():
            kept.rename(Path(made) / "replaced")
        new.rename(kept)
    return CsmVoice(kept, kept / f"recording{recording.suffix}", text, note)
