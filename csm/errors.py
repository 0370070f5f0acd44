"""What can go wrong, each under a name of its own. Catch `CsmError` to catch them all."""

__all__ = [
    "CheckpointError",
    "ContextTooLong",
    "CsmError",
    "DeviceMissing",
    "InvalidAudio",
    "InvalidSpeaker",
    "InvalidText",
    "NoSpeech",
    "OutOfMemory",
    "first_line",
]


class CsmError(Exception):
    """Base of every error this library raises on purpose. The message says what to do."""


class CheckpointError(CsmError):
    """A checkpoint is missing, cut short, foreign or incomplete: what was expected and what was found."""


class DeviceMissing(CsmError):
    """What was asked for cannot be computed where it was asked for."""


class ContextTooLong(CsmError, ValueError):
    """Context, text and the room asked for speech do not fit into the model's positions (2048 in CSM-1B)."""


class InvalidText(CsmError, ValueError):
    """The text holds nothing that can be said."""


class InvalidSpeaker(CsmError, ValueError):
    """A speaker is a whole number from 0 up."""


class InvalidAudio(CsmError, ValueError):
    """A recording is empty, silent, of the wrong shape, or holds values that are not numbers."""


class NoSpeech(CsmError):
    """The model ended before its first frame, twice: once as asked, once cooler."""


class OutOfMemory(CsmError, MemoryError):
    """The device's memory does not hold what was asked. The generator stays usable."""


def first_line(error: BaseException) -> str:
    """What a library says of an error, without the pages that some put after it."""
    return str(error).strip().partition("\n")[0].rstrip(".")
