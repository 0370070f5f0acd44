"""Sound as the protocol carries it: base64 of mono samples, 16-bit little-endian at 24 kHz, or G.711 at 8 kHz."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import soxr

from pipeline.audio import EAR_RATE, MOUTH_RATE, Samples
from pipeline.audio.pcm import from_pcm16, to_pcm16
from web.realtime.g711 import Law

BLOCK_S = 0.2
"""Seconds of sound in one message to the client: short enough that playback can begin at once."""


class SoundError(ValueError):
    """The message's sound cannot be read; the message is one sentence."""


@dataclass(frozen=True, slots=True)
class Encoding:
    name: str
    """As in a session's `format`."""
    rate: int
    """Hz."""
    width: int
    """Bytes per sample."""
    decode: Callable[[bytes], Samples]
    encode: Callable[[Samples], bytes]


PCM = Encoding("audio/pcm", 24_000, 2, from_pcm16, to_pcm16)
_ULAW, _ALAW = Law.mu(), Law.a()
ULAW = Encoding("audio/pcmu", 8_000, 1, _ULAW.decode, _ULAW.encode)
ALAW = Encoding("audio/pcma", 8_000, 1, _ALAW.decode, _ALAW.encode)
ENCODINGS = {encoding.name: encoding for encoding in (PCM, ULAW, ALAW)}


def decoded(payload: str, encoding: Encoding = PCM) -> Samples:
    """Return the samples at the encoding's rate. Raises SoundError if it is not base64 or not whole samples."""
    try:
        data = base64.b64decode(payload, validate=True)
    except (binascii.Error, ValueError):
        raise SoundError("audio is not base64.") from None
    if len(data) % encoding.width:
        raise SoundError("audio must be whole 16-bit samples; this has an odd number of bytes.")
    return encoding.decode(data)


class ToEar:
    """Converts from the wire's rate to 16 kHz, keeping the resampler's state between messages."""

    def __init__(self, encoding: Encoding = PCM) -> None:
        self.encoding = encoding
        self._stream = self._new()

    def feed(self, samples: Samples) -> Samples:
        converted: Samples = self._stream.resample_chunk(samples)
        return converted

    def flush(self) -> Samples:
        """Return the last milliseconds, which the filter still holds, and start afresh."""
        rest: Samples = self._stream.resample_chunk(np.zeros(0, np.float32), last=True)
        self._stream = self._new()
        return rest

    def _new(self) -> soxr.ResampleStream:
        return soxr.ResampleStream(self.encoding.rate, EAR_RATE, 1, dtype="float32")


class FromMouth:
    """Converts a reply's samples (24 kHz) to message payloads."""

    def __init__(self, encoding: Encoding = PCM) -> None:
        self.encoding = encoding
        self._stream = self._new()

    def feed(self, samples: Samples) -> Iterator[str]:
        return self._payloads(samples if self._stream is None else self._stream.resample_chunk(samples))

    def flush(self) -> Iterator[str]:
        """Return what the filter still holds at the end of a reply, and start afresh."""
        rest = np.zeros(0, np.float32)
        if self._stream is not None:
            rest = self._stream.resample_chunk(rest, last=True)
            self._stream = self._new()
        return self._payloads(rest)

    def samples_of(self, payload: str) -> int:
        """Return how many of the mouth's samples a payload holds."""
        size = len(payload) * 3 // 4 - payload.count("=", -2)
        return size // self.encoding.width * MOUTH_RATE // self.encoding.rate

    def _payloads(self, samples: Samples) -> Iterator[str]:
        block = int(BLOCK_S * self.encoding.rate)
        for start in range(0, len(samples), block):
            yield base64.b64encode(self.encoding.encode(samples[start : start + block])).decode("ascii")

    def _new(self) -> soxr.ResampleStream | None:
        if self.encoding.rate == MOUTH_RATE:
            return None
        return soxr.ResampleStream(MOUTH_RATE, self.encoding.rate, 1, dtype="float32")
