"""Sound as 16-bit little-endian samples, which is what wires, files and libraries take."""

from __future__ import annotations

import numpy as np

from pipeline.audio import Samples


def to_pcm16(samples: Samples) -> bytes:
    """Rounded to the nearest; what is louder than 1 is cut there."""
    return (np.clip(samples, -1, 1) * 32767).round().astype("<i2").tobytes()


def from_pcm16(data: bytes) -> Samples:
    """Mono samples in [-1, 1). Raises ValueError for half a sample."""
    samples: Samples = np.frombuffer(data, "<i2").astype(np.float32) / np.float32(32768)
    return samples
