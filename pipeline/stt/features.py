"""Whisper's features of a sound that is followed by silence, without computing the silence.

Most of a window is silence: 7 s of 10 after a question of 3 s.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.audio import Samples
from pipeline.stt.together import Features

HOP, REACH = 160, 560
"""Samples from one frame to the next, and of silence after the sound with which every frame that reaches into the sound
is computed: a window of 400, and a hop."""

LEAST, RANGE = (-10 + 4) / 4, 8 / 4
"""The features of no power at all, and their distance from the loudest at most (Radford et al. 2022, section 2.2, and
whisper/audio.py: powers of at least 1e-10, 8 decades, log10 / 4 + 1)."""


def features(extractor: Any, sound: Samples, frames: int) -> Features:
    """Return the log-mel features of `sound` with silence up to `frames`: shape [mels, frames], 10 ms each.

    Args:
        extractor: faster-whisper's, of the model.
        sound: 16 kHz.
    """
    heard = extractor(np.pad(sound[: HOP * frames], (0, REACH)), padding=0)[:, :frames]
    silence = max(LEAST, float(heard.max()) - RANGE)
    whole: Features = np.pad(heard, ((0, 0), (0, frames - heard.shape[1])), constant_values=silence)
    return whole
