from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from rag import Memory, SentenceEmbedder


@lru_cache(100_000)
def hashed(word: str, dimensions: int) -> NDArray[np.float32]:
    seed = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest())
    return np.random.default_rng(seed).standard_normal(dimensions).astype(np.float32)


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
                row += hashed(f"{self._name}{word}", self._dimensions)
        norms: NDArray[np.float32] = np.linalg.norm(rows, axis=1, keepdims=True)
        return rows / norms


@pytest.fixture
def words() -> WordEmbedder:
    return WordEmbedder()


@pytest.fixture(scope="session")
def model() -> SentenceEmbedder:
    """The real all-MiniLM-L6-v2."""
    return SentenceEmbedder()


@pytest.fixture(scope="session")
def long_memory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder to copy: 1,100 turns, past what Chroma keeps in its log, so that its index is on the disk."""
    folder = tmp_path_factory.mktemp("long")
    file = folder / "turns.jsonl"
    turn = {"speaker": "Ann", "at": "2024-05-03T18:00:00+00:00", "conversation": "c"}
    lines = [json.dumps({**turn, "text": f"turn {number} about topic {number % 7}"}) for number in range(1100)]
    file.write_text("\n".join(lines), encoding="utf-8")
    with Memory(folder / "memory", embedder=WordEmbedder()) as memory:
        memory.import_(file)
        memory.settle()
    return folder / "memory"


@pytest.fixture
def memory(tmp_path: Path, words: WordEmbedder) -> Iterator[Memory]:
    with Memory(tmp_path / "memory", embedder=words) as memory:
        yield memory
