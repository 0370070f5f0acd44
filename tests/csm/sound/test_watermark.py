"""The watermark, on networks of random weights (they mark nothing that could be read back) and on a reader and writer
that are exact. The networks are silentcipher's own; their weights are not part of this repository."""

import sys
import types
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

from csm.sound.watermark import KEY, Watermark, WatermarkMissing, _networks, load_watermark

pytestmark = pytest.mark.skipif(find_spec("silentcipher") is None, reason="silentcipher is not installed")

SETTINGS: dict[str, Any] = {
    "SR": 44_100,
    "N_FFT": 256,
    "HOP_LENGTH": 64,
    "message_band_size": 100,
    "message_dim": 5,
    "message_len": 21,
    "n_messages": 1,
    "model_type": "44.1k",
    "enc_n_layers": 3,
    "dec_c_n_layers": 4,
    "message_sdr": 47,
    "no_normalization": False,
    "ensure_negative_message": False,
    "ensure_constrained_message": False,
    "frame_level_normalization": False,
    "utterance_level_normalization": True,
}


def voice(seconds: float = 0.2, rate: int = 44_100) -> Tensor:
    time = torch.arange(int(seconds * rate)) / rate
    noise = torch.randn(time.shape, generator=torch.Generator().manual_seed(0))
    return 0.3 * torch.sin(2 * torch.pi * 220 * time) * (1 + torch.sin(2 * torch.pi * 3 * time)) / 2 + 0.05 * noise


def write_weights(folder: Path, **changes: Any) -> Path:
    settings = SETTINGS | changes
    torch.manual_seed(0)
    networks, config = _networks(), types.SimpleNamespace(**settings)
    folder.mkdir(parents=True, exist_ok=True)
    parts = {
        "enc_c": networks.Encoder(32, 3, 5, 100, 256),
        "dec_c": networks.CarrierDecoder(config, 96, 4, 100),
        "dec_m_0": networks.MsgDecoder(5, 100),
    }
    for name, part in parts.items():
        torch.save({f"module.{key}": tensor for key, tensor in part.state_dict().items()}, folder / f"{name}.ckpt")
    (folder / "hparams.yaml").write_text(yaml.safe_dump(settings))
    return folder


class Guesses(nn.Module):
    """Reads the message, turned by some places, with a share of the digits wrong: from few to all, with the seed."""

    def __init__(self, digits: Tensor, seed: int) -> None:
        super().__init__()
        self.digits, self.seed = digits.roll(seed), seed

    def forward(self, magnitude: Tensor) -> Tensor:
        frames, generator = magnitude.shape[3], torch.Generator().manual_seed(self.seed)
        digits = self.digits.repeat(frames // len(self.digits) + 1)[:frames]
        wrong = torch.rand(frames, generator=generator) < self.seed / 12
        digits = digits.where(~wrong, torch.randint(0, 5, (frames,), generator=generator))
        return nn.functional.one_hot(digits, 5).t()[None, None].float()


@pytest.fixture
def silentcipher(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The package's own server, with stand-ins for the two imports that it does not use at 44.1 kHz."""
    for name in ("librosa", "pydub"):
        if name not in sys.modules:
            module = types.ModuleType(name)
            module.AudioSegment = None  # type: ignore[attr-defined]
            monkeypatch.setitem(sys.modules, name, module)
    yield pytest.importorskip("silentcipher.server")
    for name in [name for name in sys.modules if name.startswith("silentcipher")]:
        del sys.modules[name]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"ensure_negative_message": True},
        {"ensure_constrained_message": True},
        {"utterance_level_normalization": False, "frame_level_normalization": True},
    ],
)
def test_marks_as_silentcipher_does(tmp_path: Path, silentcipher: Any, changes: dict[str, Any]) -> None:
    folder = write_weights(tmp_path, **changes)
    theirs = silentcipher.get_model("44.1k", str(folder), str(folder / "hparams.yaml"))
    sound = voice()
    marked, _ = theirs.encode_wav(sound.numpy(), 44_100, list(KEY), message_sdr=36, calc_sdr=False)
    ours = load_watermark(folder).write(sound, 44_100)
    assert (ours - sound).abs().max() > 1e-3
    torch.testing.assert_close(ours[: len(marked)], torch.from_numpy(marked).float(), rtol=0, atol=2e-5)


def test_reads_as_silentcipher_does(tmp_path: Path, silentcipher: Any) -> None:
    folder = write_weights(tmp_path)
    theirs = silentcipher.get_model("44.1k", str(folder), str(folder / "hparams.yaml"))
    watermark, compared = load_watermark(folder), 0
    for seed in range(12):
        watermark.reader = theirs.dec_m[0] = Guesses(watermark._digits(KEY), seed)
        found, expected = watermark._read(voice()), theirs.decode_wav(voice().numpy(), 44_100, False)
        assert (found is None) == (not expected["status"])
        if found is not None:
            assert list(found.message) == expected["messages"][0]
            assert found.confidence == pytest.approx(expected["confidences"][0])
            compared += 1
    assert 0 < compared < 12


@pytest.mark.parametrize("rate", [24_000, 44_100])
def test_the_mark_is_faint_and_the_length_kept(tmp_path: Path, rate: int) -> None:
    sound = voice(rate=rate)
    marked = load_watermark(write_weights(tmp_path, no_normalization=False)).write(sound, rate)
    assert marked.shape == sound.shape
    assert not torch.equal(marked, sound)
    noise = (marked - sound)[1000:-1000].square().mean()
    assert noise < 0.05 * sound.square().mean()


def test_silence_stays_silent(tmp_path: Path) -> None:
    watermark = load_watermark(write_weights(tmp_path))
    silence = torch.zeros(5000)
    assert watermark.write(silence, 24_000) is silence
    assert watermark.read(silence, 24_000) is None


class Spectrum(nn.Module):
    """Reads digits that were laid into the first five frequencies."""

    def forward(self, magnitude: Tensor) -> Tensor:
        return magnitude[:, :, :5]


@pytest.mark.parametrize("turned", [0, 5, 20])
def test_a_message_is_read_wherever_it_begins(tmp_path: Path, turned: int, monkeypatch: pytest.MonkeyPatch) -> None:
    written = load_watermark(write_weights(tmp_path))
    watermark = Watermark(SETTINGS, written.carrier, written.writer, Spectrum())
    digits = watermark._digits(KEY).roll(turned).repeat(4)
    digits[30] = (digits[30] + 1) % 5  # one of 84 misread
    spectrum = nn.functional.one_hot(digits, 5).t().float()
    monkeypatch.setattr(watermark, "_spectrum", lambda sound: (spectrum, spectrum))
    found = watermark.read(voice(), 44_100)
    assert found is not None
    assert (found.message, round(found.confidence, 4)) == (KEY, round(83 / 84, 4))
    assert watermark.read(voice(), 44_100, (1, 2, 3, 4, 5)) is None


def test_a_message_of_the_wrong_length(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="A mark has 5 bytes, but was given 3"):
        load_watermark(write_weights(tmp_path)).write(voice(), 44_100, (1, 2, 3))


def test_without_weights_one_line_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WatermarkMissing, match="hf download sony/silentcipher") as found:
        load_watermark()
    assert "\n" not in str(found.value)
    with pytest.raises(WatermarkMissing, match="not whole"):
        load_watermark(tmp_path)


def test_weights_that_are_code_are_refused(tmp_path: Path) -> None:
    folder = write_weights(tmp_path)
    torch.save({"module.main": Path("x")}, folder / "enc_c.ckpt")
    with pytest.raises(WatermarkMissing, match="contain more than tensors"):
        load_watermark(folder)
