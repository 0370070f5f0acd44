"""Prompts: segments of text and sound, turned into the rows that the model reads (csm/rows.py).

A segment is the rows of `<|begin_of_text|>[speaker]text<|end_of_text|>`, then one row for each frame of its recording,
then a row of zeros that ends the recording. A prompt is the segments of the context, then the text to speak.
"""

from __future__ import annotations

import hashlib
import operator
import re
import unicodedata
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .errors import CheckpointError, ContextTooLong, InvalidAudio, InvalidSpeaker, InvalidText
from .rows import sound_rows, text_rows
from .sound.recording import SAMPLE_RATE, as_mono

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from .codec.protocol import Codec

__all__ = ["Prompter", "Segment", "load_tokenizer", "speakable"]

BEGIN, END = "<|begin_of_text|>", "<|end_of_text|>"
REMEMBERED = 64
"""Recordings whose codes are kept, so that a reference is encoded once and not for every sentence."""


@dataclass(frozen=True, eq=False)
class Segment:
    """One turn: what was said, by whom (0, 1, …), and its sound, float [samples] or [channels, samples].

    `sample_rate` is the actual rate of the audio, in Hz. `codes`, int64 [frames, codebooks] on the host, are the sound
    as the model spoke it, or as it was encoded earlier; if they are given, the audio is ignored. Without audio and
    codes, the turn consists only of its words.
    """

    text: str
    speaker: int
    audio: Tensor | None = None
    sample_rate: int = SAMPLE_RATE
    codes: Tensor | None = None


def speakable(text: str) -> str:
    """Remove from `text` what the model stumbles over: brackets, emoji, control characters, the colon of "10:30".

    Raises InvalidText if no letter or digit is left, or if the text starts with a speaker mark such as "[0]".
    """
    if not isinstance(text, str):
        raise InvalidText(f"The text must be a string, not {type(text).__name__}.")
    if marked := re.match(r"\s*\[(\d+)\]", text):
        raise InvalidText(
            f"The text begins with {marked[0].strip()}, but the speaker is a separate argument: pass "
            f"speaker={marked[1]}, and only the words as text."
        )
    joiners, dropped = "\u200c\u200d", "\ufe0e\ufe0f\u20e3"
    characters = (
        " " if (unicodedata.category(c) in _UNSPOKEN and c not in joiners) or c in dropped else c
        for c in re.sub(r"[\[\](){}<>|]|(?<=\d):(?=\d)", " ", unicodedata.normalize("NFC", text))
    )
    # A joiner inside a word belongs to Persian or Hindi; a joiner on its own is left over from an emoji.
    said = " ".join(re.sub(rf"(?<!\S)[{joiners}]+|[{joiners}]+(?!\S)", " ", "".join(characters)).split())
    if not any(character.isalnum() for character in said):
        raise InvalidText("The text has no letters or digits, so there is nothing to say. Write at least one word.")
    return said


_UNSPOKEN = {"Cc", "Cf", "Cn", "Co", "Cs", "So", "Sk", "Zs", "Zl", "Zp"}


def load_tokenizer(folder: Path) -> Tokenizer:
    """Load the text tokenizer from the checkpoint's tokenizer.json. Raises CheckpointError if it is not CSM's."""
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    if not path.is_file():
        raise CheckpointError(
            f"Expected tokenizer.json in {folder}, found none. sesame/csm-1b on the Hugging Face hub holds it."
        )
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises nothing narrower
        raise CheckpointError(f"Expected a tokenizer in {path}, found something else: {error}") from error
    if missing := [token for token in (BEGIN, END) if tokenizer.token_to_id(token) is None]:
        raise CheckpointError(f"Expected the tokens {BEGIN} and {END} in {path}, found no {' and no '.join(missing)}.")
    # Text that looks like a special token is ordinary text.
    tokenizer.encode_special_tokens = True
    return tokenizer


class Prompter:
    """Turns segments into rows with a tokenizer and a codec on `device`, for a model of at most `context` rows."""

    def __init__(self, tokenizer: Tokenizer, codec: Codec, context: int, device: torch.device) -> None:
        self.tokenizer, self.codec, self.context, self.device = tokenizer, codec, context, device
        self._codes: OrderedDict[bytes, Tensor] = OrderedDict()

    def text(self, text: str, speaker: int) -> Tensor:
        """The rows of a text to speak. Raises InvalidText, InvalidSpeaker."""
        said = f"[{valid_speaker(speaker)}]{speakable(text)}"
        words = self.tokenizer.encode(said, add_special_tokens=False).ids
        begin, end = self.tokenizer.token_to_id(BEGIN), self.tokenizer.token_to_id(END)
        assert begin is not None and end is not None
        return text_rows([begin, *words, end], self.codec.codebooks)

    def segment(self, segment: Segment) -> Tensor:
        """The rows of a turn. Raises InvalidText, InvalidSpeaker, InvalidAudio, ContextTooLong."""
        text = self.text(segment.text, segment.speaker)
        if segment.audio is None and segment.codes is None:
            return text
        return torch.cat((text, sound_rows(self.codes(segment))))

    def codes(self, segment: Segment) -> Tensor:
        """The codes of a segment's recording: int64 [frames, codebooks], on the host."""
        if segment.codes is not None:
            if segment.codes.dim() != 2 or segment.codes.shape[1] != self.codec.codebooks:
                raise InvalidAudio(
                    f"Codes have the shape [frames, {self.codec.codebooks}], not {list(segment.codes.shape)}."
                )
            return segment.codes
        audio = as_mono(segment.audio, segment.sample_rate)
        # Checked before encoding: a recording of ten minutes would take long to encode, only to be refused.
        if (frames := -(-len(audio) // self.codec.frame_size)) >= self.context:
            raise ContextTooLong(
                f"A recording of {len(audio) / SAMPLE_RATE:.0f} s takes {frames} of the model's {self.context} rows. "
                "Use at most a minute; ten seconds are enough for a voice."
            )
        key = hashlib.sha256(audio.numpy().tobytes()).digest()
        if (codes := self._codes.pop(key, None)) is None:
            with torch.inference_mode():
                codes = self.codec.encode(audio[None].to(self.device))[0].T.cpu()
        self._codes[key] = codes  # moved to the end, so that the least recently used codes are dropped first
        if len(self._codes) > REMEMBERED:
            self._codes.popitem(last=False)
        return codes


def valid_speaker(speaker: int) -> int:
    """Return the speaker's number, or raise InvalidSpeaker."""
    try:
        number = operator.index(speaker)
    except TypeError:
        number = -1
    if number < 0 or isinstance(speaker, bool):
        raise InvalidSpeaker(f"A speaker must be a whole number, 0 or higher, not {speaker!r}.")
    return number
