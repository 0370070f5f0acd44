"""Memory across conversations: `Memory(path)`, then remember, recall, forget."""

from rag.asynchronous import AsyncMemory, MemoryVerbs
from rag.chroma_server import ChromaServer
from rag.embedding import Embedder, SentenceEmbedder
from rag.memory import Memory
from rag.records import (
    ConversationSummary,
    MemoryFault,
    MemoryFull,
    MemoryInUse,
    MemorySize,
    Recall,
    Recalled,
    Remembered,
)

__all__ = [
    "AsyncMemory",
    "ChromaServer",
    "ConversationSummary",
    "Embedder",
    "Memory",
    "MemoryFault",
    "MemoryFull",
    "MemoryInUse",
    "MemorySize",
    "MemoryVerbs",
    "Recall",
    "Recalled",
    "Remembered",
    "SentenceEmbedder",
]
