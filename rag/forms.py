"""Find the other forms of a word among the words that were said: "Apfelbäume" for "Apfelbaum" in a question.

English does not need this because the full-text index already uses English stems. For the other languages the forms
are looked up when a question is asked, so turns are indexed once and their language need not be known.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

from rag.vocabulary import Vocabulary

SAME = 3
"""How many first letters, without accents, all forms of a word share; words are looked up by them."""


class Forms:
    """Follows a vocabulary as it grows. Use it from one thread at a time."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary, self._seen = vocabulary, 0
        self._beginning: dict[str, list[tuple[str, str]]] = {}
        """By their first letters, the words that were said, each without accents and as it was said."""

    def of(self, word: str, stem: Callable[[str], str]) -> list[str]:
        """Return the word itself and every word of the vocabulary that has the same stem."""
        for said in self._vocabulary.after(self._seen):
            self._seen += 1
            plain = _plain(said)
            self._beginning.setdefault(plain[:SAME], []).append((plain, said))
        wanted = _plain(stem(word))
        near = self._beginning.get(_plain(word)[:SAME], ())
        # Stemming takes 0.1 ms a word, so first compare beginnings: a word begins with its stem, save the last letter.
        alike = [said for plain, said in near if plain.startswith(wanted[:-1]) and _plain(stem(said)) == wanted]
        return list(dict.fromkeys([word, *alike]))


def _plain(word: str) -> str:
    """Return the word without accents, as the full-text index stores it."""
    return "".join(letter for letter in unicodedata.normalize("NFKD", word) if not unicodedata.combining(letter))
