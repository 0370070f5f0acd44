"""Splits text, as it is generated, into clauses to speak: a short first one early, then whole sentences."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pipeline.tts.dates import MONTH

FIRST_WORDS = 3
"""Words; a shorter first clause would be followed by an audible gap while the next one is synthesized."""

LONGEST = 300
"""Characters; a longer sentence is cut at its last comma or at a space: about 20 s of speech."""

SENTENCE_ENDS = ".!?…。！？"

_ABBREVIATIONS = frozenset(
    "mr mrs ms dr prof sr jr st mt vs etc e.g i.e eg ie approx no vol fig dept est inc ltd co corp a.m p.m u.s u.k cf "
    "jan feb mar apr jun jul aug sep sept oct nov dec mon tue wed thu fri sat sun gen col lt sgt rev hon capt ca al "
    "min max".split()
)
_END = re.compile(r"(?<![.!?…])(?P<mark>[.!?…]++)(?P<closing>[\"'”’)\]*_]*)(?=\s)|[。！？]+|\n")
_PAUSE = re.compile(r"(?:[,;:]|(?<=\s)[–—-]|(?<=\w)—)(?=\s)")
_LIST_NUMBER = re.compile(r"\s*\d{1,3}\.")
_INITIAL = re.compile(r"(?:^|[\s.(])[^\W\d_]\.$")
_DAY = re.compile(rf"\b(?:{MONTH}) \d{{1,2}}(?:st|nd|rd|th)?,\s*$")
"""A date whose comma does not end a clause, because its year follows."""
_OPEN = re.compile(r"\[[^\]\n]{0,200}$|\]\([^)\s]{0,500}$|(?<![\w*])\*(?=\w)[^*\n]{0,60}$")
_FENCE = re.compile(r"```|~~~")


class ClauseSplitter:
    """Takes pieces of any length, cut anywhere; the clauses do not depend on how the text was cut.

    Joined by single spaces, the clauses are the text with its white space normalized.
    """

    def __init__(self) -> None:
        self._text = ""
        self._first = True

    def feed(self, piece: str) -> list[str]:
        """Return the clauses that are complete now."""
        self._text += piece
        return list(self._complete())

    def finish(self) -> list[str]:
        """Return what is left as the last clauses."""
        self._text += "\n"
        clauses = list(self._complete())
        rest, self._text, self._first = self._text.strip(), "", True
        return [*clauses, rest] if rest else clauses

    def _complete(self) -> Iterator[str]:
        self._text = self._text.lstrip()
        while (end := self._next_end()) is not None:
            clause, self._text = self._text[:end].strip(), self._text[end:].lstrip()
            self._first = False
            yield clause

    def _next_end(self) -> int | None:
        """Return the end of the next clause; None if it cannot be determined yet. The decision uses only the text
        before it and one character after, so that waiting for more would not change it."""
        if fence := _FENCE.match(self._text):
            closing = self._text.find(fence[0], fence.end())
            return None if closing < 0 else closing + len(fence[0])
        window = self._text[: LONGEST + 1]  # text beyond this is never considered, however much has come
        sentence = _sentence_end(window)
        if self._first and (early := _early_end(window, sentence)) is not None:
            return early
        return _cut(window) if sentence is None and len(window) > LONGEST else sentence


def _sentence_end(text: str) -> int | None:
    for match in _END.finditer(text):
        end = match.end()
        if match["mark"] == "." and not match["closing"] and _abbreviated(text[:end]):
            continue
        if match[0] != "\n" and _open_bracket(text[:end]):
            continue
        return end
    return None


def _early_end(text: str, sentence: int | None) -> int | None:
    limit = len(text) if sentence is None else sentence
    for match in _PAUSE.finditer(text, 0, min(limit + 1, len(text))):
        before = text[: match.end()]
        if match.end() >= limit or len(before.split()) < FIRST_WORDS:
            continue
        if not _open_bracket(before) and not _DAY.search(before):
            return match.end()
    return None


def _abbreviated(before: str) -> bool:
    near = before[-40:]
    word = near.split()[-1].lstrip("\"'“‘([*_").removesuffix(".").lower()
    line = before[before.rfind("\n") + 1 :]
    return (
        word in _ABBREVIATIONS
        or bool(_INITIAL.search(near) and word != "i")
        or (len(line) < 40 and bool(_LIST_NUMBER.fullmatch(line)))
    )


def ends_sentence(text: str) -> bool:
    """Whether a sentence ends with the text, as far as its own words tell."""
    return text.endswith(tuple(SENTENCE_ENDS)) and not (text.endswith(".") and _abbreviated(text))


def _cut(window: str) -> int:
    """Return where to cut a sentence that is too long: after its last pause, or at its last space."""
    window = window[:LONGEST]
    pauses = [match.end() for match in _PAUSE.finditer(window) if match.end() > LONGEST // 3]
    if pauses:
        return pauses[-1]
    space = max(window.rfind(" "), window.rfind("\n"), window.rfind("\t"))
    return space if space > 0 else LONGEST


def reached(text: str, share: float) -> str:
    """Return the words heard when this share of the sound, 0 to 1, was heard: in proportion."""
    words = re.findall(r"\S+\s*", text)
    return "".join(words[: round(len(words) * share)]).strip()


def _open_bracket(text: str) -> bool:
    """Whether `text` ends inside a Markdown link's words or address, between asterisks, or inside `code`."""
    return bool(_OPEN.search(text)) or text.count("`") % 2 == 1
