"""Sound as the protocol carries it: base64 of 16-bit little-endian mono samples at 24 kHz."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator

import numpy as np
import soxr

from pipeline.audio import EAR_RATE, MOUTH_RATE, Samples
from pipeline.audio.pcm import from_pcm16, to_pcm16

WIRE_RATE = 24_000
"""Hz, both ways. The mouth's rate is the same, so a reply is not converted."""
BLOCK = 4800
"""Samples in one message to the client: 0.2 s, small enough to begin playing at once."""

assert MOUTH_RATE == WIRE_RATE


class SoundError(ValueError):
    """The message's sound cannot be read; one sentence."""


def encoded(samples: Samples) -> Iterator[str]:
    """A reply's samples (24 kHz) as the payload of one message after another."""
    for start in range(0, len(samples), BLOCK):
        yield base64.b64encode(to_pcm16(samples[start : start + BLOCK])).decode("ascii")


def samples_of(payload: str) -> int:
    """How many samples a payload of `encoded` holds."""
    return (len(payload) * 3 // 4 - payload.count("=", -2)) // 2


def decoded(payload: str) -> Samples:
    """Raises SoundError for what is not base64, or not whole samples."""
    try:
        data = base64.b64decode(payload, validate=True)
    except (binascii.Error, ValueError):
        raise SoundError("audio is not base64.") from None
    if len(data) % 2:
        raise SoundError("audio must be whole 16-bit samples; this has an odd number of bytes.")
    return from_pcm16(data)


class ToEar:
    """24 kHz to 16 kHz, with the resampler's state kept between messages."""

    def __init__(self) -> None:
        self._stream = self._new()

    def feed(self, samples: Samples) -> Samples:
        converted: Samples = self._stream.resample_chunk(samples)
        return converted

    def flush(self) -> Samples:
        """The last milliseconds, which the filter still holds; what follows begins anew."""
        rest: Samples = self._stream.resample_chunk(np.zeros(0, np.float32), last=True)
        self._stream = self._new()
        return rest

    def _new(self) -> soxr.ResampleStream:
        return soxr.ResampleStream(WIRE_RATE, EAR_RATE, 1, dtype="float32")
