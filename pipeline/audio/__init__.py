"""Sound inside Parley: float32 mono, 16 kHz for listening, 24 kHz for speaking. Devices convert at their edge."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]
"""Mono samples in [-1, 1], shape [n]."""

EAR_RATE = 16_000
"""Hz, for everything that listens: VAD, speech to text, turn model."""

MOUTH_RATE = 24_000
"""Hz, for everything that is spoken (CSM's own rate)."""
