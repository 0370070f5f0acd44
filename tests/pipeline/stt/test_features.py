"""Whisper's features: those of faster-whisper for a sound with silence after it, whatever was really computed."""

from __future__ import annotations

import numpy as np
import pytest
from faster_whisper.feature_extractor import FeatureExtractor

from pipeline.audio import EAR_RATE, Samples
from pipeline.stt.features import HOP, features

WINDOW_S = 10
RNG = np.random.default_rng(0)


@pytest.mark.parametrize("level", [0.0, 1e-6, 0.1])
@pytest.mark.parametrize("samples", [0, 1, HOP - 1, HOP, 25_000, 25_199, 25_200, 25_201, 9 * EAR_RATE])
def test_silence_that_is_not_computed_has_the_features_of_silence(samples: int, level: float) -> None:
    sound: Samples = (level * RNG.standard_normal(samples)).astype(np.float32)
    padded = np.pad(sound, (0, WINDOW_S * EAR_RATE - samples))
    whole = FeatureExtractor()(padded, padding=0)[:, : 100 * WINDOW_S]
    found = features(FeatureExtractor(), sound, 100 * WINDOW_S)
    assert found.dtype == whole.dtype and found.shape == whole.shape
    np.testing.assert_allclose(found, whole, atol=1e-5)


def test_a_sound_longer_than_the_window_is_cut_off() -> None:
    sound: Samples = RNG.standard_normal(3 * EAR_RATE).astype(np.float32)
    assert features(FeatureExtractor(), sound, 200).shape == (80, 200)
