"""Tiny checkpoints with random weights, written on the spot in the published formats: they speak noise, not words.

    folder = write_checkpoint(tmp_path / "csm", form="original")

A folder holds what the published ones do: config.json, weights (one file or shards), tokenizer.json, and a codec: in
the original format as a `tokenizer-….safetensors` beside the model, in transformers' within the weights.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor

from csm.checkpoint.checkpoint import save
from csm.checkpoint.formats import FORMATS
from csm.codec.checkpoint import ORIGINAL_FILE, save_mimi, transformers_config
from csm.codec.mimi import Mimi
from csm.codec.seanet import MimiConfig
from csm.model import Csm, CsmConfig, TransformerConfig

FormatName = Literal["original", "transformers"]

TINY = CsmConfig(
    backbone=TransformerConfig(layers=2, heads=4, kv_heads=2, dim=64, ffn=96, context=512),
    decoder=TransformerConfig(layers=2, heads=4, kv_heads=2, dim=32, ffn=48, context=9),
    text_vocab_size=600,
    audio_vocab_size=67,
    audio_codebooks=8,
)
"""A model that takes no time: 8 codebooks of 64 codes. Its frames are 80 ms, as the real ones are."""

TINY_MIMI = MimiConfig(
    codebooks=8, codebook_size=64, codebook_dim=8, dim=32, layers=1, heads=2, ffn=32, window=16, filters=4
)

FEW_LAYERS = replace(
    CsmConfig.csm_1b(),
    backbone=replace(CsmConfig.csm_1b().backbone, layers=2),
    decoder=replace(CsmConfig.csm_1b().decoder, layers=2),
    text_vocab_size=1000,
)
"""Every layer of the published shape, but two of a kind, and fewer words."""


def make_model(config: CsmConfig = TINY, seed: int = 0) -> Csm:
    """A model of random weights, float32, on the CPU."""
    torch.manual_seed(seed)
    model = Csm(config)
    for name, parameter in model.named_parameters():
        # Wide enough that codes differ from frame to frame, and that a mistake in any tensor changes some of them.
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.5 if "embeddings" in name else parameter.shape[-1] ** -0.5)
        else:
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    return model.requires_grad_(False).eval()


def make_mimi(config: MimiConfig = TINY_MIMI, seed: int = 0) -> Mimi:
    """A codec of random weights, float32, on the CPU, that makes an audible noise."""
    torch.manual_seed(seed)
    mimi = Mimi(config)
    for parameter in mimi.parameters():
        torch.nn.init.normal_(parameter, std=0.5 if parameter.dim() != 2 else 0.7 * parameter.shape[-1] ** -0.5)
    return mimi.eval()


def make_tokenizer() -> Tokenizer:
    """A tokenizer of single bytes with the special tokens of Llama 3."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={character: index for index, character in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|begin_of_text|>", "<|end_of_text|>", "<|AUDIO|>", "<|audio_eos|>"])
    return tokenizer


def write_checkpoint(
    folder: Path,
    form: FormatName = "original",
    *,
    model: Csm | None = None,
    mimi: Mimi | None = None,
    dtype: torch.dtype = torch.float32,
    shard_bytes: int | None = None,
    tied: Literal["backbone", "decoder", "both"] = "both",
    tokenizer: bool = True,
) -> Path:
    """Writes a checkpoint into `folder` and gives the folder back.

    tied: which of the two names of the audio embeddings are on the disk (transformers' format only).
    """
    model, mimi = deepcopy(model or make_model()).to(dtype), mimi or make_mimi()
    folder.mkdir(parents=True, exist_ok=True)
    extra: dict[str, Tensor] = {}
    described: dict[str, Any] = {}
    if form == "original":
        save_mimi(mimi, folder / ORIGINAL_FILE)
    else:
        extra, described = _codec_in_transformers(mimi), {"codec_config": transformers_config(mimi.config)}
        if tied != "backbone":
            extra["depth_decoder.model.embed_tokens.weight"] = model.audio_embeddings.weight.clone()
    save(model, folder, FORMATS[form == "transformers"], shard_bytes=shard_bytes, extra=extra, described=described)
    if tokenizer:
        make_tokenizer().save(str(folder / "tokenizer.json"))
    if form == "transformers" and tied == "decoder":
        _drop(folder / "model.safetensors", "backbone_model.embed_tokens.embed_audio_tokens.weight")
    return folder


def voice(seconds: float = 1.0, sample_rate: int = 24_000, seed: int = 0) -> Tensor:
    """Something like a voice: a gliding tone with noise, float32 [samples]."""
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(int(seconds * sample_rate)) / sample_rate
    tone = torch.sin(2 * torch.pi * (150 + 40 * torch.sin(3 * time)) * time)
    return 0.4 * tone + 0.02 * torch.randn(time.shape, generator=generator)


def _codec_in_transformers(mimi: Mimi) -> dict[str, Tensor]:
    import tempfile

    from safetensors.torch import load_file

    with tempfile.TemporaryDirectory() as folder:
        save_mimi(mimi, Path(folder) / "mimi.safetensors", "transformers")
        tensors = load_file(Path(folder) / "mimi.safetensors")
    return {f"codec_model.{name}": tensor for name, tensor in tensors.items()}


def _drop(path: Path, name: str) -> None:
    from safetensors.torch import load_file, save_file

    tensors = {key: tensor.clone() for key, tensor in load_file(path).items() if key != name}
    save_file(tensors, path, metadata={"format": "pt"})
