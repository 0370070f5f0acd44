"""Tiny Mimi codecs with random weights, in memory and as files of both published formats. They do not speak: they have
the right shapes and the right frame of 1920 samples, and nothing they make resembles a voice."""

from dataclasses import replace
from pathlib import Path

import torch

from csm.codec.checkpoint import ORIGINAL_FILE, Format, save_mimi
from csm.codec.mimi import Mimi
from csm.codec.seanet import MimiConfig

TINY = MimiConfig(
    codebooks=32, codebook_size=64, codebook_dim=16, dim=32, layers=2, heads=2, ffn=64, window=20, filters=4
)


def random_mimi(config: MimiConfig = TINY, seed: int = 0) -> Mimi:
    """A codec whose signals neither vanish nor explode on their way."""
    mimi = Mimi(config).eval()
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in mimi.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if "norm" in name and name.endswith("weight"):
            values = 1 + 0.1 * noise
        elif name.endswith("bias"):
            values = 0.1 * noise
        elif "scale" in name:
            values = 0.3 + 0.1 * noise
        elif name == "upsample.weight":
            values = noise
        elif name == "quantiser.codebooks":
            values = noise / torch.arange(1, len(noise) + 1)[:, None, None]
        else:
            values = noise * parameter.shape[-1] ** -0.5
        with torch.no_grad():
            parameter.copy_(values)
    with torch.no_grad():
        for name, parameter in mimi.named_parameters():
            if name.endswith("up.bias"):  # one number a channel, whichever the step
                stage = mimi.get_submodule(name.rsplit(".", 2)[0])
                assert isinstance(stage.ratio, int)
                parameter.copy_(parameter[: len(parameter) // stage.ratio].repeat(stage.ratio))
    return mimi


def write_tiny_mimi(
    folder: Path, format: Format = "original", codebooks: int = 32, codebook_size: int = 64, seed: int = 0
) -> Path:
    """Write a random tiny codec into `folder` (made if need be) and give the path of its safetensors file.

    "original": one file with its sizes in the header. "transformers": model.safetensors and config.json.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (ORIGINAL_FILE if format == "original" else "model.safetensors")
    save_mimi(random_mimi(replace(TINY, codebooks=codebooks, codebook_size=codebook_size), seed), path, format)
    return path
