"""The vectors in Chroma: one collection a view of the turns, on disk beside the texts or on a server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from chromadb.api import ClientAPI

Metadata = Mapping[str, str | float]


@dataclass(frozen=True)
class ChromaServer:
    """Where a Chroma server listens; `token` is sent as a bearer token when there is one."""

    host: str
    port: int = 8000
    ssl: bool = False
    token: str | None = None


def connect(folder: Path, server: ChromaServer | None) -> ClientAPI:
    """A client on the server, or on the folder. Chroma's telemetry is off."""
    import chromadb  # slow to import: not before it is needed
    from chromadb.config import Settings

    settings = Settings(anonymized_telemetry=False)
    if server is None:
        return chromadb.PersistentClient(path=str(folder), settings=settings)
    headers = {"Authorization": f"Bearer {server.token}"} if server.token else {}
    return chromadb.HttpClient(host=server.host, port=server.port, ssl=server.ssl, headers=headers, settings=settings)


class VectorIndex:
    """Cosine neighbours in one collection."""

    def __init__(self, client: ClientAPI, name: str) -> None:
        self._collection: Any = client.get_or_create_collection(
            name, configuration={"hnsw": {"space": "cosine", "ef_search": 200}}, embedding_function=None
        )

    def put(
        self,
        ids: Sequence[str],
        vectors: NDArray[np.float32],
        texts: Sequence[str] | None = None,
        metadata: Sequence[Metadata] | None = None,
    ) -> None:
        """vectors: float32 [len(ids), dimensions]. What has the same id is replaced."""
        self._collection.upsert(
            ids=list(ids),
            embeddings=vectors,
            documents=list(texts) if texts is not None else None,
            metadatas=[dict(entry) for entry in metadata] if metadata is not None else None,
        )

    def nearest(self, vector: NDArray[np.float32], count: int) -> dict[str, float]:
        """The `count` nearest to a vector [dimensions] of unit length: id to cosine similarity, best first."""
        found = self._collection.query(query_embeddings=vector[None], n_results=count, include=["distances"])
        return {id: 1.0 - distance for id, distance in zip(found["ids"][0], found["distances"][0], strict=True)}

    def drop(self, ids: Sequence[str]) -> None:
        for start in range(0, len(ids), 1000):
            self._collection.delete(ids=list(ids[start : start + 1000]))

    def __len__(self) -> int:
        return int(self._collection.count())
