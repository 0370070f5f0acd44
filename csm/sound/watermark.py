"""The inaudible watermark in CSM's speech: Sony's SilentCipher, with the public key that Sesame uses for CSM-1B.

Of the package silentcipher only the file with its networks is used, which needs only torch. The rest (librosa, pydub,
Flask) is not imported, so `pip install --no-deps silentcipher` is enough. Its weights come from the hub: `hf download
sony/silentcipher`. Method: Singh et al. 2024, "SilentCipher: Deep Audio Watermarking".

A message of five bytes is written as twenty digits of two bits and an end digit, each in one frame of the spectrogram,
repeatedly. Reading takes the most common digit at each of the 21 places.
"""

import importlib.util
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from csm.errors import CsmError

KEY = (212, 211, 146, 56, 201)  # public, from SesameAILabs/csm; it says "made with CSM-1B" and is not secret
DISTANCE_DB = 36.0  # of the mark below the sound, as in Sesame's code
ENERGY = 0.002837200844477648  # mean square on which the networks were trained (VCTK's, from silentcipher)
REPOSITORY, FOLDER = "sony/silentcipher", "44_1_khz/73999_iteration"
SEARCH_STEP = 10  # samples between attempts to read a recording that was cut anywhere


class WatermarkMissing(CsmError):
    """The package or its weights are missing, so nothing can be marked or checked."""


@dataclass(frozen=True)
class Mark:
    """A message found in a recording, and the share of its digits (0 to 1) that agreed with it."""

    message: tuple[int, ...]
    confidence: float


class Watermark:
    """Writes and reads marks at 44.1 kHz; sound at other rates is resampled there and back.

    The networks normalise by the statistics of the current recording: their authors never switch them to evaluation
    mode, and the published marks were made that way.
    """

    def __init__(self, settings: dict[str, Any], carrier: nn.Module, writer: nn.Module, reader: nn.Module) -> None:
        self.settings, self.carrier, self.writer, self.reader = settings, carrier, writer, reader
        self.sample_rate: int = settings["SR"]
        self.places: int = settings["message_len"]
        self.digits: int = settings["message_dim"]  # four values and the end digit
        self.size: int = settings["N_FFT"]
        self.hop: int = settings["HOP_LENGTH"]
        self.window = torch.hann_window(self.size)

    @torch.no_grad()
    def write(self, samples: Tensor, sample_rate: int, message: Sequence[int] = KEY) -> Tensor:
        """Mark float32 [samples]; return silence unchanged."""
        sound = _resample(samples, sample_rate, self.sample_rate)
        power = sound.square().mean()
        if power == 0:
            return samples
        magnitude, phase = self._spectrum(sound * (ENERGY / power).sqrt())
        carrier = magnitude[None, None]
        shape = carrier.shape
        digits = self._digits(message)
        one_hot = nn.functional.one_hot(digits.repeat(-(-shape[3] // len(digits)))[: shape[3]], self.digits)
        mark = self.carrier.transform_message(one_hot.t()[None, None].float())  # type: ignore[operator]
        seen = torch.cat((self.carrier(carrier), carrier.repeat(1, 32, 1, 1), mark.repeat(1, 32, 1, 1)), dim=1)
        change = self.writer(seen, DISTANCE_DB) * self._level(carrier)
        if self.settings.get("ensure_negative_message"):
            marked = (carrier - change).relu()
        elif self.settings.get("ensure_constrained_message"):
            marked = carrier + change.clamp(max=carrier).clamp(min=-carrier)
        else:
            marked = (carrier + change).abs()
        spectrum = torch.polar(marked[0, 0], phase)
        sound = torch.istft(spectrum, self.size, self.hop, self.size, self.window)[: len(sound)]
        sound = nn.functional.pad(sound, (0, round(len(samples) * self.sample_rate / sample_rate) - len(sound)))
        sound = _resample(sound * (power / ENERGY).sqrt(), self.sample_rate, sample_rate)
        return nn.functional.pad(sound, (0, len(samples) - len(sound)))

    def read(self, samples: Tensor, sample_rate: int, message: Sequence[int] = KEY) -> Mark | None:
        """Look for `message` in float32 [samples], even if cut anywhere within a frame; None if not found."""
        sound = _resample(samples, sample_rate, self.sample_rate)
        for start in range(0, self.hop, SEARCH_STEP):
            found = self._read(sound[start:])
            if found is not None and found.message == tuple(message):
                return found
        return None

    @torch.no_grad()
    def _read(self, sound: Tensor) -> Mark | None:
        power = sound.square().mean()
        if len(sound) == 0 or power == 0:
            return None
        magnitude, _ = self._spectrum(sound * (ENERGY / power).sqrt())
        digits = self.reader(magnitude[None, None])[0, 0].argmax(0)
        rows = digits[: len(digits) // self.places * self.places].view(-1, self.places)
        if len(rows) == 0:
            return None
        commonest = rows.mode(dim=0).values
        ends = (commonest == 0).nonzero()
        if len(ends) == 0:
            return None
        ordered = commonest.roll(-int(ends[0]) - 1)[:-1].tolist()
        if 0 in ordered:
            return None
        return Mark(tuple(_bytes(ordered)), float((rows == commonest).float().mean()))

    def _digits(self, message: Sequence[int]) -> Tensor:
        """The message's bits, two per digit, from the highest: 1 to 4, and 0 at the end."""
        digits = [(byte >> shift & 3) + 1 for byte in message for shift in (6, 4, 2, 0)]
        if len(digits) != self.places - 1:
            raise ValueError(f"A mark has {(self.places - 1) // 4} bytes, but was given {len(message)}.")
        return torch.tensor([*digits, 0])

    def _level(self, carrier: Tensor) -> Tensor:
        """How loud the mark may be: relative to the frame, relative to the recording, or unscaled."""
        if self.settings.get("frame_level_normalization"):
            return carrier.square().mean(dim=2, keepdim=True).sqrt()
        if self.settings.get("utterance_level_normalization"):
            return carrier.square().mean(dim=(2, 3), keepdim=True).sqrt()
        return torch.ones(())

    def _spectrum(self, sound: Tensor) -> tuple[Tensor, Tensor]:
        """Magnitude and phase, [frequencies, frames]."""
        filled = nn.functional.pad(sound, (0, self.size - len(sound) % self.size))
        spectrum = torch.stft(filled, self.size, self.hop, self.size, self.window, return_complex=True)
        return spectrum.abs(), spectrum.angle()


def load_watermark(folder: Path | str | None = None) -> Watermark:
    """Load from `folder`, or from the hub's cache on this machine; nothing is downloaded.

    Raises:
        WatermarkMissing: the package or its weights are missing; the message says how to get them.
    """
    import yaml

    networks = _networks()
    folder = Path(folder) if folder is not None else _cached()
    try:
        settings: dict[str, Any] = yaml.safe_load((folder / "hparams.yaml").read_text())
        states = {name: _state(folder / f"{name}.ckpt") for name in ("enc_c", "dec_c", "dec_m_0")}
    except OSError as error:
        raise WatermarkMissing(f"The watermark's weights in {folder} are incomplete: {error}.") from error
    except pickle.UnpicklingError as error:
        raise WatermarkMissing(
            f"The watermark's weights in {folder} contain more than tensors and are refused."
        ) from error
    band, digits, channels = settings["message_band_size"], settings["message_dim"], 32
    carrier = networks.Encoder(channels, settings["enc_n_layers"], digits, band, settings["N_FFT"])
    config = type("Settings", (), settings)
    writer = networks.CarrierDecoder(config, 3 * channels, settings["dec_c_n_layers"], band)
    reader = networks.MsgDecoder(digits, band)
    for network, state in zip((carrier, writer, reader), states.values(), strict=True):
        network.load_state_dict(state)
    return Watermark(settings, carrier, writer, reader)


def _networks() -> Any:
    """Import silentcipher/model.py without silentcipher/__init__.py, which imports much that is not needed."""
    package = importlib.util.find_spec("silentcipher")
    if package is None or not package.submodule_search_locations:
        raise WatermarkMissing("The package silentcipher is not installed: pip install --no-deps silentcipher.")
    file = Path(package.submodule_search_locations[0]) / "model.py"
    spec = importlib.util.spec_from_file_location("csm._silentcipher_networks", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _cached() -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(REPOSITORY, local_files_only=True)) / FOLDER
    except LocalEntryNotFoundError as error:
        raise WatermarkMissing(
            f"The watermark's weights are not on this computer: download them with hf download {REPOSITORY}."
        ) from error


def _state(file: Path) -> dict[str, Tensor]:
    """Load tensors and nothing else; strip the prefix of a model trained on several GPUs from the names."""
    state: dict[str, Tensor] = torch.load(file, map_location="cpu", weights_only=True)
    return {name.removeprefix("module."): tensor for name, tensor in state.items()}


def _bytes(digits: Sequence[int]) -> Iterator[int]:
    """Yield a byte for every four digits of 1 to 4."""
    for start in range(0, len(digits), 4):
        byte = 0
        for digit in digits[start : start + 4]:
            byte = byte << 2 | digit - 1
        yield byte


def _resample(samples: Tensor, rate: int, wanted: int) -> Tensor:
    if rate == wanted:
        return samples
    import soxr

    return torch.from_numpy(soxr.resample(samples.numpy(), rate, wanted))
