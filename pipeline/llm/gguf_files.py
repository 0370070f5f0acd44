"""Finds the GGUF file for a name: a path, a file on the hub, or a model that Ollama already has."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from config.engines import fetches
from config.packages import Packaged
from pipeline.engine import EngineError, Report
from pipeline.models.fetching import fetched

OLLAMA = "ollama:"
_WEIGHTS = "application/vnd.ollama.image.model"


def file_of(model: str, report: Report) -> Path:
    """Return the file, after downloading it from the hub if it is not here. Raises EngineError."""
    if model.startswith(OLLAMA):
        return _of_ollama(model.removeprefix(OLLAMA))
    path = Path(model).expanduser()
    if path.is_file():
        return path
    sources = fetches("mind", "llama", model)
    if not sources:
        raise EngineError(
            f"{model!r} is not a GGUF file: choose a file on this computer, one from the hub as "
            "owner/name/file.gguf, or one from Ollama as ollama:name."
        )
    (source,) = sources
    name = source.files[0].name if isinstance(source, Packaged) else source.weights[0]
    return fetched(source, report) / name


def _of_ollama(name: str) -> Path:
    """Return Ollama's file with the weights of `llama3.2`, `llama3.2:1b` or `owner/name:tag`. Raises EngineError."""
    home = Path(os.environ.get("OLLAMA_MODELS") or "~/.ollama/models").expanduser()
    named = re.fullmatch(r"(?:([\w-][\w.-]*)/)?([\w-][\w.-]*)(?::([\w-][\w.-]*))?", name)
    try:
        if named is None:
            raise ValueError(name)
        owner, model, tag = named[1] or "library", named[2], named[3] or "latest"
        manifest = home / "manifests" / "registry.ollama.ai" / owner / model / tag
        layers = json.loads(manifest.read_text(encoding="utf-8"))["layers"]
        digest = next(layer["digest"] for layer in layers if layer["mediaType"] == _WEIGHTS)
        if not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
            raise ValueError(digest)
        blob = home / "blobs" / str(digest).replace(":", "-")
        blob.stat()
    except (OSError, ValueError, KeyError, TypeError, StopIteration) as error:
        raise EngineError(
            f"Ollama has no model {name!r} in {home}: `ollama pull {name}` downloads it."
            if named
            else f"{name!r} is not one of Ollama’s names: write it like llama3.2:1b."
        ) from error
    return blob
