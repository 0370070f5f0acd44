"""Samples as 16 bits and back."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.audio.pcm import from_pcm16, to_pcm16


def test_samples_are_rounded_to_the_nearest_and_cut_at_full_scale() -> None:
    samples = np.array([0.0, 0.6 / 32767, -0.6 / 32767, 1.0, 1.7, -2.0], np.float32)
    assert np.frombuffer(to_pcm16(samples), "<i2").tolist() == [0, 1, -1, 32767, 32767, -32767]


def test_what_comes_back_is_what_went_within_a_step() -> None:
    samples = np.linspace(-1, 1, 1001, dtype=np.float32)
    assert np.abs(from_pcm16(to_pcm16(samples)) - samples).max() <= 1.5 / 32768


def test_half_a_sample_is_an_error() -> None:
    with pytest.raises(ValueError, match="size"):
        from_pcm16(b"\0\0\0")
