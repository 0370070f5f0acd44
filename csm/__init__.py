"""Speech with Sesame's CSM-1B: exact, streaming, fast. `load_csm_1b()` gives a `Generator`.

Names are imported when they are first asked for, so that `csm.model` and its like need torch and nothing more.
"""

from importlib import import_module

_HOME = {
    "Generator": "generator",
    "Segment": "prompt",
    "Session": "session",
    "from_conversation": "conversation",
    "generate_streaming_audio": "generator",
    "load_csm_1b": "generator",
    "load_csm_1b_local": "generator",
    **dict.fromkeys(
        (
            "CheckpointError",
            "ContextTooLong",
            "CsmError",
            "InvalidAudio",
            "InvalidSpeaker",
            "InvalidText",
            "NoSpeech",
            "OutOfMemory",
        ),
        "errors",
    ),
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)
