"""Load Mimi from either published format, alone or inside a CSM checkpoint; save it in either."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from csm.codec.layout import entries, join_qkv, split_qkv, transformers_names
from csm.codec.mimi import Mimi
from csm.codec.seanet import MimiConfig
from csm.errors import CheckpointError
from csm.writing import replacing

ORIGINAL_FILE = "tokenizer-e351c8d8-checkpoint125.safetensors"  # in kyutai/moshiko-pytorch-bf16
PREFIX_IN_CSM = "codec_model."
CONFIG_KEY = "mimi_config"  # in the header of files saved here, because the original format has no config.json
HEAD_DIM = 64  # of the published model; the shapes of the tensors do not reveal it

Format = Literal["original", "transformers"]


class SafetensorsFiles(Mapping[str, Tensor]):
    """The tensors of one or several files by name, each read on request. No file is kept open, so tensors that were
    read do not stay in memory.

    Raises:
        CheckpointError: a file is missing, is not safetensors, or is cut short.
    """

    def __init__(self, *files: Path) -> None:
        self._files: dict[str, Path] = {}
        self.metadata: dict[str, str] = {}
        for file in files:
            try:
                opened: Any = safe_open(file, framework="pt")
            except (SafetensorError, OSError) as error:
                raise CheckpointError(f"{file} should be a whole safetensors file, but: {error}.") from error
            with opened as tensors:
                self.metadata |= tensors.metadata() or {}
                self._files |= dict.fromkeys(tensors.keys(), file)

    def __getitem__(self, name: str) -> Tensor:
        opened: Any = safe_open(self._files[name], framework="pt")
        with opened as tensors:
            tensor: Tensor = tensors.get_tensor(name)
        return tensor

    def __contains__(self, name: object) -> bool:
        return name in self._files

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


def load_mimi(
    path: Path | str,
    *,
    config: MimiConfig | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Mimi:
    """Load from a file in either format, or from a folder: Mimi's own, or a CSM checkpoint in transformers' format.

    Sizes come from `config`, otherwise from the file's header or the folder's config.json, otherwise from the shapes.

    Raises:
        CheckpointError: there is no such file, or a tensor is missing or has another shape.
    """
    path = Path(path)
    tensors = SafetensorsFiles(*_files(path))
    return mimi_from_tensors(tensors, config=config or stated_config(path, tensors), device=device, dtype=dtype)


def mimi_from_tensors(
    tensors: Mapping[str, Tensor],
    *,
    config: MimiConfig | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Mimi:
    """Load from tensors by name (which may be read lazily). In a CSM checkpoint they have the prefix `codec_model.`.

    Raises:
        CheckpointError: a tensor is missing or has another shape.
    """
    file = _OriginalNames(tensors)
    config = config or _config_from_shapes(file)
    file.heads = config.heads
    with torch.device("meta"):  # only sizes: do not initialise what the file overwrites
        mimi = Mimi(config).to(dtype)
    mimi = mimi.to_empty(device=device)
    mimi.downsample.bias.zero_()  # the only tensor that no file contains
    for entry in entries(mimi):
        found = [file[name] for name in entry.names]
        expected = [list(tensor.shape) for tensor in entry.write(entry.parameter)]
        for name, tensor, shape in zip(entry.names, found, expected, strict=True):
            if list(tensor.shape) != shape:
                raise CheckpointError(f"Mimi's {name} should have the shape {shape}; found {list(tensor.shape)}.")
        with torch.no_grad():
            entry.parameter.copy_(entry.read(*(tensor.float() for tensor in found)))
    return mimi.eval()


def save_mimi(mimi: Mimi, path: Path | str, format: Format = "original") -> None:
    """Write a file in the given format. Codebooks are written as they are used, with a usage of one for each entry.

    With "transformers" and the name model.safetensors, config.json is written beside it, so that `load_mimi` and
    transformers' `from_pretrained` accept the folder. Raises CannotWrite.
    """
    path = Path(path)
    tensors: dict[str, Tensor] = {}
    for entry in entries(mimi):
        for name, tensor in zip(entry.names, entry.write(entry.parameter.detach().float()), strict=True):
            if format == "original":
                tensors[name] = tensor
            else:
                names = transformers_names(name)
                parts = (tensor,) if len(names) == 1 else split_qkv(tensor, mimi.config.heads)
                tensors |= zip(names, parts, strict=True)
    tensors = {name: tensor.contiguous().cpu().clone() for name, tensor in tensors.items()}
    with replacing(path) as partial:
        save_file(tensors, partial, {"format": "pt", CONFIG_KEY: json.dumps(asdict(mimi.config))})
    if format == "transformers" and path.name == "model.safetensors":
        with replacing(path.with_name("config.json")) as partial:
            partial.write_text(json.dumps(transformers_config(mimi.config), indent=2) + "\n")


def transformers_config(config: MimiConfig) -> dict[str, Any]:
    """The sizes under the names in transformers' MimiConfig."""
    derived = {
        "head_dim": config.dim // config.heads,
        "num_key_value_heads": config.heads,
        "codebook_dim": config.codebook_dim,
        "upsample_groups": config.dim,
    }
    return {"model_type": "mimi", "architectures": ["MimiModel"], **derived} | {
        theirs: list(value) if isinstance(value := getattr(config, ours), tuple) else value
        for ours, theirs in _TRANSFORMERS_FIELDS.items()
    }


def config_from_transformers(fields: Mapping[str, Any]) -> MimiConfig:
    """Read the fields of transformers' config.json, of Mimi itself or of the `codec_config` of CSM's."""
    known = {ours: fields[theirs] for ours, theirs in _TRANSFORMERS_FIELDS.items() if fields.get(theirs) is not None}
    if "ratios" in known:
        known["ratios"] = tuple(known["ratios"])
    if isinstance(rope := fields.get("rope_parameters"), dict):
        known["theta"] = float(rope["rope_theta"])
    return MimiConfig(**known)


_TRANSFORMERS_FIELDS = {
    "sample_rate": "sampling_rate",
    "codebooks": "num_quantizers",
    "semantic_codebooks": "num_semantic_quantizers",
    "codebook_size": "codebook_size",
    "codebook_dim": "vector_quantization_hidden_dimension",
    "dim": "hidden_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "ffn": "intermediate_size",
    "window": "sliding_window",
    "theta": "rope_theta",
    "norm_eps": "norm_eps",
    "filters": "num_filters",
    "ratios": "upsampling_ratios",
    "kernel": "kernel_size",
    "last_kernel": "last_kernel_size",
    "residual_kernel": "residual_kernel_size",
    "compress": "compress",
}


class _OriginalNames(Mapping[str, Tensor]):
    """The tensors of any format, under the original's names and in its layout."""

    # moshi's names for the same tensors in memory.
    ALIASES = (("self_attn.in_proj_weight", "self_attn.in_projs.0.weight"), ("out_proj.weight", "out_projs.0.weight"))

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.tensors, self.heads = tensors, 0
        self.prefix = PREFIX_IN_CSM if any(name.startswith(PREFIX_IN_CSM) for name in tensors) else ""

    def __getitem__(self, name: str) -> Tensor:
        if (found := self._find(name)) is None:
            raise CheckpointError(
                f"This should hold the codec Mimi, with a tensor {name} (in transformers' format "
                f"{self.prefix}{transformers_names(name)[0]}); found {len(self.tensors)} tensors without it."
            )
        parts = [self.tensors[part] for part in found]
        return parts[0] if len(parts) == 1 else join_qkv(parts[0], parts[1], parts[2], self.heads)

    def _find(self, name: str) -> tuple[str, ...] | None:
        aliases = [name.replace(*alias) for alias in self.ALIASES if alias[0] in name]
        for names in ((name,), *((alias,) for alias in aliases), transformers_names(name)):
            if all(self.prefix + part in self.tensors for part in names):
                return tuple(self.prefix + part for part in names)
        return None

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._find(name) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    if (index := path / "model.safetensors.index.json").is_file():
        return [path / name for name in sorted(set(json.loads(index.read_text())["weight_map"].values()))]
    for name in (ORIGINAL_FILE, "model.safetensors"):
        if (path / name).is_file():
            return [path / name]
    raise CheckpointError(f"{path} should hold {ORIGINAL_FILE} or model.safetensors; found neither.")


def stated_config(path: Path, tensors: SafetensorsFiles) -> MimiConfig | None:
    """The config in the file's header or in the folder's config.json, if there is one."""
    if CONFIG_KEY in tensors.metadata:
        fields = json.loads(tensors.metadata[CONFIG_KEY])
        return MimiConfig(**fields | {"ratios": tuple(fields["ratios"])})
    beside = (path if path.is_dir() else path.parent) / "config.json"
    if beside.is_file():
        fields = json.loads(beside.read_text())
        fields = fields.get("codec_config", fields)
        if fields.get("model_type") == "mimi":
            return config_from_transformers(fields)
    return None


def _config_from_shapes(file: _OriginalNames) -> MimiConfig:
    def shape(name: str) -> torch.Size:
        return file[name].shape

    def count(pattern: str) -> int:
        number = 0
        while pattern.format(number) in file:
            number += 1
        return number

    filters, _, kernel = shape("encoder.model.0.conv.conv.weight")
    narrow, _, residual_kernel = shape("encoder.model.1.block.1.conv.conv.weight")
    dim, _, twice_resampling = shape("downsample.conv.conv.conv.weight")
    book = "quantizer.{}.vq.layers.{}._codebook.embedding_sum"
    codebook_size, codebook_dim = shape(book.format("rvq_first", 0))
    semantic = count(book.format("rvq_first", "{}"))
    ratios: list[int] = []
    while (up := f"decoder.model.{3 * len(ratios) + 2}.convtr.convtr.weight") in file:
        ratios.append(shape(up)[2] // 2)
    return MimiConfig(
        codebooks=semantic + count(book.format("rvq_rest", "{}")),
        semantic_codebooks=semantic,
        codebook_size=codebook_size,
        codebook_dim=codebook_dim,
        dim=dim,
        layers=count("decoder_transformer.transformer.layers.{}.norm1.weight"),
        heads=max(1, dim // HEAD_DIM),
        ffn=shape("decoder_transformer.transformer.layers.0.linear1.weight")[0],
        filters=filters,
        ratios=tuple(ratios),
        kernel=kernel,
        last_kernel=shape(f"decoder.model.{3 * len(ratios) + 2}.conv.conv.weight")[2],
        residual_kernel=residual_kernel,
        compress=filters // narrow,
        resampling=twice_resampling // 2,
    )
