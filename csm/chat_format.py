"""Conversations in the format of Hugging Face transformers: turns with a role, text and audio.

generator.generate(**from_conversation([
    {"role": "0", "content": [{"type": "text", "text": "Hello."}, {"type": "audio", "path": "hello.wav"}]},
    {"role": "1", "content": [{"type": "text", "text": "Hello to you."}]},
]))
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

import torch

from .errors import InvalidAudio, InvalidSpeaker, InvalidText
from .prompt import Segment
from .sound.recording import SAMPLE_RATE

__all__ = ["Batch", "Request", "from_conversation", "from_conversations"]

Turn = Mapping[str, Any]


class Request(TypedDict):
    """The arguments for `Generator.generate` and `generate_stream`."""

    text: str
    speaker: int
    context: list[Segment]


class Batch(TypedDict):
    """The arguments for `Generator.generate_batch`."""

    texts: list[str]
    speakers: list[int]
    contexts: list[list[Segment]]


def from_conversation(conversation: Sequence[Turn]) -> Request:
    """Turn a conversation into a request: the last turn is the text to speak, the turns before it are its context.

    A role is a speaker's number, as a string. Audio is a file (at its own rate) or an array of samples at 24 kHz,
    under `path` or `audio`. Raises InvalidText, InvalidSpeaker or InvalidAudio for an invalid turn.
    """
    if not conversation:
        raise InvalidText("The conversation is empty. Its last turn must be the text to be said.")
    *context, last = (_segment(turn) for turn in conversation)
    if last.audio is not None:
        raise InvalidText("The last turn already has audio. End the conversation with a turn that has only text.")
    return Request(text=last.text, speaker=last.speaker, context=context)


def from_conversations(conversations: Iterable[Sequence[Turn]]) -> Batch:
    """Turn several conversations into one batch."""
    requests = [from_conversation(conversation) for conversation in conversations]
    return Batch(
        texts=[request["text"] for request in requests],
        speakers=[request["speaker"] for request in requests],
        contexts=[request["context"] for request in requests],
    )


def _segment(turn: Turn) -> Segment:
    role = turn.get("role")
    if not (isinstance(role, int) or (isinstance(role, str) and role.isdecimal())):
        raise InvalidSpeaker(f'A role is a speaker\'s number, such as "0", not {role!r}.')
    content = turn.get("content", [])
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    text = " ".join(part["text"] for part in parts if part.get("type") == "text")
    sounds = [part.get("path", part.get("audio")) for part in parts if part.get("type") == "audio"]
    if len(sounds) > 1:
        raise InvalidAudio(f"A turn has one recording, not {len(sounds)}.")
    audio, rate = _recording(sounds[0]) if sounds else (None, SAMPLE_RATE)
    return Segment(text=text, speaker=int(role), audio=audio, sample_rate=rate)


def _recording(sound: object) -> tuple[torch.Tensor, int]:
    if not isinstance(sound, str | Path):
        return torch.as_tensor(sound), SAMPLE_RATE
    import soundfile

    try:
        samples, rate = soundfile.read(sound, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError) as error:
        raise InvalidAudio(f"{sound} is not a recording that can be read: {error}") from error
    return torch.from_numpy(samples.T), rate
