"""Words before a time expression that move it ("the day after Christmas"), and those that tie two of them ("from May to
July")."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date

from rag.days import DAY, WEEKDAYS, Span, in_year, moved, weekend
from rag.numerals import COUNTED, number

_SHIFT = re.compile(
    rf"(?:\bthe )?(?:\b(?P<count>{COUNTED}) )?\b(?P<unit>day|week|weekend|month|{'|'.join(WEEKDAYS)})s?"
    r" (?P<side>before|after|following|of) (?:the )?$",
    re.IGNORECASE,
)
_SINCE = re.compile(r"\bsince (?:the )?$", re.IGNORECASE)
_FROM = re.compile(r"\b(?:between|from) (?:the )?$", re.IGNORECASE)
_TO = re.compile(r"\s*(?:\b(?:and|to|until|till|through)\b|-|–)\s*(?:the )?", re.IGNORECASE)


@dataclass(frozen=True)
class Phrase:
    """A time expression's position in the text, and the days it means."""

    start: int
    end: int
    span: Span


NEAR = 60
"""Characters before a phrase in which words that shift it are sought: more than "ninety-nine weeks before the "."""


def extended(phrase: Phrase, text: str, said: date) -> Phrase:
    """Apply the words before a phrase: "the day after Christmas", "the Friday before May 5th", "since Christmas"."""
    if shift := _SHIFT.search(text, max(0, phrase.start - NEAR), phrase.start):
        return Phrase(shift.start(), phrase.end, _shifted(phrase.span, shift))
    own = text[phrase.start : phrase.start + len("since ")].lower()
    since = _SINCE.search(text, max(0, phrase.start - NEAR), phrase.end if own.startswith("since") else phrase.start)
    if since or own == "since ":
        first = phrase.span.first
        if phrase.span.yearly and first > said:
            first = in_year(first, said.year - 1)
        if first <= said:
            return Phrase(since.start() if since else phrase.start, phrase.end, Span(first, said))
    return phrase


def _shifted(span: Span, shift: re.Match[str]) -> Span:
    """Return the days that lie this far before or after a span; "the week of" a day is the three days around it."""
    unit, side = shift["unit"].lower(), -1 if shift["side"].lower() == "before" else 1
    near = span.last if side > 0 else span.first
    if shift["side"].lower() == "of":
        around = {"week": 3, "weekend": 2}.get(unit, 0)
        return replace(span, first=span.first - around * DAY, last=span.last + around * DAY)
    count = number(shift["count"]) if shift["count"] else 1
    if unit in {"week", "month"}:
        days, around = (7, 3) if unit == "week" else (30, 10)
        if shift["count"]:
            on = near + side * days * count * DAY
            return replace(span, first=on - around * DAY, last=on + around * DAY)
        first, last = sorted((near + side * DAY, near + days * side * DAY))  # "the week after" it
        return replace(span, first=first, last=last)
    if unit == "day":
        on = near + side * count * DAY
        return replace(span, first=on, last=on)
    wanted = WEEKDAYS.index("saturday" if unit == "weekend" else unit)
    away = (wanted - near.weekday()) * side % 7 or 7  # days to the next one on that side
    on = near + side * (away + 7 * (count - 1)) * DAY
    return replace(weekend(on) if unit == "weekend" else Span(on, on), yearly=span.yearly)


def tied(found: Iterable[Phrase], text: str) -> list[Phrase]:
    """Make one span of "from May 5 to June 3" and of "between Monday and Thursday"."""
    tied: list[Phrase] = []
    for phrase in found:
        if tied and phrase.start < tied[-1].end:  # "the Friday" of "the Friday before May 5th"
            tied[-1:] = [max(tied[-1], phrase, key=lambda each: each.end - each.start)]
            continue
        link = _TO.match(text, tied[-1].end) if tied and _opens(tied[-1], text) else None
        if link and link.end() >= phrase.start and (whole := _until(tied[-1].span, phrase.span)):
            tied[-1] = Phrase(tied[-1].start, phrase.end, whole)
        else:
            tied.append(phrase)
    return tied


def _opens(phrase: Phrase, text: str) -> bool:
    own = text[phrase.start : phrase.start + 8].lower()
    return bool(_FROM.search(text, max(0, phrase.start - NEAR), phrase.start)) or own.startswith(("from ", "between "))


def _until(first: Span, last: Span) -> Span | None:
    """Return the days from one span to the end of another; None if that ends before it begins."""
    if first.yearly and not last.yearly:
        year = last.first.year
        first = moved(first, year - (in_year(first.first, year) > last.last))
    elif last.yearly:
        year = first.first.year
        last = moved(last, year + (in_year(last.first, year) < first.first))
    return Span(first.first, last.last, first.yearly and last.yearly) if first.first <= last.last else None
