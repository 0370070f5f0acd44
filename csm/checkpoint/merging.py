"""Merge a model and an adapter into one checkpoint, in either published format."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from ..codec.checkpoint import (
    ORIGINAL_FILE,
    config_from_transformers,
    load_mimi,
    mimi_from_tensors,
    save_mimi,
    transformers_config,
)
from ..errors import CheckpointError
from ..model import Csm
from ..writing import make_folder, replacing
from .adapter_formats import read_adapter
from .adapters import merge
from .checkpoint import load, open_all, read_json, save
from .formats import FORMATS, Format

__all__ = ["SHARD_BYTES", "merge_checkpoint", "save_whole"]

SHARD_BYTES = 5 << 30
"""The same limit as in transformers."""
PREFIX = "codec_model."
BESIDE = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "preprocessor_config.json",
    "generation_config.json", "chat_template.jinja",
)  # fmt: skip


def merge_checkpoint(
    model: Path,
    adapter: Path,
    output: Path,
    form: Format = FORMATS[0],
    *,
    dtype: torch.dtype | None = None,
    alpha: float | None = None,
) -> None:
    """Write the model with the adapter's weights into `output`, with tokenizer and codec if they are beside it.

    If that fails, `output` stays empty. dtype: by default as the model is stored. Raises CannotWrite, and
    CheckpointError, also if `output` is not empty.
    """
    make_folder(output)
    if any(output.iterdir()):
        raise CheckpointError(f"{output} is not empty. Choose a folder that is empty or does not exist yet.")
    csm = load(model, dtype=dtype)
    merge(csm, read_adapter(adapter, csm.config, alpha))
    try:
        save_whole(csm, model, output, form)
    except BaseException:
        for half in output.iterdir():  # all of it is ours
            half.unlink(missing_ok=True)
        raise


def save_whole(csm: Csm, model: Path, output: Path, form: Format = FORMATS[0]) -> None:
    """Write changed weights, with the tokenizer and codec of the model they came from.

    Raises CheckpointError, CannotWrite.
    """
    codec, described = _codec(model, output, form)
    if form.title == "transformers":
        codec["depth_decoder.model.embed_tokens.weight"] = csm.audio_embeddings.weight.detach().clone()
    save(csm, output, form, shard_bytes=SHARD_BYTES, extra=codec, described=described)
    for name in BESIDE:
        if (model / name).is_file():
            with replacing(output / name) as partial:
                shutil.copyfile(model / name, partial)


def _codec(model: Path, output: Path, form: Format) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return Mimi in the given format: Sesame's is a file beside the weights; transformers' is tensors among them and
    an entry in config.json. Return nothing if the model's folder has no codec, as with the original on the hub."""
    stored = next((found for found in open_all(model) if any(name.startswith(PREFIX) for name in found)), None)
    config: Any = read_json(model / "config.json").get("codec_config") if stored is not None else None
    if form.title == "transformers" and stored is not None:
        tensors = {name: stored[name] for name in stored if name.startswith(PREFIX)}
        return tensors, {"codec_config": config} if config else {}
    if stored is not None:
        known = config_from_transformers(config) if isinstance(config, dict) else None
        mimi = mimi_from_tensors(stored, config=known)
    elif (model / ORIGINAL_FILE).is_file():
        mimi = load_mimi(model / ORIGINAL_FILE)
    else:
        return {}, {}
    if form.title != "transformers":
        save_mimi(mimi, output / ORIGINAL_FILE)
        return {}, {}
    with tempfile.TemporaryDirectory() as folder:
        save_mimi(mimi, Path(folder) / "mimi.safetensors", "transformers")
        tensors = {f"{PREFIX}{name}": tensor for name, tensor in load_file(Path(folder) / "mimi.safetensors").items()}
    return tensors, {"codec_config": transformers_config(mimi.config)}
