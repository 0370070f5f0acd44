"""Text as it is written, cut into what can be spoken: a first clause early, then whole sentences."""

from __future__ import annotations

import re
from collections.abc import Iterator

FIRST_WORDS = 3
"""A first clause shorter than this would be followed by an audible gap while the next one is made."""

LONGEST = 300
"""Characters; a longer sentence is cut at its last comma, or at a space: about 20 s of speech."""

_ABBREVIATIONS = frozenset(
    "mr mrs ms dr prof sr jr st mt vs etc e.g i.e eg ie approx no vol fig dept est inc ltd co corp a.m p.m u.s u.k cf "
    "jan feb mar apr jun jul aug sep sept oct nov dec mon tue wed thu fri sat sun gen col lt sgt rev hon capt ca al "
    "min max".split()
)
_END = re.compile(r"(?P<mark>[.!?…]+)(?P<closing>[\"'”’)\]*_]*)(?=\s)|[。！？]+|\n")
_PAUSE = re.compile(r"(?:[,;:]|(?<=\s)[–—-]|(?<=\w)—)(?=\s)")
_LIST_NUMBER = re.compile(r"(?:^|\n)\s*\d{1,3}\.$")
_INITIAL = re.compile(r"(?:^|[\s.(])[^\W\d_]\.$")
_FENCE = re.compile(r"```|~~~")


class ClauseSplitter:
    """Feed it pieces of any length, at any boundary; what comes out does not depend on how the text was cut.

    Joined by single spaces, the clauses are the text with its white space evened out.
    """

    def __init__(self) -> None:
        self._text = ""
        self._first = True

    def feed(self, piece: str) -> list[str]:
        """The clauses that are complete now."""
        self._text += piece
        return list(self._complete())

    def finish(self) -> list[str]:
        """What is left, as the last clauses."""
        self._text += "\n"
        clauses = list(self._complete())
        rest, self._text, self._first = self._text.strip(), "", True
        return [*clauses, rest] if rest else clauses

    def _complete(self) -> Iterator[str]:
        while (end := self._next_end()) is not None:
            clause, self._text = self._text[:end].strip(), self._text[end:]
            if clause:
                self._first = False
                yield clause

    def _next_end(self) -> int | None:
        """Where the next clause ends; None while that cannot be told yet. It is judged by what lies before and one
        character after, so that waiting for more would not change it."""
        start = len(self._text) - len(self._text.lstrip())
        if fence := _FENCE.match(self._text, start):
            closing = self._text.find(fence[0], fence.end())
            return None if closing < 0 else closing + len(fence[0])
        sentence = self._sentence_end(start)
        if self._first and (early := self._early_end(start, sentence)) is not None:
            return early
        if (len(self._text) if sentence is None else sentence) - start > LONGEST:
            return self._cut(start)
        return sentence

    def _sentence_end(self, start: int) -> int | None:
        for match in _END.finditer(self._text, start):
            end = match.end()
            if match["mark"] == "." and not match["closing"] and self._abbreviated(start, end):
                continue
            if match[0] != "\n" and _open_bracket(self._text[start:end]):
                continue
            return end
        return None

    def _early_end(self, start: int, sentence: int | None) -> int | None:
        limit = len(self._text) if sentence is None else sentence
        for match in _PAUSE.finditer(self._text, start, min(limit + 1, len(self._text))):
            before = self._text[start : match.end()]
            if match.end() < limit and len(before.split()) >= FIRST_WORDS and not _open_bracket(before):
                return match.end()
        return None

    def _abbreviated(self, start: int, end: int) -> bool:
        before = self._text[start:end]
        word = before.split()[-1].lstrip("\"'“‘([*_").removesuffix(".").lower()
        return (
            word in _ABBREVIATIONS or bool(_INITIAL.search(before) and word != "i") or bool(_LIST_NUMBER.search(before))
        )

    def _cut(self, start: int) -> int:
        window = self._text[start : start + LONGEST]
        pauses = [match.end() for match in _PAUSE.finditer(window) if match.end() > LONGEST // 3]
        if pauses:
            return start + pauses[-1]
        space = max(window.rfind(" "), window.rfind("\n"), window.rfind("\t"))
        return start + (space if space > 0 else LONGEST)


def reached(text: str, share: float) -> str:
    """The words of a text that were reached when so much of its sound, 0 to 1, was heard: in proportion."""
    words = re.findall(r"\S+\s*", text)
    return "".join(words[: round(len(words) * share)]).strip()


def _open_bracket(text: str) -> bool:
    """Whether `text` ends inside a Markdown link's words or address, or inside `code`."""
    return bool(re.search(r"\[[^\]\n]{0,200}$|\]\([^)\s]{0,500}$", text)) or text.count("`") % 2 == 1
