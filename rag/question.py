"""What a question asks for: its words, whom it names, which days, and what kind of answer it wants."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date

from rag.asked import Asked, asked
from rag.days import Span
from rag.languages import Language, language_of
from rag.lexical import ASKING, Stemmer, words
from rag.stated import in_english
from rag.when import phrases

_WHEN = re.compile(r"\b(when|how long|since|(what|which) (day|date|week|month|year))\b", re.IGNORECASE)
_NAME = re.compile(
    r"\b(who|whose|where|which|(what|which) (city|country|state|place|book|movie|film|game|song|band|name))\b",
    re.IGNORECASE,
)
_PERSONAL = re.compile(r"\b(i|my|mine|myself|we|us|our|ours|ourselves)\b", re.IGNORECASE)
"""Without "me": "tell me a joke" is not about the speaker."""
_MINE = re.compile(r"\b(i|me|my|mine|myself)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Question:
    text: str
    language: Language | None
    """None means English or an unknown language."""
    terms: tuple[str, ...]
    """Words that carry meaning, one per stem, without speakers' names."""
    about: frozenset[str]
    """The speakers it names; the asker if it says "my" and names nobody."""
    personal: bool
    """Whether it speaks of the asker ("my", "us") rather than of the world."""
    spans: tuple[Span, ...]
    wants_time: bool
    wants_name: bool
    asked: Asked | None
    """The attribute it asks for, if the grammar of claims knows it."""

    @classmethod
    def read(cls, text: str, *, speakers: Iterable[str], asker: str | None, today: date, stemmer: Stemmer) -> Question:
        language = language_of(text)
        times = phrases(text, today) if language is None else language.phrases(text, today)
        mine, when, name = (_MINE, _WHEN, _NAME) if language is None else (language.mine, language.when, language.name)
        untimed = text  # "last week" is matched against the days, not against the words
        for phrase in times:
            untimed = untimed[: phrase.start] + " " * (phrase.end - phrase.start) + untimed[phrase.end :]
        said = words(untimed)
        names = name_words(speakers)
        about = {speaker for word in said for speaker in names.get(word, ())}
        personal = bool((_PERSONAL if language is None else mine).search(text))
        if not about and asker is not None and mine.search(text):
            about = {asker}
        if language is None:
            telling = [word for word in said if word not in ASKING and word not in names]
        else:
            telling = language.telling(untimed, names)
        terms = dict(zip(reversed(stemmer.stems(telling)), reversed(telling), strict=True))
        return cls(
            text=text,
            language=language,
            terms=tuple(reversed(terms.values())),
            about=frozenset(about),
            personal=personal,
            spans=tuple(phrase.span for phrase in times),
            wants_time=bool(when.search(text)),
            wants_name=bool(name.search(text)),
            asked=asked(in_english(text) or text),
        )


def name_words(speakers: Iterable[str]) -> Mapping[str, set[str]]:
    """Return each word of the speakers' names, and whose names it is part of."""
    names: dict[str, set[str]] = {}
    for speaker in speakers:
        for word in words(speaker):
            if len(word) > 1 and word not in ASKING:
                names.setdefault(word, set()).add(speaker)
    return names
