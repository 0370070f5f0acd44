"""A voice that is being taught. Its whole state is in its folder, so it outlives the page and the server.

taught/anna-lee/about.json     whose voice it is, that they agreed, and what was asked for
                recordings/    as they were sent, with a transcript if one was sent along
                prepared/      csm-prepare's: clips.csv, clips/, codes/, report.txt
                training/      csm-train's: metrics.csv, training.png, samples/, checkpoints/, adapter/
"""

from __future__ import annotations

import csv
import json
import re
import shutil
import unicodedata
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from pipeline.disk import rewriting
from web.csm_voices import NAME

__all__ = ["ADAPTER_FILE", "CONSENT_WORDS", "About", "Lesson", "LessonError", "Lessons"]

CONSENT_WORDS = (
    "A voice belongs to a person. Teach only your own, or that of someone who has agreed to it, and state who that "
    "is. Do not use it to impersonate or deceive anyone, or for anything unlawful or harmful."
)
"""What the user agrees to first; a test checks that csm.training.adapters keeps the same with what was learnt."""

ADAPTER_FILE = "adapter_config.json"
BY_HAND = "by hand"
"""The reason that clips.csv gives for a clip left out on the page."""
CLIP, SAMPLE = re.compile(r"[0-9a-f]{16}"), re.compile(r"step-([0-9]{6})-([0-9]{1,2})\.wav")


class LessonError(Exception):
    """The lesson cannot be read, saved or changed; the message is one sentence."""


class About(BaseModel):
    """steps: how many the training has; None before its first start. step_s, memory: what one step takes on this
    computer, in seconds and bytes, as measured."""

    model_config = ConfigDict(extra="ignore")
    person: str
    agreed_at: str
    language: str = ""
    steps: int | None = None
    depth_share: float = 0.25
    step_s: float | None = None
    memory: int | None = None


@dataclass(frozen=True)
class Lesson:
    folder: Path

    @property
    def id(self) -> str:
        return self.folder.name

    @property
    def recordings(self) -> Path:
        return self.folder / "recordings"

    @property
    def prepared(self) -> Path:
        return self.folder / "prepared"

    @property
    def training(self) -> Path:
        return self.folder / "training"

    @property
    def about(self) -> About:
        """Raises LessonError."""
        try:
            return About.model_validate_json((self.folder / "about.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            path = self.folder / "about.json"
            raise LessonError(f"{path} cannot be read: delete the folder, or correct the file.") from error

    def keep(self, **changed: Any) -> None:
        """Raises OSError."""
        self._write(self.about.model_copy(update=changed))

    def _write(self, about: About) -> None:
        with rewriting(self.folder / "about.json") as file:
            file.write(about.model_dump_json(indent=1))

    def files(self) -> list[Path]:
        """The recordings."""
        return sorted(path for path in self.recordings.glob("[!.]*") if path.suffix != ".txt")

    def clips(self) -> list[dict[str, Any]]:
        """The clips made by csm-prepare: id, text, seconds, source, start, and why one is left out, or ""."""
        return [
            {"id": row["id"], "text": row["text"], "seconds": float(row["seconds"]), "source": row["source"],
             "start": float(row["start"]), "dropped": row["dropped"]}
            for row in self._table()
        ]  # fmt: skip

    def correct(self, id: str, text: str, kept: bool) -> None:
        """Set what is said in a clip, and whether the clip is learnt. Raises LessonError, OSError."""
        rows = self._table()
        row = next((row for row in rows if row["id"] == id), None)
        if row is None:
            raise LessonError("This clip no longer exists: reload the page.")
        row["text"] = " ".join(text.split())
        row["dropped"] = "" if kept else row["dropped"] or BY_HAND
        partial = self.prepared / "clips.csv.partial"
        with partial.open("w", newline="", encoding="utf-8-sig") as file:
            writer = csv.DictWriter(file, list(row))
            writer.writeheader()
            writer.writerows(rows)
        partial.replace(self.prepared / "clips.csv")

    def clip(self, id: str) -> Path | None:
        """Return the clip's sound file."""
        path = self.prepared / "clips" / f"{id}.flac"
        return path if CLIP.fullmatch(id) and path.is_file() else None

    def lines(self) -> list[dict[str, float | None]]:
        """Return the steps of the training so far, as in metrics.csv."""
        with suppress(OSError):
            text = (self.training / "metrics.csv").read_text(encoding="utf-8")
            return [line for row in csv.DictReader(text.splitlines()) if (line := _numbers(row))]
        return []

    def samples(self) -> list[dict[str, Any]]:
        """Return the sentences spoken during training, the latest first."""
        found = [(path.name, SAMPLE.fullmatch(path.name)) for path in (self.training / "samples").glob("step-*.wav")]
        told = [{"file": name, "step": int(match[1]), "number": int(match[2])} for name, match in found if match]
        return sorted(told, key=lambda sample: (-sample["step"], sample["number"]))

    def sample(self, name: str) -> Path | None:
        path = self.training / "samples" / name
        return path if SAMPLE.fullmatch(name) and path.is_file() else None

    def kept_step(self) -> int:
        """Return the step of the last checkpoint; 0 if there is none."""
        return max((step for step, _, _ in self._checkpoints()), default=0)

    def adapter(self) -> Path | None:
        """Return the best adapter so far: that of the whole training once it has ended, until then a checkpoint's."""
        whole = self.training / "adapter"
        if (whole / ADAPTER_FILE).is_file() and self.kept_step() == self.about.steps:
            return whole
        kept = [(step, held, folder) for step, held, folder in self._checkpoints() if (folder / ADAPTER_FILE).is_file()]
        judged = [(held, -step, folder) for step, held, folder in kept if held is not None]
        if judged:
            return min(judged)[2]
        return max(kept)[2] if kept else None

    def reference(self) -> tuple[Path, str] | None:
        """Return a clip of median length among those that are learnt, and its words: the reference for the voice."""
        fit = sorted((clip for clip in self.clips() if not clip["dropped"]), key=lambda clip: clip["seconds"])
        for clip in fit[len(fit) // 2 :] + fit[: len(fit) // 2]:
            if (sound := self.clip(clip["id"])) is not None:
                return sound, clip["text"]
        return None

    def forget_training(self) -> None:
        """Raises OSError."""
        if self.training.is_dir():
            shutil.rmtree(self.training)
        self.keep(steps=None)

    def remove(self) -> None:
        """Raises OSError."""
        shutil.rmtree(self.folder)

    def _table(self) -> list[dict[str, str]]:
        """Raises LessonError if the table was edited into something invalid."""
        path = self.prepared / "clips.csv"
        if not path.is_file():
            return []
        try:
            rows = list(csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines()))
            for row in rows:
                float(row["seconds"]), float(row["start"])
                if not all(isinstance(row[name], str) for name in ("id", "text", "source", "dropped")):
                    raise ValueError(row)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise LessonError(f"{path} is not a table that csm-prepare wrote: delete it, and prepare again.") from error
        return rows

    def _checkpoints(self) -> Iterator[tuple[int, float | None, Path]]:
        """Yield each checkpoint's step, held-out loss and folder."""
        for folder in (self.training / "checkpoints").glob("step-*"):
            with suppress(OSError, ValueError, KeyError):
                progress = json.loads((folder / "progress.json").read_text(encoding="utf-8"))
                yield int(progress["step"]), progress["held_out"], folder


class Lessons:
    """The lessons in one folder. Each call reads the disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def all(self) -> list[Lesson]:
        folders = sorted(self.folder.glob("*/"))
        return [Lesson(path) for path in folders if NAME.fullmatch(path.name) and (path / "about.json").is_file()]

    def get(self, id: str) -> Lesson:
        """Raises LessonError."""
        lesson = Lesson(self.folder / id)
        if not NAME.fullmatch(id) or not (lesson.folder / "about.json").is_file():
            raise LessonError("This voice is no longer being taught: reload the page.")
        return lesson

    def begin(self, about: About) -> Lesson:
        """Raises OSError."""
        plain = unicodedata.normalize("NFKD", about.person).encode("ascii", "ignore").decode().lower()
        stem = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:48] or "voice"
        names = (stem, *(f"{stem}-{number}" for number in range(2, 1000)))
        lesson = Lesson(self.folder / next(name for name in names if not (self.folder / name).exists()))
        lesson.recordings.mkdir(parents=True)
        lesson._write(about)
        return lesson


def _numbers(row: dict[str, str]) -> dict[str, float | None] | None:
    """Parse a line; None for one that is still being written."""
    try:
        return {name: float(value) if value else None for name, value in row.items()}
    except (ValueError, TypeError):
        return None
