"""Silero's real network on real recordings."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import soundfile
import soxr
from onnxruntime import InferenceSession

from pipeline.audio import EAR_RATE, Samples
from pipeline.turns.vad import FRAME, VoiceActivity, load_model
from tests.support import recordings


@pytest.fixture(scope="module")
def model() -> InferenceSession:
    return load_model()


@pytest.fixture
def activity(model: InferenceSession) -> VoiceActivity:
    return VoiceActivity(model)


def recording(name: str) -> Samples:
    samples, rate = soundfile.read(recordings.recording(name), dtype="float32", always_2d=True)
    return np.asarray(soxr.resample(samples.mean(axis=1), rate, EAR_RATE), dtype=np.float32)


def verdicts(activity: VoiceActivity, samples: Samples) -> list[float]:
    starts = range(0, len(samples) - FRAME + 1, FRAME)
    return [activity.probability(samples[start : start + FRAME]) for start in starts]


@pytest.mark.parametrize("name", ["weather_question.wav", "austen_0880.wav", "jfk.flac"])
def test_speech_is_noticed(activity: VoiceActivity, name: str) -> None:
    heard = np.array(verdicts(activity, recording(name)))
    assert (heard > 0.5).mean() > 0.5


def test_pauses_within_a_speech_are_noticed(activity: VoiceActivity) -> None:
    heard = np.array(verdicts(activity, recording("jfk.flac")))
    quiet = "".join("." if value < 0.35 else "x" for value in heard).strip(".")
    assert "." * 12 in quiet, "the speaker pauses for over 400 ms"


def test_silence_and_noise_are_no_speech(activity: VoiceActivity) -> None:
    noise = np.random.default_rng(3).standard_normal(5 * EAR_RATE).astype(np.float32)
    assert max(verdicts(activity, np.zeros(3 * EAR_RATE, np.float32))) < 0.2
    activity.reset()
    assert np.mean(np.array(verdicts(activity, 0.05 * noise)) > 0.5) < 0.05


def test_a_click_is_no_speech(activity: VoiceActivity) -> None:
    click = np.zeros(EAR_RATE, np.float32)
    click[8000:8020] = 0.9
    assert max(verdicts(activity, click)) < 0.5


def test_every_frame_is_judged_with_the_end_of_the_one_before(model: InferenceSession) -> None:
    """As silero_vad/utils_vad.py does it: 64 samples in front of each frame, zeros before the first."""
    question = recording("weather_question.wav")
    padded = np.concatenate([np.zeros(64, np.float32), question])
    state, expected = np.zeros((2, 1, 128), np.float32), []
    for start in range(0, len(question) - FRAME + 1, FRAME):
        window = padded[None, start : start + 64 + FRAME]
        output, state = model.run(None, {"input": window, "state": state, "sr": np.array(EAR_RATE, np.int64)})
        expected.append(float(output[0, 0]))
    assert verdicts(VoiceActivity(model), question) == expected


def test_reset_forgets(activity: VoiceActivity) -> None:
    question = recording("weather_question.wav")
    first = verdicts(activity, question)
    assert verdicts(activity, question) != first, "the state of the first hearing is carried on"
    activity.reset()
    assert verdicts(activity, question) == first


def test_conversations_share_a_model_but_no_state(model: InferenceSession) -> None:
    question = recording("weather_question.wav")
    alone = verdicts(VoiceActivity(model), question)
    first, second = VoiceActivity(model), VoiceActivity(model)
    together = []
    for start in range(0, len(question) - FRAME + 1, FRAME):
        together.append(first.probability(question[start : start + FRAME]))
        second.probability(np.zeros(FRAME, np.float32))
    assert together == alone


@pytest.mark.parametrize("length", [0, 511, 513, 1024])
def test_a_frame_of_another_length_is_refused(activity: VoiceActivity, length: int) -> None:
    with pytest.raises(ValueError, match="512 samples"):
        activity.probability(np.zeros(length, np.float32))


def test_no_number_never_reaches_the_state(activity: VoiceActivity) -> None:
    spoiled = np.zeros(FRAME, np.float32)
    spoiled[7] = np.nan
    with pytest.raises(ValueError, match="not numbers"):
        activity.probability(spoiled)
    assert np.isfinite(activity.probability(np.zeros(FRAME, np.float32)))


def test_torch_stays_out_of_the_main_process() -> None:
    script = "import sys; from pipeline.turns.vad import load_model; load_model(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
