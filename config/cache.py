"""Where models are stored on this machine and which are present: models from the hub, by huggingface_hub's rules but
without importing it, and models from packages."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path

from config.fetches import CODEC_FILE, CODEC_TENSORS, Fetch
from config.packages import ModelFile, Packaged

Source = Fetch | Packaged
"""A source of the files that an engine reads: a repository on the hub, or packages."""


def hub_cache() -> Path:
    """Return the folder where huggingface_hub caches its files, by the same rule but without importing it."""
    return Path(os.environ.get("HF_HUB_CACHE") or _home() / "hub").expanduser()


def folder_of(model: Packaged) -> Path:
    """Return the folder of a packaged model. It is beside the hub's cache and shared by all environments, so that both
    move to another disk together; models that are always needed are in the environment."""
    if model.always:
        return Path(sys.prefix) / "share" / "parley" / model.name
    return (_home() / "parley" / model.name).expanduser()


def _home() -> Path:
    return Path(os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface")


def free_disk(folder: Path) -> int:
    """Return the free bytes on the disk where `folder` is or will be."""
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(existing).free


def is_here(fetch: Source) -> bool:
    """Whether all files that an engine reads are on disk, including every shard of the weights."""
    if isinstance(fetch, Packaged):
        return all(has_file(fetch, file) for file in fetch.files)
    folder = hub_cache() / f"models--{fetch.repository.replace('/', '--')}"
    try:
        snapshot = folder / "snapshots" / (folder / "refs" / "main").read_text(encoding="utf-8").strip()
        names = {path.relative_to(snapshot).as_posix() for path in snapshot.rglob("*") if path.exists()}
        weights = next(({name for name in names if fnmatch(name, pattern)} for pattern in fetch.weights
                        if any(fnmatch(name, pattern) for name in names)), set())  # fmt: skip
        index = snapshot / "model.safetensors.index.json"
        if index.exists() and weights - {"model.safetensors"}:
            weights = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        if not weights or not weights <= names:
            return False
        if fetch.codec is not None and not has_codec(snapshot, names):
            return is_here(fetch.codec)
    except (OSError, ValueError, KeyError):
        return False
    return True


def has_file(model: Packaged, file: ModelFile) -> bool:
    """Whether the file is there. Files are put there whole and checked, so comparing the size is enough."""
    try:
        return (folder_of(model) / file.name).stat().st_size == file.size
    except OSError:
        return False


def has_codec(folder: Path, names: Iterable[str]) -> bool:
    """Whether a speech model with these files includes its codec. Raises OSError, ValueError if one cannot be read."""
    weights = [name for name in names if name.endswith(".safetensors")]
    return any(fnmatch(name, CODEC_FILE) for name in weights) or any(
        tensor.startswith(CODEC_TENSORS) for name in weights for tensor in _tensors(folder / name)
    )


def _tensors(file: Path) -> dict[str, object]:
    """Return the header of a safetensors file: 8 bytes of length, then JSON (huggingface/safetensors, format)."""
    with file.open("rb") as content:
        header: dict[str, object] = json.loads(content.read(int.from_bytes(content.read(8), "little")))
    return header
