"""Sound as 16-bit little-endian samples, the format of networks, files and libraries."""

from __future__ import annotations

import numpy as np

from pipeline.audio import Samples


def to_pcm16(samples: Samples) -> bytes:
    """Convert by rounding to the nearest; values beyond ±1 are clipped."""
    return (np.clip(samples, -1, 1) * 32767).round().astype("<i2").tobytes()


def from_pcm16(data: bytes) -> Samples:
    """Return mono samples in [-1, 1). Raises ValueError if the data ends with half a sample."""
    samples: Samples = np.frombuffer(data, "<i2").astype(np.float32) / np.float32(32768)
    return samples
