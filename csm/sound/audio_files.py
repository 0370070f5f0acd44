"""Read recordings from files, write speech to files and pipes, and read what such a file says about its origin."""

from __future__ import annotations

import io
import os
import struct
import sys
from dataclasses import dataclass, fields
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol, Self

import soundfile
import torch
from torch import Tensor

from ..errors import InvalidAudio
from ..writing import writing
from .pcm import to_pcm16

__all__ = ["PIPE", "Provenance", "SpeechFile", "SpeechPipe", "open_output", "provenance_of", "read_foreign",
           "read_recording"]  # fmt: skip

PIPE = Path("-")
FORMATS = (".wav", ".flac", ".ogg", ".mp3")
HIGHEST_RATE, MOST_CHANNELS = 192_000, 8
BLOCK = 1 << 16
"""Samples of each channel that are decoded at once."""
UNKNOWN = 0xFFFFFFFF  # a length that is unknown when the header is written; players then read to the end


@dataclass(frozen=True)
class Provenance:
    """Plain fields in the file's metadata (WAV: INFO; FLAC, Ogg: comments). Anyone can read or remove them."""

    software: str = ""
    comment: str = ""

    @classmethod
    def ours(cls) -> Provenance:
        """The provenance that csm writes to its own files."""
        try:
            version = metadata.version("parley")
        except metadata.PackageNotFoundError:
            version = "from source"
        return cls(
            software=f"csm of Parley, {version}",
            comment="Synthetic speech, made with CSM-1B. This is not a recording of a person.",
        )


def read_recording(path: Path | str) -> tuple[Tensor, int]:
    """Read a recording unchanged: float32 [channels, samples] and its sample rate in Hz. Raises InvalidAudio."""
    if not Path(path).is_file():
        raise InvalidAudio(f"There is no recording at {path}.")
    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError) as error:
        raise InvalidAudio(f"{path} is not a recording that can be read ({_reason(error)}).") from error
    return torch.from_numpy(samples.T), rate


def read_foreign(content: bytes, longest_s: float) -> tuple[Tensor, int]:
    """Read a recording that someone sent, whose few bytes may stand for hours: float32 [samples], all channels mixed,
    and its sample rate in Hz. No more than that is decoded. Raises InvalidAudio."""
    mixed, length = [torch.zeros(0)], 0
    try:
        with soundfile.SoundFile(io.BytesIO(content)) as file:
            rate, channels = file.samplerate, file.channels
            if not 0 < rate <= HIGHEST_RATE or channels > MOST_CHANNELS:
                raise InvalidAudio(
                    f"A recording may have at most {MOST_CHANNELS} channels and {HIGHEST_RATE} Hz, but this one has "
                    f"{channels} at {rate} Hz."
                )
            while len(block := file.read(BLOCK, dtype="float32", always_2d=True)):
                length += len(block)
                if length > longest_s * rate:
                    raise InvalidAudio(f"The recording is longer than {longest_s:.0f} s: send a part of it.")
                mixed.append(torch.from_numpy(block.mean(axis=1)))
    except (soundfile.SoundFileError, OSError) as error:
        raise InvalidAudio(f"What was sent is not a recording that can be read ({_reason(error)}).") from error
    return torch.cat(mixed), rate


def provenance_of(path: Path | str) -> Provenance:
    """What a file says about its origin; fields that it lacks are empty. Raises InvalidAudio."""
    if not Path(path).is_file():
        raise InvalidAudio(f"There is no recording at {path}.")
    try:
        with soundfile.SoundFile(path) as file:
            return Provenance(**{field.name: getattr(file, field.name) or "" for field in fields(Provenance)})
    except (soundfile.SoundFileError, OSError) as error:
        raise InvalidAudio(f"{path} is not a recording that can be read ({_reason(error)}).") from error


class Output(Protocol):
    """Takes speech piece by piece, float32 [samples]."""

    def write(self, samples: Tensor) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def open_output(path: Path, sample_rate: int) -> Output:
    """Open a file in the format of its name, or standard output as WAV for `-`. Raises InvalidAudio."""
    if path == PIPE:
        if sys.stdout.isatty():
            raise InvalidAudio("Sound cannot be written to a terminal: give a file, or pipe it into a player.")
        return SpeechPipe(sys.stdout.buffer, sample_rate)
    if path.suffix.lower() not in FORMATS:
        raise InvalidAudio(f"The name of the output, {path}, should end in {', '.join(FORMATS[:-1])} or {FORMATS[-1]}.")
    return SpeechFile(path, sample_rate)


class SpeechFile:
    """A file of 16-bit mono sound with our provenance. An existing file of that name is unchanged until there is
    something to write."""

    def __init__(self, path: Path, sample_rate: int) -> None:
        if not path.parent.is_dir() or path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
            raise InvalidAudio(f"{path} cannot be written: choose a file in an existing folder that you may write to.")
        self.path, self.sample_rate = path, sample_rate
        self._file: soundfile.SoundFile | None = None

    def write(self, samples: Tensor) -> None:
        with writing(self.path):
            if self._file is None:
                self._file = soundfile.SoundFile(self.path, "w", self.sample_rate, channels=1)
                provenance = Provenance.ours()
                self._file.software, self._file.comment = provenance.software, provenance.comment
            self._file.write(samples.clamp(-1, 1).numpy())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()


class SpeechPipe:
    """A WAV of 16-bit mono sound with our provenance, written to a pipe. Its length is unknown beforehand."""

    def __init__(self, pipe: BinaryIO, sample_rate: int) -> None:
        self._pipe = pipe
        provenance = Provenance.ours()
        info = b"INFO" + _chunk(b"ISFT", provenance.software) + _chunk(b"ICMT", provenance.comment)
        width = 2
        layout = struct.pack("<HHIIHH", 1, 1, sample_rate, sample_rate * width, width, 8 * width)
        self._header = b"".join(
            (
                *(b"RIFF", struct.pack("<I", UNKNOWN), b"WAVE"),
                *(b"fmt ", struct.pack("<I", len(layout)), layout),
                *(b"LIST", struct.pack("<I", len(info)), info),
                *(b"data", struct.pack("<I", UNKNOWN)),
            )
        )

    def write(self, samples: Tensor) -> None:
        self._pipe.write(self._header + to_pcm16(samples))
        self._pipe.flush()
        self._header = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


def _chunk(name: bytes, text: str) -> bytes:
    """A chunk of RIFF INFO: zero-terminated text, padded to an even length."""
    content = text.encode() + b"\0"
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def _reason(error: Exception) -> str:
    """libsndfile's own words, without the file name that soundfile puts before them."""
    return str(error).rpartition(": ")[2].rstrip(".")
