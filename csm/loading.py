"""From a name to a generator: find the model, choose its device, pack its weights, and load its codec."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .checkpoint.adapter_formats import read_adapter
from .checkpoint.adapters import Adapter, AdapterSwitch, base_reader, merge
from .checkpoint.checkpoint import download, find_weights, load, open_all, read_json
from .codec.mimi import Mimi
from .devices import Machine, choose_device
from .errors import CheckpointError
from .model import CsmConfig
from .prompt import load_tokenizer
from .synthesis import Generator

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from .codec.protocol import Codec

__all__ = ["load_codec", "load_generator", "resolve"]

CODEC = "kyutai/moshiko-pytorch-bf16"
"""Where Mimi comes from if it does not come with the model."""


def load_generator(
    device: str | torch.device | None,
    model: str | Path,
    dtype: torch.dtype | None,
    quantize: str | None,
    codec: str | Path | Codec | None,
    adapter: str | Path | None = None,
) -> Generator:
    """Do the work of `csm.load_csm_1b`."""
    chosen = choose_device(device, Machine.here())
    where = torch.device("cpu" if chosen == "mlx" else chosen)
    folder = resolve(model)
    find_weights(folder)  # first, so that the error for a foreign model says so, not which file it lacks
    tokenizer = load_tokenizer(folder)
    mimi = load_codec(codec, folder, where) if codec is None or isinstance(codec, str | Path) else codec
    csm = load(folder, where, dtype or (torch.bfloat16 if chosen != "cpu" else None))
    if mimi.codebooks != csm.config.audio_codebooks:
        raise CheckpointError(
            f"Expected a codec of {csm.config.audio_codebooks} codebooks, as the model has, found {mimi.codebooks}."
        )
    worn = None if adapter is None else read_adapter(adapter, csm.config)
    if worn is not None:
        merge(csm, worn)
    if chosen == "mlx":
        state = csm.config, csm.state_dict(), base_reader(folder, csm)
        del csm
        return _on_mlx(*state, tokenizer, mimi, quantize, worn)
    if quantize is None:
        return Generator(csm, tokenizer, mimi, AdapterSwitch(csm, base_reader(folder, csm), worn))
    from .backends.packed_switch import PackedSwitch
    from .backends.quantize import quantize as pack

    beside = None if adapter is None else Path(adapter).expanduser()
    kept = csm.dtype
    packed = pack(csm, quantize, folder, adapter=beside if beside is None or beside.is_dir() else beside.parent)
    return Generator(packed, tokenizer, mimi, PackedSwitch(packed, quantize, folder, kept, worn))


def _on_mlx(
    config: CsmConfig,
    tensors: dict[str, Tensor],
    base: Callable[[str], Tensor],
    tokenizer: Tokenizer,
    codec: Codec,
    quantize: str | None,
    adapter: Adapter | None,
) -> Generator:
    """tensors: those of PyTorch's model, released one by one. adapter: the one already merged into them."""
    from .backends.mlx.loaded import CsmMlx, MlxAdapterSwitch
    from .backends.mlx.mimi import MlxMimi
    from .backends.mlx.thread import ComputeThread

    thread = ComputeThread()
    model = CsmMlx(config, tensors, quantize, thread=thread)
    if isinstance(codec, Mimi):
        codec = MlxMimi(codec, thread, model.compiled)
    return Generator(model, tokenizer, codec, MlxAdapterSwitch(model, base, adapter))


def resolve(model: str | Path) -> Path:
    """Return a local folder as it is; download any other name from the hub into its cache. Raises CheckpointError."""
    folder = Path(model).expanduser()
    if folder.is_dir():
        return folder
    if isinstance(model, Path) or folder.is_absolute() or model.startswith((".", "~")):
        raise CheckpointError(f"Expected a folder with a CSM checkpoint at {folder}, found none.")
    return download(model)


def load_codec(source: str | Path | None, folder: Path, device: torch.device) -> Codec:
    """Load Mimi from `source` (file, folder or hub id); by default from the model's folder, in either format.

    Raises CheckpointError if there is none.
    """
    from .codec.checkpoint import ORIGINAL_FILE, config_from_transformers, load_mimi, mimi_from_tensors

    if source is not None and Path(source).expanduser().exists():
        return load_mimi(Path(source).expanduser(), device=device)
    if source is None:
        for beside in (folder / ORIGINAL_FILE, folder / "mimi"):
            if beside.exists():
                return load_mimi(beside, device=device)
        for weights in open_all(folder):
            if any(name.startswith("codec_model.") for name in weights):
                config: Any = read_json(folder / "config.json").get("codec_config")
                known = config_from_transformers(config) if isinstance(config, dict) else None
                return mimi_from_tensors(weights, config=known, device=device)
    from huggingface_hub import hf_hub_download, snapshot_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    repository = str(source or CODEC)
    try:
        try:
            return load_mimi(hf_hub_download(repository, ORIGINAL_FILE), device=device)
        except EntryNotFoundError as error:
            if isinstance(error, LocalEntryNotFoundError):
                raise
            return load_mimi(
                snapshot_download(repository, allow_patterns=["*.json", "model*.safetensors"]), device=device
            )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise CheckpointError(
            f"Expected the codec Mimi beside the model in {folder} or as {repository!r} on the Hugging Face hub, "
            f"found neither: {error}"
        ) from error
