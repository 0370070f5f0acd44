"""Load and save checkpoints: from a folder or the hub, in both published formats, in one file or in shards.

A tensor that already has the right dtype, row order and device is used in place, mapped from the file. Any other is
converted piece by piece; each piece is mapped and released again, so that peak memory stays near the final size.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..errors import CheckpointError
from ..model import Csm, CsmConfig
from ..writing import replacing
from .formats import FORMATS, Format, read_config

__all__ = ["Weights", "download", "find_weights", "load", "open_all", "read_json", "save"]

PIECE = 8 << 20
"""Bytes converted at a time."""
INDEX = ".safetensors.index.json"


@dataclass(frozen=True, eq=False)
class Weights(Mapping[str, Tensor]):
    """The tensors of one checkpoint by name, mapped from the file on request. Writes to them stay in memory."""

    files: dict[str, Path]
    shapes: dict[str, tuple[int, ...]]

    @classmethod
    def open(cls, files: list[Path]) -> Weights:
        """Read the headers of safetensors files. Raises CheckpointError if one is missing, cut short or foreign."""
        where: dict[str, Path] = {}
        shapes: dict[str, tuple[int, ...]] = {}
        for path in files:
            header = _header(path)
            where |= dict.fromkeys(header, path)
            shapes |= {name: tuple(entry["shape"]) for name, entry in header.items()}
        return cls(where, shapes)

    @property
    def format(self) -> Format | None:
        """Which published format this is, or None if it is neither."""
        return next((form for form in FORMATS if form.landmark in self.files), None)

    def __getitem__(self, name: str) -> Tensor:
        with safe_open(self.files[name], "pt") as file:
            tensor: Tensor = file.get_tensor(name)
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self.files)

    def __len__(self) -> int:
        return len(self.files)

    def pieces(self, name: str) -> Iterator[tuple[slice, Tensor]]:
        """Yield the tensor a few rows at a time. A piece holds its pages only as long as it lives."""
        shape = self.shapes[name]
        rows = max(1, PIECE // (4 * max(1, torch.Size(shape[1:]).numel())))
        for first in range(0, shape[0], rows):
            part = slice(first, min(first + rows, shape[0]))
            with safe_open(self.files[name], "pt") as file:
                yield part, file.get_slice(name)[part]


def load(folder: Path, device: torch.device | str = "cpu", dtype: torch.dtype | None = None) -> Csm:
    """Load the speech model from a local folder, in `dtype` (default: as stored) on `device`, ready to run.

    Raises CheckpointError if the folder holds no complete CSM checkpoint.
    """
    weights = find_weights(folder)
    form = weights.format
    assert form is not None
    described = folder / "config.json"
    config = read_config(read_json(described) if described.is_file() else {})
    with torch.device("meta"):
        model = Csm(config)
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    source = _match(expected, weights, form, folder)
    kind = dtype or weights[source["audio_embeddings.weight"]].dtype
    tensors = {name: _take(weights, source[name], name, form, config, torch.device(device), kind) for name in expected}
    model.load_state_dict(tensors, assign=True)
    return model.requires_grad_(False).eval()


def save(
    model: Csm,
    folder: Path,
    form: Format = FORMATS[0],
    *,
    shard_bytes: int | None = None,
    extra: Mapping[str, Tensor] | None = None,
    described: Mapping[str, object] | None = None,
) -> None:
    """Write weights and config.json into `folder`, in one file or in shards of about `shard_bytes`.

    `extra` tensors are added under their own names (a codec as `codec_model.…`, the tied embedding), and `described` is
    added to config.json (its `codec_config`). Files are replaced completely, so a model may be mapped from the very
    file being written. Raises CannotWrite, and CheckpointError if the model's weights are packed (quantised).
    """
    with torch.device("meta"):
        expected = set(Csm(model.config).state_dict())
    tensors = model.state_dict()
    if set(tensors) != expected:
        raise CheckpointError("Expected the plain weights of a CSM, found packed ones. Save it before it is quantised.")
    named = {form.names(name)[0]: form.to_disk(name, tensor, model.config) for name, tensor in tensors.items()}
    named |= extra or {}
    shards = _shards(named, shard_bytes)
    written: dict[str, str] = {}
    for number, names in enumerate(shards, 1):
        file = "model.safetensors" if len(shards) == 1 else f"model-{number:05}-of-{len(shards):05}.safetensors"
        part = {name: named[name].detach().cpu().contiguous() for name in names}
        with replacing(folder / file) as partial:
            save_file(part, partial, metadata={"format": "pt"})
        written |= dict.fromkeys(names, file)
    if len(shards) > 1:
        size = sum(tensor.nbytes for tensor in named.values())
        _write_json(folder / f"model{INDEX}", {"metadata": {"total_size": size}, "weight_map": written})
    _write_json(folder / "config.json", form.config(model.config) | dict(described or {}))


def open_all(folder: Path) -> list[Weights]:
    """Open every set of tensors in a folder: the files that an index joins, and each file that stands alone."""
    if not folder.is_dir():
        raise CheckpointError(f"Expected a folder with a CSM checkpoint at {folder}, found none.")
    singles = sorted(folder.glob("*.safetensors"))
    groups = [_indexed(index) for index in sorted(folder.glob(f"*{INDEX}"))]
    # An index whose shards were never fetched is ignored if there is something else to read.
    groups = [group for group in groups if not singles or any(path in singles for path in group)]
    sharded = {path for group in groups for path in group}
    singles = [path for path in singles if path not in sharded]
    return [Weights.open(group) for group in [*groups, *([path] for path in singles)]]


def find_weights(folder: Path) -> Weights:
    """Find the CSM weights in `folder`; if it holds both formats, the original, which needs no conversion.

    Raises CheckpointError, which says what was expected and what was found.
    """
    found = open_all(folder)
    for form in FORMATS:
        for weights in found:
            if weights.format is form:
                return weights
    names = [name for weights in found for name in weights.files][:3]
    held = f"tensors named {', '.join(names)}, …" if names else "no .safetensors file"
    if not names and (pickles := sorted(folder.glob("*.pt"))):
        held = f"{pickles[0].name}, a pickle, which csm does not open"
    raise CheckpointError(
        f"Expected a CSM checkpoint in {folder} (safetensors with {' or '.join(form.landmark for form in FORMATS)}), "
        f"found {held}."
    )


def download(repository: str) -> Path:
    """Fetch a checkpoint from the Hugging Face hub (HF_ENDPOINT and HF_HUB_OFFLINE are honoured) → its folder.

    If a repository has both formats, only one is fetched. Raises CheckpointError if none can be had.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    small = ["*.json", "tokenizer-*.safetensors"]
    try:
        folder = Path(snapshot_download(repository, allow_patterns=small))
        # sesame/csm-1b holds the original's model.safetensors beside the shards of transformers' format.
        weights = "model-*.safetensors" if (folder / f"model{INDEX}").is_file() else "model.safetensors"
        folder = Path(snapshot_download(repository, allow_patterns=[*small, weights]))
        if not any(folder.glob(weights)):
            folder = Path(snapshot_download(repository, allow_patterns=[*small, "*.safetensors"]))
        return folder
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise CheckpointError(
            f"Expected a checkpoint named {repository!r} as a local folder or on the Hugging Face hub, found neither: "
            f"{error}"
        ) from error


def read_json(path: Path) -> dict[str, object]:
    """Read a JSON object. Raises CheckpointError if the file holds none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"Expected a JSON object in {path}, found something else: {error}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"Expected a JSON object in {path}, found a {type(value).__name__}.")
    return value


def _indexed(index: Path) -> list[Path]:
    shards = read_json(index).get("weight_map")
    if not isinstance(shards, dict):
        raise CheckpointError(f"Expected a weight_map in {index}, found none.")
    # Only the file name is used, so an index cannot point outside its folder.
    return sorted({index.parent / Path(str(shard)).name for shard in shards.values()})


def _header(path: Path) -> dict[str, dict[str, list[int]]]:
    """The header of a safetensors file: 8 bytes of length, JSON, then the data (huggingface/safetensors, format)."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 0 < length <= size - 8:
                raise CheckpointError(f"Expected a safetensors file, found something else, or a piece of one: {path}.")
            header: dict[str, dict[str, list[int]]] = json.loads(file.read(length))
            header.pop("__metadata__", None)
            end = 8 + length + max((entry["data_offsets"][1] for entry in header.values()), default=0)
    except FileNotFoundError as error:
        raise CheckpointError(f"Expected {path.name} in {path.parent}, as its index says, found none.") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"Expected a safetensors file, found something else: {path} ({error}).") from error
    if size != end:
        raise CheckpointError(f"Expected {end:,} bytes in {path}, found {size:,}: it was cut short. Download it again.")
    try:
        with safe_open(path, "pt"):
            pass
    except SafetensorError as error:
        raise CheckpointError(f"Expected a sound safetensors file, found a damaged one: {path} ({error}).") from error
    return header


def _match(expected: Mapping[str, tuple[int, ...]], weights: Weights, form: Format, folder: Path) -> dict[str, str]:
    """Map each tensor of the model to its name on disk. Raises CheckpointError if names or shapes differ."""
    source, missing = {}, []
    for name, shape in expected.items():
        candidates = [candidate for candidate in form.names(name) if candidate in weights.files]
        if not candidates:
            missing.append(form.names(name)[0])
            continue
        source[name] = candidates[0]
        if (found := weights.shapes[candidates[0]]) != shape:
            raise CheckpointError(
                f"Expected {candidates[0]} of shape {list(shape)} in {folder}, found {list(found)}. "
                "Do config.json and the weights belong together?"
            )
    used = set(source.values())
    unknown = sorted(name for name in weights.files if name not in used and not form.belongs(name))
    for wrong, found_what in ((missing, "no"), (unknown, "also")):
        if wrong:
            more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
            raise CheckpointError(
                f"Expected the {len(expected)} tensors of a CSM ({form.title} format) in {folder}, "
                f"found {found_what} {', '.join(wrong[:3])}{more}."
            )
    return source


def _take(
    weights: Weights,
    source: str,
    name: str,
    form: Format,
    config: CsmConfig,
    device: torch.device,
    dtype: torch.dtype,
) -> Tensor:
    """Return one tensor in the original's row order, with the requested dtype and device."""
    mapped = weights[source]
    if not mapped.is_floating_point():
        raise CheckpointError(f"Expected numbers of float32, bfloat16 or float16 in {source}, found {mapped.dtype}.")
    if form.turned(name):
        return form.from_disk(name, mapped, config).to(device, dtype)
    if mapped.dtype == dtype and device.type == "cpu":
        return mapped
    del mapped
    taken = torch.empty(weights.shapes[source], dtype=dtype, device=device)
    for part, piece in weights.pieces(source):
        taken[part] = piece.to(device, dtype)
    return taken


def _shards(named: Mapping[str, Tensor], shard_bytes: int | None) -> list[list[str]]:
    shards: list[list[str]] = [[]]
    filled = 0
    for name, tensor in named.items():
        if shard_bytes is not None and filled and filled + tensor.nbytes > shard_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += tensor.nbytes
    return shards


def _write_json(path: Path, value: Mapping[str, object]) -> None:
    with replacing(path) as partial:
        partial.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
