"""Makes text speakable: Markdown, emoji, addresses, times, dates, numbers, units, code and lists become words.

`speakable` applies tables of small steps, each a pattern and what to say for it: markup.py, dates.py, numbers.py, and
the abbreviations and signs below. The result holds only letters, spaces and punctuation, and a second pass does not
change it. One passage is processed at a time, so the time grows only linearly with the text's length.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from pipeline.tts.dates import DATES
from pipeline.tts.markup import BLOCKS, CODE, MARKUP
from pipeline.tts.numbers import IDENTIFIERS, NUMBERS, Step, number_words, one_of, steps, year_words

__all__ = ["CODE", "number_words", "speakable", "year_words"]

_SHORT = {
    "e.g.": "for example", "i.e.": "that is", "etc.": "et cetera", "vs.": "versus", "approx.": "approximately",
    "Dr.": "Doctor", "Mr.": "Mister", "Mrs.": "Missis", "Ms.": "Miss", "Prof.": "Professor",
    "w/o": "without", "w/": "with", "C++": "C plus plus", "C#": "C sharp", "F#": "F sharp",
}  # fmt: skip
_SIGNS = {
    "&": "and", "+": "plus", "=": "equals", "×": "times", "÷": "divided by", "≈": "about", "~": "about", "≤": "at most",
    "≥": "at least", "<": "less than", ">": "greater than", "@": "at", "%": "percent", "≠": "is not equal to",
    "→": "to", "⇒": "so", "±": "plus or minus", "∞": "infinity", "π": "pi", "∑": "the sum of",
    "°": "degrees", "§": "section", "©": "copyright", "™": "", "®": "", "№": "number", "−": "minus",
}  # fmt: skip


LONGEST = 1000
"""Characters of a passage."""


def speakable(text: str) -> str:
    """Return `text` as it should be said aloud, in one line; empty if nothing in it can be said."""
    text = BLOCKS.sub(f"\n{CODE}\n", text)
    return _punctuated("\n".join(_said(passage) for passage in _passages(text) if passage.strip()))


def _passages(text: str) -> Iterator[str]:
    """Yield the lines, long ones in parts, so that no step takes too long, whatever a model sends."""
    for line in text.split("\n"):
        while len(line) > LONGEST:
            end = line.rfind(" ", 1, LONGEST) + 1 or LONGEST
            yield line[:end]
            line = line[end:]
        yield line


def _said(passage: str) -> str:
    for pattern, replacement in _STEPS:
        passage = pattern.sub(replacement, passage)
    return "".join(character if _sayable(character) else " " for character in passage)


def _sayable(character: str) -> bool:
    return character.isalpha() or unicodedata.category(character).startswith("M") or character in " \n.,;:?!'-"


def _punctuated(text: str) -> str:
    """Even out what the steps left: single spaces and marks, no mark without a word before it, every line ended."""
    lines = []
    for line in text.split("\n"):
        line = re.sub(r"\s+", " ", line).strip()
        line = re.sub(r"(?<![^\W\d_])['-]|(?<![^\W\d_][s])'(?![^\W\d_])|(?<=\s)['-]+(?=\s)|-(?=\s|$)", " ", line)
        line = re.sub(r"\s+([.,;:?!])", r"\1", re.sub(r"\s+", " ", line))
        line = re.sub(r"(?<![.,;:])[.,;:]*+([?!])[.,;:?!]*+", r"\1", line)
        line = re.sub(r"\.{4,}", "...", line)
        line = re.sub(r"[,;:]+(?=[.,;:])|(?<=\.)[,;:](?=\s*$)", "", line)
        line = re.sub(r"^[\s.,;:?!'-]+", "", line).rstrip(" ,;:-")
        if any(character.isalpha() for character in line):
            lines.append(line)
    ended = [line if line[-1] in ".?!" or place == len(lines) - 1 else f"{line}." for place, line in enumerate(lines)]
    return " ".join(ended)


_STEPS: tuple[Step, ...] = (
    *steps(
        ("[\ufe00-\ufe0f\u200b\u2060\ufeff\u20e3]", ""),  # controls only how a character is drawn
        (r"[\u2018\u2019\u02bc\u0060\u00b4](?=\w)(?<=\w.)", "'"),
        (r"[\u2018\u2019]", "'"),
        (r"[\u201c\u201d\u00ab\u00bb]", '"'),
        (r"\u2026", "..."),
        (r"[\u00a0\u202f\u2009\t\r]", " "),
    ),
    *MARKUP,
    *DATES,
    *IDENTIFIERS,
    *steps((r"!=", " ≠ "), (r">=", " ≥ "), (r"<=", " ≤ "), (r"==+", " = ")),
    *NUMBERS,
    *steps(
        (r"\d", lambda m: f" {unicodedata.digit(m[0], 0)} ".replace(m[0], "")),
        # Abbreviations and signs
        (rf"(?<!\w)({one_of(_SHORT)})(?!\w)", lambda m: _SHORT[m[1]]),
        (r"(?<=\w)(?:\(\)|::|->|_+)(?=\w|\s|$|[.,;:?!])", " "),
        (r"[–—]|(?<=\s)--?(?=\s)|(?<=\w)--(?=\w)", ", "),
        (r"[()\[\]{}]", ", "),
        (r"(?<=\w)/(?=\w)", " "),
        (r'"', " "),
        (rf"([{re.escape(''.join(_SIGNS))}])", lambda m: f" {_SIGNS[m[1]]} "),
    ),
)
