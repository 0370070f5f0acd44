"""The encoder in NumPy gives what csm's gives in PyTorch, and tells the people of the recordings apart."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
import torch

from csm.training.likeness import SpeakerEncoder
from pipeline.audio import EAR_RATE, Samples
from pipeline.speakers.encoder import LOUDNESS, VoiceEncoder, load, read_weights, unit
from pipeline.speakers.people import KNOWN
from tests.support.recordings import recording


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> tuple[SpeakerEncoder, Path]:
    """csm's, with random weights, and a file of them in the published form."""
    torch.manual_seed(0)
    encoder = SpeakerEncoder().eval()
    file = tmp_path_factory.mktemp("weights") / "pretrained.pt"
    tree = {"step": 1, "model_state": encoder.state_dict(), "optimizer_state": {"step": torch.tensor([7])}}
    torch.save(tree, file, _use_new_zipfile_serialization=False)
    return encoder, file


@pytest.mark.parametrize("seconds", [0.4, 1.6, 2.1, 7.3])
def test_directions_are_those_of_csm(reference: tuple[SpeakerEncoder, Path], seconds: float) -> None:
    theirs, file = reference
    ours = VoiceEncoder(read_weights(file))
    sound = np.random.default_rng(0).normal(0, 0.1, round(seconds * EAR_RATE)).astype(np.float32)
    direction = ours.direction(sound)
    assert direction is not None
    expected = theirs.embed_prepared(torch.from_numpy(sound)).numpy()
    np.testing.assert_allclose(direction, expected, atol=1e-5)
    quiet = ours.direction(sound * np.float32(0.001))
    assert quiet is not None
    loud = sound * np.float32(10 ** (LOUDNESS / 20) / np.sqrt(np.mean(np.square(sound))))
    np.testing.assert_allclose(quiet, theirs.embed_prepared(torch.from_numpy(loud)).numpy(), atol=1e-4)


def test_silence_has_no_voice(reference: tuple[SpeakerEncoder, Path]) -> None:
    encoder = VoiceEncoder(read_weights(reference[1]))
    assert encoder.direction(np.zeros(16_000, np.float32)) is None
    assert encoder.direction(np.zeros(0, np.float32)) is None


def test_a_file_of_anything_but_numbers_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "pretrained.pt"
    parts: list[object] = [1, 1001, {}, {"model_state": Path("x")}, []]
    file.write_bytes(b"".join(map(pickle.dumps, parts)))
    with pytest.raises(pickle.UnpicklingError, match="something else than numbers"):
        read_weights(file)


@pytest.mark.slow  # 17 MB of weights, fetched where they are not there
def test_people_of_the_recordings_are_told_apart() -> None:
    encoder = load(lambda _: None)

    def heard(name: str) -> Samples:
        sound, rate = soundfile.read(recording(name), dtype="float32", always_2d=True)
        resampled: Samples = soxr.resample(sound[:, 0], rate, EAR_RATE).astype(np.float32)
        return resampled

    def direction(sound: Samples) -> np.ndarray:
        found = encoder.direction(sound)
        assert found is not None
        return unit(found)

    reader = direction(heard("austen_0870.wav"))
    speech = heard("jfk.flac")
    president = direction(speech[: len(speech) // 2])
    for sound, person in (
        (heard("austen_0880.wav"), reader),
        (heard("austen_0890.wav"), reader),
        (speech[len(speech) // 2 :], president),
    ):
        assert float(direction(sound) @ person) > KNOWN
    for name in ("weather_question.wav", "bear_or_shark.mp3"):
        assert max(float(direction(heard(name)) @ person) for person in (reader, president)) < KNOWN
    assert float(reader @ president) < KNOWN
