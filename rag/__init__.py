"""Memory across conversations: `Memory(path)`, then remember, recall, forget."""

from rag.asynchronous import AsyncMemory, MemoryVerbs
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
from rag.vectors import ChromaServer

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
