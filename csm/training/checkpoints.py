"""The state that a training needs to continue, written to disk completely or not at all.

OUT/checkpoints/step-000050/    state.pt (trained weights, optimiser), progress.json, and with LoRA the adapter of that
                                step, ready for use

The learning rate, the order of the clips and all random draws follow from the step and need not be stored.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ..errors import CheckpointError, CsmError
from ..writing import writing

__all__ = ["Checkpoints", "Progress", "ResumeRefused"]


class ResumeRefused(CsmError):
    """The training to resume has other settings or another model."""


@dataclass(frozen=True)
class Progress:
    """The progress of a training: steps done, the held-out loss if it was measured at that step (code 0 + depth), the
    number of parts into which a batch is cut, and the settings."""

    step: int
    held_out: float | None
    parts: int
    settings: Mapping[str, object]


class Checkpoints:
    """The checkpoints of one training: the last `keep`, and the best."""

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder, self.keep = folder, keep

    def save(self, progress: Progress, state: Mapping[str, Any], beside: Callable[[Path], None]) -> Path:
        """Write a checkpoint completely or not at all. `beside` adds files to its folder. Raises CannotWrite."""
        target = self.folder / f"step-{progress.step:06}"
        partial = self.folder / f".{target.name}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        try:
            with writing(target):
                partial.mkdir(parents=True)
                beside(partial)
                torch.save(dict(state), partial / "state.pt")
                (partial / "progress.json").write_text(json.dumps(asdict(progress), indent=2) + "\n", encoding="utf-8")
                for file in partial.rglob("*"):
                    _on_disk(file)
                shutil.rmtree(target, ignore_errors=True)
                partial.rename(target)
                _on_disk(self.folder)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        self._forget()
        return target

    def all(self) -> list[Path]:
        """All checkpoints, in the order in which they were written."""
        return sorted(path for path in self.folder.glob("step-*") if (path / "progress.json").is_file())

    def last(self) -> Path | None:
        return found[-1] if (found := self.all()) else None

    def best(self) -> Path | None:
        """The one with the lowest held-out loss; if none was measured, the last."""
        measured = {path: held for path in self.all() if (held := self.progress(path).held_out) is not None}
        return min(measured, key=measured.__getitem__) if measured else self.last()

    @staticmethod
    def progress(folder: Path) -> Progress:
        """Read a checkpoint's progress. Raises CheckpointError."""
        try:
            return Progress(**json.loads((folder / "progress.json").read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise CheckpointError(f"Expected the state of a training in {folder}, found none: {error}.") from error

    @staticmethod
    def state(folder: Path) -> dict[str, Any]:
        """Read a checkpoint's state as data only, without running code. Raises CheckpointError."""
        try:
            read: dict[str, Any] = torch.load(folder / "state.pt", map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises nothing narrower for a damaged file
            raise CheckpointError(f"Expected the state of a training in {folder}, found none: {error}.") from error
        return read

    def _forget(self) -> None:
        kept = {*self.all()[-self.keep :], self.best()}
        for path in self.all():
            if path not in kept:
                shutil.rmtree(path, ignore_errors=True)


def _on_disk(path: Path) -> None:
    """Force a file or folder to disk: until then it may be only in memory, and a power failure would lose it."""
    if os.name == "nt" and path.is_dir():
        return
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
