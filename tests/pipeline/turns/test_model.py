"""The turn model on real speech, and its features against transformers' own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from transformers import WhisperFeatureExtractor

from pipeline.audio import EAR_RATE, Samples
from pipeline.ends.file import read_sound
from pipeline.turns.model import SECONDS, TurnModel, load, log_mel, mel_filters
from tests.support.recordings import recording


@pytest.fixture(scope="module")
def model() -> TurnModel:
    return load(lambda progress: None)


def after(sound: Samples, seconds: float, silence: float = 0.2) -> Samples:
    return np.concatenate([sound[: round(seconds * EAR_RATE)], np.zeros(round(silence * EAR_RATE), np.float32)])


def test_features_are_whispers() -> None:
    sound = np.random.default_rng(0).normal(0, 0.1, SECONDS * EAR_RATE).astype(np.float32)
    extractor: Any = WhisperFeatureExtractor
    theirs = extractor(chunk_length=SECONDS)(
        sound, sampling_rate=EAR_RATE, do_normalize=True, return_tensors="np"
    ).input_features[0]
    assert np.abs(log_mel(sound, mel_filters()) - theirs).max() < 1e-5


@pytest.mark.parametrize(("file", "seconds"), [("weather_question.wav", 1.9), ("bear_or_shark.mp3", 2.1)])
def test_a_whole_question_is_finished(model: TurnModel, file: str, seconds: float) -> None:
    assert model.finished(after(read_sound(recording(file)), seconds)) > 0.8


@pytest.mark.parametrize("seconds", [4.43, 7.63])
def test_a_pause_inside_a_sentence_is_not_the_end(model: TurnModel, seconds: float) -> None:
    assert model.finished(after(read_sound(recording("jfk.flac")), seconds)) < 0.2


def test_any_length_will_do(model: TurnModel) -> None:
    for samples in (0, 1, 512, 20 * EAR_RATE):
        assert 0 <= model.finished(np.zeros(samples, np.float32)) <= 1
