"""ITU-T G.711: one byte per sample of speech, as used in telephony."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.audio import Samples

FULL = 32768.0


@dataclass(frozen=True, slots=True)
class Law:
    """One of the two ways in which the standard spaces its 256 levels."""

    levels: Samples
    """The sample that each byte stands for, -1 to 1."""
    bytes_of: npt.NDArray[np.uint8]
    """For each 16-bit sample, from the lowest up: the byte whose level is nearest."""

    @classmethod
    def mu(cls) -> Law:
        """Table 2: 14 bits; the step between levels starts at 2 and doubles; all bits are sent inverted."""
        code = ~np.arange(256, dtype=np.uint8)
        exponent, mantissa = (code >> 4 & 7).astype(int), (code & 15).astype(int)
        return cls._of(np.where(code & 128, -1, 1) * ((((mantissa << 3) + 132) << exponent) - 132))

    @classmethod
    def a(cls) -> Law:
        """Table 1: 13 bits, the lowest two segments alike; every other bit is sent inverted."""
        code = np.arange(256, dtype=np.uint8) ^ 0x55
        exponent, mantissa = (code >> 4 & 7).astype(int), (code & 15).astype(int)
        size = np.where(exponent > 0, ((mantissa << 4) + 264) << np.maximum(exponent - 1, 0), (mantissa << 4) + 8)
        return cls._of(np.where(code & 128, 1, -1) * size)

    @classmethod
    def _of(cls, levels: npt.NDArray[np.int_]) -> Law:
        order = np.argsort(levels, kind="stable")
        between = (levels[order][1:] + levels[order][:-1]) / 2
        samples = np.arange(-32768, 32768)
        nearest = order[np.searchsorted(between, samples, side="right")]
        return cls((levels / FULL).astype(np.float32), nearest.astype(np.uint8))

    def decode(self, data: bytes) -> Samples:
        decoded: Samples = self.levels[np.frombuffer(data, np.uint8)]
        return decoded

    def encode(self, samples: Samples) -> bytes:
        whole = np.clip(np.rint(samples * FULL), -32768, 32767).astype(int)
        encoded: npt.NDArray[np.uint8] = self.bytes_of[whole + 32768]
        return encoded.tobytes()
