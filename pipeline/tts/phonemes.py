"""Converts text to phonemes for voices trained on them, with espeak-ng's library, a third party's code and data.

The library drops punctuation, from which such a voice knows how to end; so a clause is split at its marks, and the
marks are put back. espeak-ng keeps its state in globals: one language at a time, one text at a time.
"""

from __future__ import annotations

import ctypes
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.engine import EngineError
from pipeline.tts.espeak import listed_voices, loaded_library

_UTF8, _IPA = 1, 0x02
"""espeakCHARS_UTF8 and espeakPHONEMES_IPA of speak_lib.h."""

_RETRIEVAL = 1
"""AUDIO_OUTPUT_RETRIEVAL: nothing is played."""

_MARK = re.compile(r"[,;:.!?…—–]+[\"'”’)\]]*$")
_OF_ANOTHER_LANGUAGE = re.compile(r"\([a-z-]+\)")
"""espeak-ng's notes of where it switches to another language's rules and back."""

_SAID = {"hm": "hum", "hmm": "hum", "mm": "hum", "mhm": "um-hum", "mm-hmm": "um-hum", "mmhmm": "um-hum", "ok": "okay"}
"""Words that espeak-ng would spell out, or swallow so that Whisper hears "them", and what to say instead."""

_OPENERS = frozenset(
    "and but or so because that which who when where while if as than to of in on at by for from with without about "
    "into over under after before until through between".split()
)
"""Words that begin a phrase; a long clause can be cut before one without a pause."""

LEAST_WORDS, EARLY_WORDS = 8, 3
"""Minimum words of a stretch that ends at a mark inside a clause, and of a reply's first, which must be heard soon."""

LONG_WORDS = 6
"""A reply's first stretch with more words than this is cut before an opener."""

_PAUSE_WEIGHT = 2.0
"""For word times, a mark inside a stretch counts as much as two phonemes."""


@dataclass(frozen=True, slots=True)
class SpokenWord:
    start: int
    end: int
    """Its range of characters in the text, marks included."""
    weight: float
    """Its share of the sound: the number of its phonemes."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Words that are spoken without a break."""

    phonemes: str
    """IPA, with the marks."""
    mark: str
    """The mark that ends it; empty if the next stretch follows without a pause."""
    words: tuple[SpokenWord, ...]


class Phonemizer:
    def __init__(self, language: str) -> None:
        """Args: the language's code, such as "en-us". Raises EngineError if espeak-ng has no such language."""
        self._library, _ = loaded_library(_RETRIEVAL)
        self._library.espeak_TextToPhonemes.restype = ctypes.c_char_p
        self._one_at_a_time = threading.Lock()
        self._own = language
        self._choose(language)

    def stretches(self, text: str, early: bool, language: str | None = None) -> list[Stretch]:
        """Split a text into stretches.

        Args:
            early: whether it begins a reply, so that its first words are needed soon.
            language: instead of the default one. Raises EngineError if espeak-ng has no such language.
        """
        spans = [match.span() for match in re.finditer(r"\S+", text)]
        parts = (part for part in _cut(text, spans, early) if re.search(r"\w", text[part[0][0] : part[-1][1]]))
        return [self._stretch(text, part, language) for part in parts]

    def ipa(self, text: str, language: str | None = None) -> str:
        """Return the IPA of words without marks."""
        words = (_SAID.get(word.lower(), word) for word in text.split())
        utf8 = ctypes.c_char_p(" ".join(words).replace("\0", " ").encode("utf-8", "replace"))
        rest = ctypes.cast(utf8, ctypes.c_void_p)
        said: list[str] = []
        with self._one_at_a_time:
            if (language or self._own) != self._chosen:
                self._choose(language or self._own)
            while rest.value:
                said.append(self._library.espeak_TextToPhonemes(ctypes.byref(rest), _UTF8, _IPA).decode())
        return _OF_ANOTHER_LANGUAGE.sub("", " ".join(filter(None, said)))

    def _choose(self, language: str) -> None:
        voice = listed_voices(self._library).get(language)
        if voice is None or self._library.espeak_SetVoiceByName(voice.identifier) != 0:
            raise EngineError(f"espeak-ng has no language {language!r}, which this voice was trained on.")
        self._chosen = language

    def _stretch(self, text: str, spans: list[tuple[int, int]], language: str | None) -> Stretch:
        phonemes: list[str] = []
        words: list[SpokenWord] = []
        waiting: list[str] = []
        for start, end in spans:
            plain, mark = _parted(text[start:end])
            if plain:
                waiting.append(plain)
            weight = len(re.findall(r"\w", self.ipa(plain, language))) + (_PAUSE_WEIGHT if mark else 0.5)
            words.append(SpokenWord(start, end, weight))
            if mark and waiting:
                phonemes.append(self.ipa(" ".join(waiting), language) + mark)
                waiting.clear()
        if waiting:
            phonemes.append(self.ipa(" ".join(waiting), language))
        last = _parted(text[slice(*spans[-1])])[1]
        return Stretch(" ".join(phonemes), last, tuple(words))


def _cut(text: str, spans: list[tuple[int, int]], early: bool) -> Iterator[list[tuple[int, int]]]:
    """Yield the words' spans by stretch."""
    begun = 0
    for index in range(1, len(spans)):
        words, wanted = index - begun, EARLY_WORDS if early and not begun else LEAST_WORDS
        mark = _parted(text[slice(*spans[index - 1])])[1]
        opener = text[slice(*spans[index])].lower() in _OPENERS
        left = len(spans) - index
        if (mark and words >= wanted and left > 1) or (
            early and not begun and opener and words >= EARLY_WORDS and left >= EARLY_WORDS and len(spans) > LONG_WORDS
        ):
            yield spans[begun:index]
            begun = index
    if spans[begun:]:
        yield spans[begun:]


def _parted(word: str) -> tuple[str, str]:
    """Return a word without quotes and brackets, and the mark after it: one that voices know, or none."""
    found = _MARK.search(word)
    plain = (word[: found.start()] if found else word).strip("\"“”‘()[]'’*_")
    if not found:
        return plain, "," if word in ("-", "–", "—") else ""
    mark = found[0][0]
    if "?" in found[0]:
        return plain, "?"
    return plain, {"—": ",", "–": ",", "…": "."}.get(mark, mark)
