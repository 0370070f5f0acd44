"""The other forms of a word among those that were said: "Apfelbäume" where a question has "Apfelbaum".

English needs none of this, since the full-text index itself goes by English stems. For the other languages the forms
are looked up when a question asks for them: what was said need not be known to be in a language, and is indexed once.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

from rag.vocabulary import Vocabulary

SAME = 3
"""Letters with which all forms of a word begin, accents aside: what words are looked up by."""


class Forms:
    """Follows a vocabulary as it grows. Used by one thread at a time."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary, self._seen = vocabulary, 0
        self._beginning: dict[str, list[tuple[str, str]]] = {}
        """By their first letters the words said, each without accents and as it was."""

    def of(self, word: str, stem: Callable[[str], str]) -> list[str]:
        """The word itself, and every word of the vocabulary that has the same stem."""
        for said in self._vocabulary.after(self._seen):
            self._seen += 1
            plain = _plain(said)
            self._beginning.setdefault(plain[:SAME], []).append((plain, said))
        wanted = _plain(stem(word))
        near = self._beginning.get(_plain(word)[:SAME], ())
        # A stem takes a tenth of a millisecond, and is how the word begins, but for its last letter at times.
        alike = [said for plain, said in near if plain.startswith(wanted[:-1]) and _plain(stem(said)) == wanted]
        return list(dict.fromkeys([word, *alike]))


def _plain(word: str) -> str:
    """Without accents, as the full-text index has it."""
    return "".join(letter for letter in unicodedata.normalize("NFKD", word) if not unicodedata.combining(letter))
