"""Sound inside Parley: float32 mono, 16 kHz towards the ear, 24 kHz from the mouth. A device converts at its edge."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]
"""Mono samples in [-1, 1], shape [n]."""

EAR_RATE = 16_000
"""Hz, of everything that listens: VAD, speech to text, turn model."""

MOUTH_RATE = 24_000
"""Hz, of everything that is spoken (CSM's own rate)."""
