"""When words were said: Whisper's alignment, without the pauses that it adds to words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from pipeline.audio import EAR_RATE, Samples
from pipeline.stt import Word

MOMENT, QUIET, PAUSE_S = EAR_RATE // 50, 0.1, 0.2
"""Samples of a moment (20 ms); the share of the loudest moment below which one is quiet (-20 dB); the shortest silence
that is a pause, and not part of a word."""


def spoken_parts(words: tuple[Word, ...], sound: Samples) -> tuple[Word, ...]:
    """Return the words without the pauses around them, which the alignment adds to the following word."""
    count = len(sound) // MOMENT
    levels = np.sqrt(np.square(sound[: count * MOMENT].reshape(count, MOMENT)).mean(axis=1))
    loud = levels >= QUIET * levels.max(initial=0)
    parts: list[Word] = []
    for word in words:
        first, last = (round(second * EAR_RATE / MOMENT) for second in (word.start, word.end))
        start, end = _longest_pause(loud[first:last])
        if (end - start) * MOMENT >= PAUSE_S * EAR_RATE:
            before, after = ((first + at) * MOMENT / EAR_RATE for at in (start, end))
            if loud[first + end : last].any():
                if parts and start:  # what precedes the pause is the end of the previous word
                    parts[-1] = replace(parts[-1], end=max(parts[-1].end, before))
                word = replace(word, start=after)
            else:
                word = replace(word, end=max(word.start, before))
        parts.append(word)
    return tuple(parts)


def _longest_pause(loud: Any) -> tuple[int, int]:
    """Return where the longest pause begins and ends."""
    longest, begun = (0, 0), 0
    for at, sounds in enumerate([*loud, True]):
        if sounds:
            longest = max(longest, (begun, at), key=lambda span: span[1] - span[0])
            begun = at + 1
    return longest


def ends_of(text: str, words: list[tuple[str, float]]) -> tuple[tuple[int, float], ...]:
    """Return where words end in the stripped text, and when; only words followed by a space or the end count."""
    found, lead, length = [], len(text) - len(text.lstrip()), 0
    for word, end in words:
        length += len(word)
        if text[length : length + 1] in ("", " "):
            found.append((length - lead, end))
    return tuple(found)
