"""kyutai's own implementation of Mimi (package `moshi`, optional) with the same interface as ours.

Our implementation is tested against it, and it can be used instead. It requires `pip install --no-deps moshi` and its
imports (einops, sentencepiece, sounddevice).
"""

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from csm.codec.checkpoint import ORIGINAL_FILE, SafetensorsFiles, stated_config
from csm.codec.protocol import FRAME_SIZE, SAMPLE_RATE
from csm.codec.seanet import MimiConfig
from csm.errors import CheckpointError, CsmError

REPOSITORY = "kyutai/moshiko-pytorch-bf16"


def moshi_config(config: MimiConfig) -> dict[str, Any]:
    """The sizes as `moshi.models.loaders.get_mimi` takes them."""
    return {
        "sample_rate": config.sample_rate,
        "channels": 1,
        "frame_rate": config.sample_rate / config.frame_size,
        "seanet": {
            "channels": 1,
            "dimension": config.dim,
            "causal": True,
            "n_filters": config.filters,
            "n_residual_layers": 1,
            "activation": "ELU",
            "compress": config.compress,
            "kernel_size": config.kernel,
            "residual_kernel_size": config.residual_kernel,
            "last_kernel_size": config.last_kernel,
            "norm": "none",
            "pad_mode": "constant",
            "ratios": list(config.ratios),
            "true_skip": True,
        },
        "quantizer": {
            "dimension": config.codebook_dim,
            "n_q": config.codebooks,
            "bins": config.codebook_size,
            "input_dimension": config.dim,
            "output_dimension": config.dim,
        },
        "transformer": {
            "d_model": config.dim,
            "num_heads": config.heads,
            "num_layers": config.layers,
            "causal": True,
            "layer_scale": 0.01,  # replaced by the file's
            "context": config.window,
            "conv_layout": True,
            "max_period": config.theta,
            "gating": "none",
            "norm": "layer_norm",
            "positional_embedding": "rope",
            "dim_feedforward": config.ffn,
            "input_dimension": config.dim,
            "output_dimensions": [config.dim],
        },
    }


def find_original_file(folder: Path) -> Path:
    """Find the file in the original format: the model's own, otherwise kyutai's on the hub. Raises CheckpointError."""
    if (file := folder / ORIGINAL_FILE).is_file():
        return file
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(REPOSITORY, ORIGINAL_FILE))
    except OSError as error:  # the base class of all errors that the hub's client raises
        raise CheckpointError(
            f"Expected {ORIGINAL_FILE} in {folder} or in {REPOSITORY} on the hub; found neither."
        ) from error


def load_moshi_codec(
    file: Path | str, *, config: MimiConfig | None = None, device: torch.device | str = "cpu"
) -> "MoshiCodec":
    """Load a file in the original format. moshi's default of 8 codebooks is replaced by the config's, normally 32.

    Raises:
        CsmError: the package moshi is not installed.
    """
    try:
        from moshi.models import loaders
    except ImportError as error:
        raise CsmError(f"moshi's codec needs the package moshi: pip install --no-deps moshi ({error}).") from error
    file = Path(file)
    config = config or stated_config(file, SafetensorsFiles(file)) or MimiConfig()
    model = loaders.get_mimi(file, moshi_config(config), device=device, num_codebooks=config.codebooks)
    return MoshiCodec(model, config.codebooks)


class MoshiCodec:
    """moshi's MimiModel as a `csm.codec.Codec`."""

    sample_rate, frame_size = SAMPLE_RATE, FRAME_SIZE

    def __init__(self, model: Any, codebooks: int) -> None:
        self.model, self.codebooks = model, codebooks

    @torch.no_grad()
    def encode(self, audio: Tensor) -> Tensor:
        """float32 [batch, samples] to int64 [batch, codebooks, frames]."""
        codes: Tensor = self.model.encode(audio[:, None])
        return codes

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """int64 [batch, codebooks, frames] to float32 [batch, frames * frame_size]."""
        audio: Tensor = self.model.decode(codes)
        return audio[:, 0]

    def decoder(self, batch: int = 1) -> "MoshiDecoder":
        """Return a new stream of codes to sound."""
        return MoshiDecoder(self._streaming(batch), batch)

    def encoder(self, batch: int = 1) -> "MoshiEncoder":
        """Return a new stream of sound to codes."""
        return MoshiEncoder(self._streaming(batch), batch, self.codebooks)

    def _streaming(self, batch: int) -> Any:
        """Copy the modules but share the weights, because moshi keeps a stream's state in the modules."""
        tensors = (*self.model.parameters(), *self.model.buffers())
        model = copy.deepcopy(self.model, {id(tensor): tensor for tensor in tensors})
        model.streaming_forever(batch)
        return model


class _Stream:
    def __init__(self, model: Any, batch: int) -> None:
        self.model, self.batch = model, batch
        self.device = next(model.parameters()).device

    def reset(self, slot: int | None = None) -> None:
        mask = torch.ones(self.batch, dtype=torch.bool, device=self.device)
        if slot is not None:
            mask = torch.arange(self.batch, device=self.device) == slot
        self.model.reset_streaming(reset_mask=mask)


class MoshiDecoder(_Stream):
    """Implements `csm.codec.StreamingDecoder`."""

    @torch.no_grad()
    def step(self, codes: Tensor, out: Tensor | None = None) -> Tensor:
        """int64 [batch, codebooks, n] to float32 [batch, n * frame_size]."""
        audio = torch.cat([self.model.decode(frame)[:, 0] for frame in torch.split(codes, 1, dim=2)], dim=1)
        return audio if out is None else out.copy_(audio)


class MoshiEncoder(_Stream):
    """Implements `csm.codec.StreamingEncoder`."""

    def __init__(self, model: Any, batch: int, codebooks: int) -> None:
        super().__init__(model, batch)
        self.waiting = torch.zeros(batch, 0, device=self.device)
        self.no_codes = torch.zeros(batch, codebooks, 0, dtype=torch.int64, device=self.device)

    @torch.no_grad()
    def step(self, audio: Tensor) -> Tensor:
        """float32 [batch, n] to the codes of the frames it completes."""
        audio = torch.cat((self.waiting, audio.to(self.waiting)), dim=1)
        complete = audio.shape[1] - audio.shape[1] % FRAME_SIZE
        self.waiting = audio[:, complete:]
        frames = torch.split(audio[:, :complete], FRAME_SIZE, dim=1) if complete else ()
        return torch.cat([self.no_codes, *(self.model.encode(frame[:, None]) for frame in frames)], dim=2)

    def flush(self) -> Tensor:
        """Return the codes of the partial last frame, filled with silence."""
        batch, waiting = self.waiting.shape
        return self.step(self.waiting.new_zeros(batch, FRAME_SIZE - waiting)) if waiting else self.no_codes

    def reset(self, slot: int | None = None) -> None:
        super().reset(slot)
        if slot is None:
            self.waiting = self.waiting[:, :0]
        else:
            self.waiting = self.waiting.clone()
            self.waiting[slot] = 0
