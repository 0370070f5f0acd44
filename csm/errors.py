"""The errors of csm. Catch `CsmError` to catch all of them."""

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
    """Base class of all errors that this library raises on purpose. The message says what to do."""


class CheckpointError(CsmError):
    """A checkpoint is missing, cut short, foreign or incomplete. The message says what was expected and found."""


class DeviceMissing(CsmError):
    """The requested device is missing, or cannot compute what was requested."""


class ContextTooLong(CsmError, ValueError):
    """Context, text and the requested speech do not fit into the model's positions (2048 in CSM-1B)."""


class InvalidText(CsmError, ValueError):
    """The text contains nothing that can be spoken."""


class InvalidSpeaker(CsmError, ValueError):
    """A speaker must be a whole number, 0 or higher."""


class InvalidAudio(CsmError, ValueError):
    """A recording is empty, silent, has the wrong shape, or contains values that are not numbers."""


class NoSpeech(CsmError):
    """The model ended before its first frame, twice: once as asked, once cooler."""


class OutOfMemory(CsmError, MemoryError):
    """The request does not fit into the device's memory. The generator can still be used."""


def first_line(error: BaseException) -> str:
    """The first line of an error's message, without the pages that some libraries append."""
    return str(error).strip().partition("\n")[0].rstrip(".")
