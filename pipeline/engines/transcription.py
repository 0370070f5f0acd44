"""Transcribes a recording of any length, passage by passage."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import IO

from pipeline.audio import EAR_RATE
from pipeline.audio.decode import pieces
from pipeline.engines.lease import LeasedEars
from pipeline.stt import CannotFulfil, TranscriptionWishes, Word, Written
from pipeline.tts.clauses import ends_sentence
from pipeline.turns.passages import Cutter, Passage
from pipeline.turns.vad import VoiceActivityLike

SHORT_S, SHORT_SILENCE_S = 10.0, 0.5
"""Limits of a passage, in seconds, if the ears report no word times; then only the passage's own times are known."""

LINE = 84
"""Characters of a segment: two lines of subtitles (Netflix and BBC guidelines: 42 each, 37 to 42)."""
BREATH_S = 0.8
"""A pause between two words that separates segments, in seconds."""

UNSPACED = frozenset("zh ja th lo my km yue bo".split())
"""Languages written without spaces, by ISO 639."""


@dataclass(frozen=True, slots=True)
class Segment:
    start: float
    end: float
    """Seconds from the beginning of the recording."""
    text: str
    words: tuple[Word, ...]
    """Empty if the ears report no word times; otherwise with times relative to the recording."""
    written: Written
    """The passage's transcription, of which this is a part."""


@dataclass(frozen=True, slots=True)
class HeardPassage:
    """Progress: a passage's segments, none if nothing was said, and the seconds transcribed so far."""

    seconds: float
    segments: tuple[Segment, ...] = ()
    language: str | None = None


async def transcribed(
    ears: LeasedEars,
    vad: VoiceActivityLike,
    file: IO[bytes],
    wishes: TranscriptionWishes,
    longest_s: float,
    turn: Callable[[], AbstractAsyncContextManager[None]] = nullcontext,
) -> AsyncGenerator[HeardPassage, None]:
    """Transcribe a recording; the last item holds its whole length.

    Args:
        vad: a detector for this recording alone.
        file: any that pipeline/audio/decode.py reads.
        longest_s: the longest recording allowed.
        turn: entered before each passage, to wait while others use the ears.

    Raises:
        Undecodable, TooLong: as `decode` does, perhaps midway.
        CannotFulfil: the ears do not support the wishes.
        EngineError: the ears failed.
    """
    if not ears.writes_down and (wishes.translate or wishes.language not in (None, "en")):
        raise CannotFulfil("The current ears understand only English: choose Whisper on the setup page.")
    cutter = Cutter(vad) if ears.writes_down else Cutter(vad, SHORT_S, SHORT_SILENCE_S)
    told = wishes.before
    cut = _cut(cutter, file, longest_s)
    while (passages := await asyncio.to_thread(next, cut, None)) is not None:
        for passage in passages:
            async with turn():
                written = await ears.write_down(passage.sound, replace(wishes, before=told))
            if not written.text:
                continue
            told = f"{told} {written.text}"
            yield HeardPassage(cutter.seconds, tuple(segments(passage, written)), written.language)
        yield HeardPassage(cutter.seconds)


def _cut(cutter: Cutter, file: IO[bytes], longest_s: float) -> Iterator[list[Passage]]:
    for piece in pieces(file, EAR_RATE, longest_s):
        yield cutter.feed(piece)
    yield cutter.finish()


def segments(passage: Passage, written: Written) -> Iterator[Segment]:
    """Yield a passage's sentences, splitting long ones at a comma or a space, as subtitles need."""
    if not written.words:
        yield Segment(passage.start, passage.end, written.text, (), written)
        return
    words = [replace(word, start=passage.start + word.start, end=passage.start + word.end) for word in written.words]
    while words:
        said, words = words[: (end := _end(words))], words[end:]
        text = "".join(word.text for word in said).strip()
        yield Segment(said[0].start, max(said[-1].end, said[0].start), text, tuple(said), written)


def _end(words: list[Word]) -> int:
    """Return how many of the words form the next segment."""
    text, comma = "", 0
    for index, word in enumerate(words[:-1]):
        text, following = text + word.text, words[index + 1]
        if following.start - word.end >= BREATH_S or (ends_sentence(text) and following.text.startswith(" ")):
            return index + 1
        if text.endswith((",", ";", ":")) and len(text) > LINE // 3:
            comma = index + 1
        if len(text + following.text) > LINE:
            return comma or index + 1
    return len(words)


def joined(texts: list[str], language: str | None) -> str:
    """Join texts as the language is written, with or without spaces."""
    return ("" if language in UNSPACED else " ").join(texts)
