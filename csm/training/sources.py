"""Read what people have as recordings: one reader for each format on disk, none of which reads ahead.

a folder or files      wav, flac, mp3, ogg …; with a text of the same name beside each, if there is one
LJSpeech               metadata.csv (`id|text|normalised`) beside wavs/
JSONL                  a line for each recording: audio, text, speaker, conversation (turns in order), language
parquet                a column of audio (bytes, or a struct with bytes) and one of text
tar shards             ID.mp3 (flac, wav) and ID.json (text, speaker, language, dnsmos), as in Emilia; unpacked member
                       by member in memory
"""

from __future__ import annotations

import csv
import io
import json
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import soundfile
import torch
from torch import Tensor

from ..errors import CsmError, InvalidAudio

__all__ = ["AUDIO", "Part", "Recording", "SourceError", "recordings"]

PART_S = 300
"""Seconds of a recording in memory at a time."""

AUDIO = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".aiff", ".aif", ".au")


class SourceError(CsmError):
    """The given training data cannot be read."""


@dataclass(frozen=True, eq=False)
class Recording:
    """open: opens the sound; none of it is in memory before.

    source: its origin, as shown to people; the held-out clips are chosen by it.
    """

    source: str
    open: Callable[[], soundfile.SoundFile]
    text: str | None = None
    speaker: str = ""
    conversation: str = ""

    def parts(self) -> Iterator[Part]:
        """Yield its sound, some minutes at a time, however long it is. Raises InvalidAudio."""
        try:
            with self.open() as file:
                size = PART_S * file.samplerate
                sound = file.read(size, dtype="float32", always_2d=True)
                while len(sound):
                    following = file.read(size, dtype="float32", always_2d=True)
                    yield Part(torch.from_numpy(sound.T), file.samplerate, last=not len(following))
                    sound = following
        except (soundfile.SoundFileError, OSError) as error:
            raise InvalidAudio(f"{self.source} is not a recording that can be read.") from error


@dataclass(frozen=True, eq=False)
class Part:
    """float32 [channels, samples] at `rate`; `last` tells whether nothing follows."""

    sound: Tensor
    rate: int
    last: bool


def recordings(given: Iterable[Path], *, speaker_folders: bool = False) -> Iterator[Recording]:
    """Yield every recording in the given places, in a fixed order. Raises SourceError.

    speaker_folders: use the name of a recording's folder as its speaker.
    """
    for path in given:
        if not path.exists():
            raise SourceError(f"{path} does not exist.")
        if path.is_dir() and (path / "metadata.csv").is_file():
            yield from _ljspeech(path)
            continue
        files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
        root = path if path.is_dir() else path.parent
        for file in files:
            kind = file.suffix.lower()
            if kind in AUDIO:
                speaker = file.parent.name if speaker_folders else ""
                yield Recording(str(file.relative_to(root)), _opener(file), _text_beside(file), speaker)
            elif kind == ".jsonl":
                yield from _jsonl(file)
            elif kind == ".parquet":
                yield from _parquet(file)
            elif kind == ".tar" or file.name.endswith(".tar.gz"):
                yield from _shard(file)
            elif not path.is_dir():
                raise SourceError(f"{file} is none of these: {', '.join(AUDIO)}, .jsonl, .parquet, .tar.")


def _opener(file: Path) -> Callable[[], soundfile.SoundFile]:
    return lambda: soundfile.SoundFile(file)


def _in_memory(content: bytes) -> Callable[[], soundfile.SoundFile]:
    return lambda: soundfile.SoundFile(io.BytesIO(content))


def _text_beside(file: Path) -> str | None:
    beside = file.with_suffix(".txt")
    return _read(beside).strip() if beside.is_file() else None


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (UnicodeDecodeError, OSError) as error:
        raise SourceError(f"{file} cannot be read as text in UTF-8: {error}.") from error


def _ljspeech(folder: Path) -> Iterator[Recording]:
    rows = csv.reader(io.StringIO(_read(folder / "metadata.csv")), delimiter="|", quoting=csv.QUOTE_NONE)
    for number, row in enumerate(rows, 1):
        if len(row) < 2:
            raise SourceError(f'Line {number} of {folder / "metadata.csv"} should be "id|text" or "id|text|text".')
        name = row[0].removesuffix(".wav")
        yield Recording(name, _opener(_within(folder / "wavs", f"{name}.wav")), row[-1].strip())


def _jsonl(file: Path) -> Iterator[Recording]:
    for number, line in enumerate(_read(file).splitlines(), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            audio = _within(file.parent, str(entry["audio"]))
        except (ValueError, KeyError, TypeError) as error:
            raise SourceError(f'Line {number} of {file} should be {{"audio": FILE, "text": …}}.') from error
        speaker, conversation = str(entry.get("speaker") or ""), str(entry.get("conversation") or "")
        yield Recording(str(entry["audio"]), _opener(audio), entry.get("text"), speaker, conversation)


def _parquet(file: Path) -> Iterator[Recording]:
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise SourceError(f"Reading {file} needs pyarrow: pip install pyarrow.") from error
    for number, row in enumerate(_rows(parquet.ParquetFile(file))):
        audio = row.get("audio")
        content = audio.get("bytes") if isinstance(audio, dict) else audio
        if not isinstance(content, bytes):
            raise SourceError(f"Row {number} of {file} has no bytes in its column audio.")
        text = next((row[name] for name in ("text", "transcription", "sentence") if row.get(name)), None)
        source = f"{file.name}#{number}"
        yield Recording(source, _in_memory(content), text, str(row.get("speaker") or row.get("speaker_id") or ""))


def _rows(file: Any) -> Iterator[dict[str, Any]]:
    for batch in file.iter_batches(batch_size=16):
        yield from batch.to_pylist()


def _shard(file: Path) -> Iterator[Recording]:
    """Yield pairs of sound and description, whichever comes first; the two are adjacent in the shard."""
    waiting: dict[str, tuple[str, bytes]] = {}
    try:
        with tarfile.open(file) as shard:
            for member in shard:
                stem, _, kind = member.name.rpartition(".")
                if not member.isreg() or not (f".{kind.lower()}" in AUDIO or kind == "json"):
                    continue
                opened = shard.extractfile(member)
                content = opened.read() if opened else b""
                if (other := waiting.pop(stem, None)) is None:
                    waiting[stem] = (kind, content)
                    continue
                described, sound = (content, other[1]) if kind == "json" else (other[1], content)
                entry = json.loads(described)
                source = f"{file.name}/{stem}"
                yield Recording(source, _in_memory(sound), entry.get("text"), str(entry.get("speaker") or ""))
    except (tarfile.TarError, ValueError, EOFError) as error:
        raise SourceError(f"{file} is not a shard that can be read: {error}.") from error


def _within(folder: Path, name: str) -> Path:
    """Return a file that a list names, inside the list's own folder: a foreign list must not name arbitrary files."""
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise SourceError(f"{name} is outside {folder}.")
    return path
