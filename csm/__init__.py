"""Speech with Sesame's CSM-1B: exact, streaming, fast. `load_csm_1b()` returns a `Generator`. Names are imported on
first use, so that modules such as `csm.model` need only torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .chat_format import from_conversation, from_conversations
    from .errors import (
        CheckpointError,
        ContextTooLong,
        CsmError,
        DeviceMissing,
        InvalidAudio,
        InvalidSpeaker,
        InvalidText,
        NoSpeech,
        OutOfMemory,
    )
    from .generator import generate_streaming_audio, load_csm_1b, load_csm_1b_local
    from .prompt import Segment
    from .session import Session
    from .synthesis import Generator

__version__ = "0.1.0"

__all__ = [
    "CheckpointError",
    "ContextTooLong",
    "CsmError",
    "DeviceMissing",
    "Generator",
    "InvalidAudio",
    "InvalidSpeaker",
    "InvalidText",
    "NoSpeech",
    "OutOfMemory",
    "Segment",
    "Session",
    "from_conversation",
    "from_conversations",
    "generate_streaming_audio",
    "load_csm_1b",
    "load_csm_1b_local",
]


def __getattr__(name: str) -> object:
    """Import a public name from its module."""
    if name in __all__:
        for home in ("errors", "prompt", "synthesis", "generator", "session", "chat_format"):
            module = import_module(f".{home}", __name__)
            if name in module.__all__:
                return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
