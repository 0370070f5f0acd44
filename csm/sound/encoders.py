"""Encode speech in the formats of files and streams while it is made."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Protocol

import soundfile
from torch import Tensor

from .audio_files import SpeechPipe
from .pcm import to_pcm16


class Encoder(Protocol):
    def feed(self, samples: Tensor) -> bytes:
        """Encode float32 [samples]; return the bytes that are ready."""

    def finish(self) -> bytes:
        """Return the remaining bytes."""


class _Pcm:
    def feed(self, samples: Tensor) -> bytes:
        return to_pcm16(samples)

    def finish(self) -> bytes:
        return b""


class _Wav:
    def __init__(self, rate: int) -> None:
        self._buffer = io.BytesIO()
        self._pipe = SpeechPipe(self._buffer, rate)

    def feed(self, samples: Tensor) -> bytes:
        self._buffer.seek(0)
        self._buffer.truncate()
        self._pipe.write(samples)
        return self._buffer.getvalue()

    def finish(self) -> bytes:
        return b""


class _File:
    """libsndfile's encoders. Bytes are returned as soon as they are written; lengths filled in later are lost."""

    def __init__(self, rate: int, format: str, subtype: str | None) -> None:
        self._buffer = io.BytesIO()
        self._file = soundfile.SoundFile(self._buffer, "w", rate, 1, format=format, subtype=subtype)
        self._sent = 0

    def feed(self, samples: Tensor) -> bytes:
        self._file.write(samples.clamp(-1, 1).numpy())
        return self._new()

    def finish(self) -> bytes:
        self._file.close()
        return self._new()

    def _new(self) -> bytes:
        new = self._buffer.getvalue()[self._sent :]
        self._sent += len(new)
        return new


ENCODERS: dict[str, tuple[str, Callable[[int], Encoder]]] = {
    "mp3": ("audio/mpeg", lambda rate: _File(rate, "MP3", None)),
    "opus": ("audio/ogg", lambda rate: _File(rate, "OGG", "OPUS")),
    "flac": ("audio/flac", lambda rate: _File(rate, "FLAC", None)),
    "wav": ("audio/wav", _Wav),
    "pcm": ("audio/pcm", lambda rate: _Pcm()),
}
"""By OpenAI's name of a format: its media type, and a function that makes an encoder for a sample rate (Hz)."""
