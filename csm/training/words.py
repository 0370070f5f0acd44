"""How far two texts differ, in words: the word error rate of speech recognition."""

from __future__ import annotations

import re
import unicodedata

__all__ = ["word_error_rate", "words"]

IDEOGRAPHS = r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]"
"""Chinese and Japanese put no space between words: each of these characters counts as one word."""


def words(text: str) -> list[str]:
    """Split into words in lower case, without punctuation; "don't" is one word."""
    plain = unicodedata.normalize("NFKC", text).casefold().replace("’", "'")
    return re.findall(rf"{IDEOGRAPHS}|(?:(?!{IDEOGRAPHS})[^\W_])+(?:'\w+)*", plain)


def word_error_rate(said: str, heard: str) -> float:
    """Wrong, missing and extra words, divided by the number of expected words (Levenshtein 1966). It may exceed 1."""
    wanted, found = words(said), words(heard)
    if not wanted:
        return float(bool(found))
    row = list(range(len(found) + 1))
    for index, word in enumerate(wanted, 1):
        above, row[0] = row[0], index
        for column, other in enumerate(found, 1):
            above, row[column] = row[column], min(row[column] + 1, row[column - 1] + 1, above + (word != other))
    return row[-1] / len(wanted)
