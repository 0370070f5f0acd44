"""Checks whether Whisper's text can have been said. Whisper is known to repeat itself and to invent words in noise."""

from __future__ import annotations

import re
import zlib

NO_SPEECH, LOG_PROBABILITY, COMPRESSION = 0.6, -1.0, 2.4
"""OpenAI's thresholds (whisper/transcribe.py)."""

WORDS_A_SECOND, WORDS_AT_ONCE = 7.0, 4
"""Upper bounds for speech: the fastest speakers reach five or six words a second, and a few words may begin before the
sound. Tokens are bounded in the same way, three for two words, so that a loop ends soon."""

REPEATED = re.compile(r"\b(\w+(?:\W+\w+){0,7}?)(?:\W+\1\b){3,}", re.IGNORECASE)
"""A phrase said four or more times in a row."""

SAME_WORDS = 5
"""Hardly anybody says this many words twice in the same order within a turn; with a short window, it starts a loop."""


def too_many(text: str, seconds: float) -> bool:
    """Whether the text has more words than can be said in that time."""
    return len(text.split()) > WORDS_A_SECOND * seconds + WORDS_AT_ONCE


def loops(text: str) -> bool:
    """Whether the text repeats a phrase again and again."""
    raw = text.encode()
    return len(raw) > COMPRESSION * len(zlib.compress(raw)) or REPEATED.search(text) is not None


def repeats(text: str) -> bool:
    """Whether a sequence of SAME_WORDS words comes twice, which may be correct."""
    words = words_of(text)
    runs = [tuple(words[at : at + SAME_WORDS]) for at in range(len(words) - SAME_WORDS + 1)]
    return len(set(runs)) < len(runs)


def words_of(text: str) -> list[str]:
    return re.findall(r"[\w']+", text.lower())


def invented(no_speech: float, log_probability: float) -> bool:
    """Whether Whisper's own measures say that it invented the text in noise."""
    return no_speech > NO_SPEECH and log_probability < LOG_PROBABILITY
