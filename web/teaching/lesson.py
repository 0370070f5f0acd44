"""A voice that is being taught. All that is known of it lies in its folder, so it outlives the page and the server.

taught/anna-lee/about.json     whose voice it is, that they agreed, and what was asked for
                recordings/    as they were sent, and what is said in them where that came with them
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
"""What is agreed to first; the same as csm.training.adapters keeps with what was learnt, as a test checks."""

ADAPTER_FILE = "adapter_config.json"
BY_HAND = "by hand"
"""The reason in clips.csv of a clip that was left out here."""
CLIP, SAMPLE = re.compile(r"[0-9a-f]{16}"), re.compile(r"step-([0-9]{6})-([0-9]{1,2})\.wav")


class LessonError(Exception):
    """It cannot be read, kept or changed, in one sentence."""


class About(BaseModel):
    """steps: how many the training has; None before it was first started. step_s, memory: what one takes here, in
    seconds and bytes, as it was measured."""

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
        """What csm-prepare has made of them: id, text, seconds, source, and why one is left out, or ""."""
        return [
            {"id": row["id"], "text": row["text"], "seconds": float(row["seconds"]), "source": row["source"],
             "start": float(row["start"]), "dropped": row["dropped"]}
            for row in self._table()
        ]  # fmt: skip

    def correct(self, id: str, text: str, kept: bool) -> None:
        """What is said in a clip, and whether it is learnt. Raises LessonError, OSError."""
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
        """Its sound."""
        path = self.prepared / "clips" / f"{id}.flac"
        return path if CLIP.fullmatch(id) and path.is_file() else None

    def lines(self) -> list[dict[str, float | None]]:
        """The steps of the training so far, as metrics.csv has them."""
        with suppress(OSError):
            text = (self.training / "metrics.csv").read_text(encoding="utf-8")
            return [line for row in csv.DictReader(text.splitlines()) if (line := _numbers(row))]
        return []

    def samples(self) -> list[dict[str, Any]]:
        """What was spoken while it was taught, the latest first."""
        found = [(path.name, SAMPLE.fullmatch(path.name)) for path in (self.training / "samples").glob("step-*.wav")]
        told = [{"file": name, "step": int(match[1]), "number": int(match[2])} for name, match in found if match]
        return sorted(told, key=lambda sample: (-sample["step"], sample["number"]))

    def sample(self, name: str) -> Path | None:
        path = self.training / "samples" / name
        return path if SAMPLE.fullmatch(name) and path.is_file() else None

    def kept_step(self) -> int:
        """The step to which the last checkpoint leads back; 0 where there is none."""
        return max((step for step, _, _ in self._checkpoints()), default=0)

    def adapter(self) -> Path | None:
        """What was learnt best so far: at the end that of the whole training, before it that of a checkpoint."""
        whole = self.training / "adapter"
        if (whole / ADAPTER_FILE).is_file() and self.kept_step() == self.about.steps:
            return whole
        kept = [(step, held, folder) for step, held, folder in self._checkpoints() if (folder / ADAPTER_FILE).is_file()]
        judged = [(held, -step, folder) for step, held, folder in kept if held is not None]
        if judged:
            return min(judged)[2]
        return max(kept)[2] if kept else None

    def reference(self) -> tuple[Path, str] | None:
        """A clip of the middle length among those that are learnt, and its words: what the voice is heard by."""
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
        """Raises LessonError for a table that was edited into something else."""
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
        """Their steps, held-out losses and folders."""
        for folder in (self.training / "checkpoints").glob("step-*"):
            with suppress(OSError, ValueError, KeyError):
                progress = json.loads((folder / "progress.json").read_text(encoding="utf-8"))
                yield int(progress["step"]), progress["held_out"], folder


class Lessons:
    """Those in one folder. Reading them asks the disk each time."""

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
    """None for a line that is being written."""
    try:
        return {name: float(value) if value else None for name, value in row.items()}
    except (ValueError, TypeError):
        return None
