from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from rag import Memory, SentenceEmbedder


class WordEmbedder:
    """Deterministic vectors from hashed words: enough to exercise storage, not a model of meaning."""

    def __init__(self, name: str = "hashed words", dimensions: int = 32) -> None:
        self._name = name
        self._dimensions = dimensions
        self.calls = 0

    @property
    def name(self) -> str:
        return self._name

    def fingerprint(self) -> str:
        return hashlib.blake2b(f"{self._name} {self._dimensions}".encode(), digest_size=8).hexdigest()

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.calls += 1
        rows = np.full((len(texts), self._dimensions), 1e-3, np.float32)
        for row, text in zip(rows, texts, strict=True):
            for word in re.findall(r"\w+", text.lower()):
                seed = hashlib.blake2b(f"{self._name}{word}".encode(), digest_size=8).digest()
                row += np.random.default_rng(int.from_bytes(seed)).standard_normal(self._dimensions).astype(np.float32)
        norms: NDArray[np.float32] = np.linalg.norm(rows, axis=1, keepdims=True)
        return rows / norms


@pytest.fixture
def words() -> WordEmbedder:
    return WordEmbedder()


@pytest.fixture(scope="session")
def model() -> SentenceEmbedder:
    """The real all-MiniLM-L6-v2."""
    return SentenceEmbedder()


@pytest.fixture
def memory(tmp_path: Path, words: WordEmbedder) -> Iterator[Memory]:
    with Memory(tmp_path / "memory", embedder=words) as memory:
        yield memory
