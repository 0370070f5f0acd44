"""A prepared folder, and the training examples made from it.

clips.csv           a line for each clip; texts may be corrected in any spreadsheet, and `dropped` filled or emptied
clips/ID.flac       the sound, 24 kHz mono; ID is its content's checksum
codes/….safetensors Mimi's codes of it, named by the content and the level
report.txt          what was dropped, and why

A target follows the turns before it in its conversation. A clip without a conversation sometimes follows another clip
of the same speaker. So the model learns to take a voice from its context, as it must later.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..errors import CsmError
from ..prompt import Prompter, Segment
from ..writing import replacing
from .loss import Example
from .trainer import Lessons

__all__ = [
    "CLIPS", "Clip", "DatasetError", "judged", "lessons", "read_clips", "read_codes", "write_clips", "write_codes",
]  # fmt: skip

CLIPS = "clips.csv"
TURNS = 4
"""The most turns of a conversation before a target."""
ROOM = 0.75
"""The share of the model's positions that context and target together may take."""
JUDGED = 64
"""The most clips by which a speaker or a training is judged: more would only slow evaluation down."""


class DatasetError(CsmError):
    """A prepared folder is missing, incomplete, or was edited so that it cannot be read."""


@dataclass(frozen=True)
class Clip:
    """One line of clips.csv. `speaker` is the speaker's number for the model, `name` the name for people; times are in
    seconds; `gain` is the factor that brings the speaker to a common level; `turn` counts within a conversation."""

    id: str
    text: str
    speaker: int
    name: str
    split: str
    seconds: float
    confidence: float
    gain: float
    source: str
    start: float
    conversation: str
    turn: int
    dropped: str

    @property
    def codes(self) -> str:
        """The file name of its codes, which depend on its sound and its level."""
        return f"{self.id}-{self.gain:.3f}"


def write_clips(folder: Path, clips: Iterable[Clip]) -> None:
    """Write clips.csv, replacing it completely. Raises CannotWrite."""
    with replacing(folder / CLIPS) as partial, partial.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Clip)])  # Excel detects UTF-8 only by its mark
        writer.writeheader()
        writer.writerows(asdict(clip) for clip in clips)


def read_clips(folder: Path) -> list[Clip]:
    """Read all clips, including dropped ones. Raises DatasetError, which names the line."""
    path = folder / CLIPS
    try:
        content = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise DatasetError(f"{folder} contains no {CLIPS}: make it with csm-prepare.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} cannot be read as text in UTF-8: {error}.") from error
    first = content.partition("\n")[0]
    reader = csv.DictReader(content.splitlines(), delimiter=";" if first.count(";") > first.count(",") else ",")
    if missing := {field.name for field in fields(Clip)} - set(reader.fieldnames or ()):
        raise DatasetError(f"{path} has no column {sorted(missing)[0]}. Keep the columns that csm-prepare wrote.")
    return [_clip(path, number, row) for number, row in enumerate(reader, 2)]


def _clip(path: Path, number: int, row: dict[str, str]) -> Clip:
    try:
        values = {name: row[name] for name in Clip.__dataclass_fields__}
        return Clip(
            **{name: value for name, value in values.items() if name not in NUMBERS},  # type: ignore[arg-type]
            **{name: kind(values[name].replace(",", ".")) for name, kind in NUMBERS.items()},
        )
    except (ValueError, AttributeError, TypeError) as error:
        raise DatasetError(f"Line {number} of {path} is not as csm-prepare wrote it: {error}.") from error


NUMBERS = {"speaker": int, "seconds": float, "confidence": float, "gain": float, "start": float, "turn": int}


def read_codes(folder: Path, clip: Clip) -> Tensor:
    """The codes of a clip: int64 [frames, codebooks]. Raises DatasetError."""
    path = folder / "codes" / f"{clip.codes}.safetensors"
    if not path.is_file():
        raise DatasetError(
            f"The clip {clip.id} has no codes in {folder}: run csm-prepare again, on the same recordings."
        )
    codes: Tensor = load_file(path)["codes"]
    return codes.long()


def write_codes(folder: Path, clip: Clip, codes: Tensor) -> None:
    """Write a clip's codes completely or not at all, with two bytes per code. Raises CannotWrite."""
    with replacing(folder / "codes" / f"{clip.codes}.safetensors") as partial:
        save_file({"codes": codes.to(torch.int16).contiguous()}, partial)


def judged(clips: Sequence[Clip]) -> Sequence[Clip]:
    """At most JUDGED of the held-out clips, spread over all of them."""
    return clips[:: -(-len(clips) // JUDGED) or 1]


def lessons(folder: Path, prompter: Prompter, reference_share: float) -> Lessons:
    """The training examples of a prepared folder, for the model of this prompter. Raises DatasetError."""
    clips = [clip for clip in read_clips(folder) if not clip.dropped]
    return _Prepared(folder, clips, prompter, reference_share).lessons()


class _Prepared:
    def __init__(self, folder: Path, clips: Sequence[Clip], prompter: Prompter, reference_share: float) -> None:
        self._folder, self._prompter, self._share = folder, prompter, reference_share
        self._train = [clip for clip in clips if clip.split == "train"]
        self._held_out = judged([clip for clip in clips if clip.split != "train"])
        self._talks: dict[str, list[Clip]] = {}
        self._voices: dict[int, list[Clip]] = {}
        for clip in clips:
            if clip.conversation:
                self._talks.setdefault(clip.conversation, []).append(clip)
        for clip in self._train:
            self._voices.setdefault(clip.speaker, []).append(clip)
        for talk in self._talks.values():
            talk.sort(key=lambda clip: clip.turn)

    def lessons(self) -> Lessons:
        still = torch.Generator().manual_seed(0)
        held_out = [self._example(clip, self._before(clip, still)) for clip in self._held_out]
        lengths = [round(clip.seconds * 12.5) for clip in self._train]
        return Lessons(lengths, self._lesson, held_out)

    def _lesson(self, index: int, draw: torch.Generator) -> Example:
        return self._example(self._train[index], self._before(self._train[index], draw))

    def _before(self, clip: Clip, draw: torch.Generator) -> list[Clip]:
        """The clips that precede a target as context, the nearest last."""
        chance, which = torch.rand(2, generator=draw).tolist()
        if clip.conversation:
            talk = [other for other in self._talks[clip.conversation] if other.split == clip.split]
            return talk[max(0, talk.index(clip) - TURNS) : talk.index(clip)]
        others = [other for other in self._voices.get(clip.speaker, []) if other.id != clip.id]
        if not others or chance >= self._share:
            return []
        return [others[int(which * len(others))]]

    def _example(self, clip: Clip, before: Sequence[Clip]) -> Example:
        target = self._rows(clip)
        frames = int((target[:, -1] < 0).sum())
        room = round(self._prompter.context * ROOM) - len(target)
        if room < 0:
            raise DatasetError(
                f"The clip {clip.id} takes {len(target)} of the model's {self._prompter.context} rows. "
                f"Drop it in {CLIPS}."
            )
        heard: list[Tensor] = []
        for other in reversed(before):  # keep the nearest if there is no room for all
            rows = self._rows(other)
            if len(rows) > room:
                break
            room -= len(rows)
            heard.insert(0, rows)
        return Example(torch.cat([*heard, target]), frames)

    def _rows(self, clip: Clip) -> Tensor:
        codes = read_codes(self._folder, clip)
        try:
            return self._prompter.segment(Segment(clip.text, clip.speaker, codes=codes))
        except CsmError as error:
            raise DatasetError(f"The clip {clip.id} ({clip.source}) cannot be used for training: {error}") from error
