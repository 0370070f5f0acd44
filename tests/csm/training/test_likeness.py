"""The speaker encoder against the figures of the package resemblyzer 0.1.4 (librosa 0.11), which were taken once."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest
import torch
from torch import Tensor

from csm.training import likeness
from csm.training.likeness import EncoderMissing, SpeakerEncoder, load_speaker_encoder, prepared
from tests.csm.tiny import voice


def tone() -> Tensor:
    """Made by a formula, so that the package could be given the very same."""
    time = torch.arange(40_000, dtype=torch.float64) / 16_000
    sound = 0.3 * torch.sin(2 * torch.pi * (150 + 40 * torch.sin(3 * time)) * time)
    return (sound + 0.1 * torch.sin(2 * torch.pi * 1200 * time)).float()


MELS = [(0, 2, 0.01240452), (10, 20, 0.01187949), (13, 26, 0.01144351), (25, 64, 0.00504056), (39, 185, 0.00172494)]
"""Row, its largest column, and its value, of `librosa.filters.mel(sr=16000, n_fft=400, n_mels=40)`."""
FIGURES = [0.0, 0.19753, 0.0, 0.13322, 0.10766, 0.0, 0.01543, 0.0, 0.03153, 0.07159, 0.03178, 0.0, 0.0, 0.08712,
           0.16846, 0.04252]  # fmt: skip
"""`VoiceEncoder().embed_utterance(tone)[::16]`."""


@pytest.mark.slow  # 17 MB of weights, fetched where they are not there
def test_the_figures_are_the_packages() -> None:
    encoder = load_speaker_encoder()
    embedding = encoder.embed_prepared(tone())
    torch.testing.assert_close(embedding[::16], torch.tensor(FIGURES), atol=2e-5, rtol=0)
    assert float(embedding.max()) == pytest.approx(0.26124, abs=2e-5) and int(embedding.argmax()) == 127


def test_the_mels_are_librosas() -> None:
    filters = SpeakerEncoder().filters
    assert isinstance(filters, Tensor)
    assert float(filters.sum()) == pytest.approx(0.9994972, abs=1e-6)
    for row, column, value in MELS:
        assert int(filters[row].argmax()) == column and float(filters[row].max()) == pytest.approx(value, abs=1e-7)
    assert float(filters[25, 60]) == pytest.approx(0.00065269, abs=1e-7)


def test_short_and_long_sound_have_one_direction_of_length_one() -> None:
    encoder = SpeakerEncoder().eval()
    for seconds in (0.3, 1.6, 2.2, 9.0):
        embedding = encoder.embed(voice(seconds), 24_000)
        assert embedding.shape == (256,) and float(embedding.norm()) == pytest.approx(1, abs=1e-5)
    quiet, loud = encoder.embed(0.01 * voice(3.0), 24_000), encoder.embed(0.02 * voice(3.0), 24_000)
    torch.testing.assert_close(quiet, loud, atol=1e-4, rtol=0)


def test_long_pauses_are_cut_short() -> None:
    sound = torch.cat((voice(1.0, 16_000), torch.zeros(32_000), voice(1.0, 16_000)))
    assert len(prepared(sound, 16_000)) / 16_000 == pytest.approx(2.24, abs=0.05)
    with pytest.raises(ValueError, match="is silent"):
        prepared(torch.zeros(16_000), 16_000)


class TestWeights:
    """They are data: what is not the published file is not opened."""

    def test_only_the_published_file_is_taken(self, tmp_path: Path) -> None:
        (tmp_path / "pretrained.pt").write_bytes(b"something else")
        with pytest.raises(EncoderMissing, match="checksum"):
            load_speaker_encoder(tmp_path / "pretrained.pt")
        with zipfile.ZipFile(tmp_path / "a.whl", "w") as wheel:
            wheel.writestr("resemblyzer/pretrained.pt", b"something else")
        with pytest.raises(EncoderMissing, match="checksum"):
            load_speaker_encoder(tmp_path / "a.whl")
        with pytest.raises(EncoderMissing, match="cannot be read"):
            load_speaker_encoder(tmp_path / "nowhere.pt")

    def test_a_network_of_our_shape_comes_from_its_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        torch.manual_seed(1)
        model = SpeakerEncoder()
        state = model.state_dict() | {"similarity_weight": torch.ones(1), "similarity_bias": torch.ones(1)}
        torch.save({"model_state": state}, tmp_path / "own.pt")
        digest = hashlib.sha256((tmp_path / "own.pt").read_bytes()).hexdigest()
        monkeypatch.setattr(likeness, "SHA256", digest)
        loaded = load_speaker_encoder(tmp_path / "own.pt")
        assert torch.equal(loaded.embed_prepared(tone()), model.eval().embed_prepared(tone()))
