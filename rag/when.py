"""What "last Tuesday" means: time expressions in English text as spans of days, relative to the day they were said."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import date

from rag.days import (
    DAY,
    FEASTS,
    MONTHS,
    SEASONS,
    WEEKDAYS,
    Span,
    away,
    in_year,
    month_named,
    months_from,
    season,
    weekend,
    whole_month,
)
from rag.numerals import COUNTED, NTH, nth, number
from rag.shifts import Phrase, extended, tied

ORDINALS = {"first": 1, "1st": 1, "second": 2, "2nd": 2, "third": 3, "3rd": 3, "fourth": 4, "4th": 4, "last": -1}
PARTS = {"early": 0, "beginning of": 0, "start of": 0, "mid": 1, "middle of": 1, "late": 2, "end of": 2}
"""Thirds of a month or a year. They overlap, because nobody means a day by them."""


AROUND = 300
"""Characters of a sentence that are read on each side of a weekday."""


def phrases(text: str, said: date) -> list[Phrase]:
    """Return every time that `text`, said on the day `said`, names, in the order of the text.

    Phrases are matched longest first: "May 5th, 2023" is one day, not a month, a day and a year. Expressions that name
    no calendar days ("soon", "once upon a time") are left out.
    """
    found: list[Phrase] = []
    taken = bytearray(len(text))
    for pattern, meaning in _PHRASES:
        for match in pattern.finditer(text):
            if any(taken[match.start() : match.end()]):
                continue
            try:
                span = meaning(match, said)
                if span is not None:
                    found.append(phrase := extended(Phrase(match.start(), match.end(), span), text, said))
                    taken[phrase.start : phrase.end] = b"\1" * (phrase.end - phrase.start)
            except (ValueError, OverflowError):  # the 31st of February; ten thousand years ago
                continue
    return tied(sorted(found, key=lambda phrase: (phrase.start, -phrase.end)), text)


# The meaning of each phrase


def _day(match: re.Match[str], said: date) -> Span:
    month, day, year = month_named(match["month"]), nth(match["day"]), match["year"]
    on = date(int(year) if year else said.year, month, day)
    return Span(on, on, yearly=not year)


def _iso(match: re.Match[str], said: date) -> Span:
    on = date.fromisoformat(match[0])
    return Span(on, on)


def _month_of_year(match: re.Match[str], said: date) -> Span:
    return whole_month(int(match["year"]), month_named(match["month"]))


def _month_alone(match: re.Match[str], said: date) -> Span:
    month = month_named(match["month"])
    if match["which"] and match["which"].lower() != "this":
        step = -1 if match["which"].lower() in {"last", "past", "previous"} else 1
        year = said.year + (step if (month - said.month) * step <= 0 else 0)
        return whole_month(year, month)
    span = whole_month(said.year, month)
    return Span(span.first, span.last, yearly=True)


def _part(match: re.Match[str], said: date) -> Span:
    """Read "early May", "the end of June 2023" and "late 2022"."""
    third = PARTS[" ".join(match["part"].lower().replace("the ", "").split())]
    if not match["month"]:
        year = int(match["year"])
        return Span(date(year, 4 * third + 1, 1), whole_month(year, 4 * third + 4).last)
    whole = _month_or_its_year(match, said)
    first, last = whole.first + (0, 8, 18)[third] * DAY, whole.first + (11, 21, 30)[third] * DAY
    return Span(first, min(last, whole.last), whole.yearly)


def _ordinal_in_month(match: re.Match[str], said: date) -> Span:
    """Read "the second week of November", "the first Friday in May" and "the last weekend of June 2023"."""
    whole, unit = _month_or_its_year(match, said), match["unit"].lower()
    number = ORDINALS[match["number"].lower()]
    if unit == "week":
        first = whole.last - 6 * DAY if number < 0 else whole.first + 7 * (number - 1) * DAY
        return replace(whole, first=first, last=first + 6 * DAY)
    wanted = WEEKDAYS.index("saturday" if unit == "weekend" else unit)
    if number < 0:
        on = whole.last - (whole.last.weekday() - wanted) % 7 * DAY
    else:
        on = whole.first + ((wanted - whole.first.weekday()) % 7 + 7 * (number - 1)) * DAY
    return weekend(on) if unit == "weekend" else Span(on, on)


def _month_or_its_year(match: re.Match[str], said: date) -> Span:
    """Return the month, of any year if none is named."""
    whole = whole_month(int(match["year"] or said.year), month_named(match["month"]))
    return replace(whole, yearly=not match["year"])


def _days(match: re.Match[str], said: date) -> Span:
    """Read "May 5 to 9, 2023" and "5-9 May"."""
    month, year = month_named(match["month"]), int(match["year"] or said.year)
    first, last = date(year, month, int(match["day"])), date(year, month, int(match["last"]))
    return Span(first, last, yearly=not match["year"]) if first <= last else Span(first, first, not match["year"])


def _of_year(match: re.Match[str], said: date) -> Span:
    """Read "last year in May", "the summer of last year"."""
    year = said.year + {"last": -1, "this": 0, "next": 1}[match["which"].lower()]
    return season(year, match["season"].lower()) if match["season"] else whole_month(year, month_named(match["month"]))


def _year(match: re.Match[str], said: date) -> Span:
    year = int(match["year"])
    return Span(date(year, 1, 1), date(year, 12, 31))


def _relative_day(match: re.Match[str], said: date) -> Span:
    phrase = " ".join(match[0].lower().split())
    shift = {"yesterday": -1, "last night": -1, "the day before yesterday": -2, "day before yesterday": -2,
             "tomorrow": 1, "the day after tomorrow": 2, "day after tomorrow": 2}.get(phrase, 0)  # fmt: skip
    return Span(said + shift * DAY, said + shift * DAY)


def _ago(match: re.Match[str], said: date) -> Span:
    return away(said, -number(match["count"]), match["unit"].lower())


def _ahead(match: re.Match[str], said: date) -> Span:
    return away(said, number(match["count"]), match["unit"].lower())


def _half_years_ago(match: re.Match[str], said: date) -> Span:
    years = number(match["years"]) if match["years"] else 0
    return whole_month(*months_from(said, -12 * years - 6))


def _weekdays_ago(match: re.Match[str], said: date) -> Span:
    """Read "two Fridays ago" and "the Friday before last"."""
    back = (said.weekday() - WEEKDAYS.index(match["weekday"].lower())) % 7 or 7
    count = number(match["count"]) if "count" in match.groupdict() else 2
    on = said - (back + 7 * (count - 1)) * DAY
    return Span(on, on)


def _weekday_of_week(match: re.Match[str], said: date) -> Span:
    step = {"last": -1, "this": 0, "next": 1}[match["which"].lower()]
    on = said + (WEEKDAYS.index(match["weekday"].lower()) - said.weekday() + 7 * step) * DAY
    return Span(on, on)


def _day_of_month(match: re.Match[str], said: date) -> Span:
    month = months_from(said, {"last": -1, "this": 0, "next": 1}[match["which"].lower()])
    on = date(*month, int(match["day"]))
    return Span(on, on)


def _decade(match: re.Match[str], said: date) -> Span:
    first = int(match["year"] or 1900 + (int(match["short"]) if match["short"] else _DECADES[match["name"].lower()]))
    return Span(date(first, 1, 1), date(first + 9, 12, 31))


def _in_the_last(match: re.Match[str], said: date) -> Span:
    days = {"day": 1, "week": 7, "month": 30, "year": 365}[match["unit"].lower()]
    return Span(said - number(match["count"]) * days * DAY, said)


def _recently(match: re.Match[str], said: date) -> Span:
    return Span(said - 14 * DAY, said)


def _last_weekend(match: re.Match[str], said: date) -> Span:
    """Return the weekend that has begun or, from Monday to Friday, the last one."""
    return weekend(said - (said.weekday() - WEEKDAYS.index("saturday")) % 7 * DAY)


def _weekday(match: re.Match[str], said: date) -> Span:
    wanted = WEEKDAYS.index(match["weekday"].lower())
    which = (match["which"] or "").lower()
    ahead = (wanted - said.weekday()) % 7
    if which in {"next", "this", "coming", "upcoming"} or (not which and _to_come(_sentence(match))):
        on = said + (ahead or 7) * DAY
    else:  # "on Tuesday" looks back, as most memories do
        on = said - ((-ahead) % 7 or 7) * DAY
    return Span(on, on)


def _to_come(sentence: str) -> bool:
    """Whether the sentence speaks of what is still to come: "they'll come on Friday", but not "did they come"."""
    return bool(_AHEAD.search(sentence)) and not _BACK.search(sentence)


def _sentence(match: re.Match[str]) -> str:
    """Return the sentence that holds the match."""
    first = max(0, match.start() - AROUND)
    start = max(first, max(match.string.rfind(mark, first, match.start()) for mark in ".!?;") + 1)
    return re.split("[.!?;]", match.string[start : match.end() + AROUND], maxsplit=1)[0]


def _relative_unit(match: re.Match[str], said: date) -> Span:
    unit = match["unit"].lower()
    which = match["which"].lower()
    step = {"this": 0, "current": 0, "next": 1, "coming": 1, "upcoming": 1, "before last": -2, "after next": 2}.get(
        " ".join(which.split()), -1
    )
    monday = said - said.weekday() * DAY
    if unit == "week":
        return Span(monday + 7 * step * DAY, monday + (7 * step + 6) * DAY)
    if unit == "weekend":  # seen from a weekend, "last weekend" is the one before it
        return weekend(monday + (7 * step + 5) * DAY)
    if unit == "month":
        return whole_month(*months_from(said, step))
    if unit == "year":
        return Span(date(said.year + step, 1, 1), date(said.year + step, 12, 31))
    first = season(said.year, unit)
    if abs(step) == 2:
        before = first.last < said if step < 0 else first.first > said
        return season(said.year + step + (before if step < 0 else -before), unit)
    if step < 0 and first.last >= said:
        return season(said.year - 1, unit)
    if step > 0 and first.first <= said:
        return season(said.year + 1, unit)
    return first


def _season_alone(match: re.Match[str], said: date) -> Span:
    year = match["year"]
    span = season(int(year) if year else said.year, match["season"].lower())
    return Span(span.first, span.last, yearly=not year)


def _feast(match: re.Match[str], said: date) -> Span:
    month, day = FEASTS[match["feast"].lower().replace("’", "'")]
    year = match["year"]
    on = date(int(year) if year else said.year, month, day)
    if match["which"] and not year:
        step = -1 if match["which"].lower() in {"last", "past", "previous"} else 1
        on = on if (on - said).days * step > 0 else in_year(on, on.year + step)
    return Span(on, on, yearly=not (year or match["which"]))


# The phrases, the most specific first

_MONTH = r"(?P<month>jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?" \
         r"|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\.?"  # fmt: skip
_FULL_MONTH = rf"(?P<month>{'|'.join(MONTHS)})"
_YEAR = r"(?P<year>(?:19|20)\d\d)"
_COUNT = rf"(?P<count>{COUNTED})"
_UNIT = r"(?P<unit>day|week|fortnight|month|year|decade)s?"
_WEEKDAY = rf"(?P<weekday>{'|'.join(WEEKDAYS)})"
_DECADES = {"twenties": 20, "thirties": 30, "forties": 40, "fifties": 50, "sixties": 60, "seventies": 70,
            "eighties": 80,
            "nineties": 90}  # fmt: skip
_DAY = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?"
_NTH_DAY = rf"(?P<day>(?:(?:twenty|thirty)[ -])?(?:{'|'.join(NTH)}))"
_UNTIL = r" ?(?:-|–|to|and|until|through) ?(?:the )?(?P<last>\d{1,2})(?:st|nd|rd|th)?"
_PART = r"(?:the )?(?P<part>early|mid|late|(?:beginning|start|middle|end) of)(?: in)?(?: the)?[ -]"
_LAST = r"(?P<which>last|past|previous|this|current|next|coming|upcoming)"
_FEASTS = "|".join(sorted(FEASTS, key=len, reverse=True)).replace("'", "['’]")

_Meaning = Callable[[re.Match[str], date], Span | None]
_PHRASES: list[tuple[re.Pattern[str], _Meaning]] = [
    (re.compile(rf"\b{phrase}\b", re.IGNORECASE), meaning)
    for phrase, meaning in [
        (r"(?:19|20)\d\d-\d\d-\d\d", _iso),
        (rf"(?:the )?{_NTH_DAY} of {_MONTH}(?:,? {_YEAR})?", _day),
        (rf"{_FULL_MONTH}(?<!\bmay)(?<!\bmarch) (?:the )?{_NTH_DAY}(?:,? {_YEAR})?", _day),
        (rf"{_MONTH} {_DAY}{_UNTIL}(?:,? {_YEAR})?", _days),
        (rf"{_DAY}{_UNTIL}(?: of)? {_MONTH}(?:,? {_YEAR})?", _days),
        (rf"{_MONTH} {_DAY}(?:,? {_YEAR})?", _day),
        (rf"{_DAY}(?: of)? {_MONTH}(?:,? {_YEAR})?", _day),
        (rf"(?:the )?(?P<number>{'|'.join(ORDINALS)}) (?P<unit>week|weekend|{'|'.join(WEEKDAYS)}) (?:of|in) {_MONTH}"
         rf"(?:(?: of|,)? {_YEAR})?", _ordinal_in_month),
        (rf"{_PART}{_MONTH}(?:(?: of|,)? {_YEAR})?", _part),
        (rf"{_PART}(?P<month>(?!))?{_YEAR}", _part),
        (rf"(?P<season>(?!))?{_FULL_MONTH} (?:of )?(?P<which>last|this|next) year", _of_year),
        (rf"(?P<which>last|this|next) year(?: in)? (?P<season>(?!))?{_FULL_MONTH}", _of_year),
        (rf"(?P<season>{'|'.join(SEASONS)}) (?:of )?(?P<which>last|this|next) year", _of_year),
        (rf"{_MONTH}(?: of|,)? {_YEAR}", _month_of_year),
        (rf"(?:{_LAST} )?(?P<feast>{_FEASTS})(?: {_YEAR})?", _feast),
        (rf"(?P<season>{'|'.join(SEASONS)})(?: of)? {_YEAR}", _season_alone),
        (rf"{_COUNT} {_UNIT} from (?:now|today)", _ahead),
        (r"(?:the )?day before yesterday|(?:the )?day after tomorrow|yesterday|last night|today|tonight|tomorrow"
         r"|this (?:morning|afternoon|evening)", _relative_day),
        (rf"(?:(?P<years>{COUNTED}) years? and a half|half a year) ago", _half_years_ago),
        (rf"{_COUNT} {_UNIT} (?:ago|back)", _ago),
        (rf"{_COUNT} {_WEEKDAY}s ago", _weekdays_ago),
        (rf"(?:the )?{_WEEKDAY} before last", _weekdays_ago),
        (rf"(?:(?<!once )(?<!twice )(?<!times )in {_COUNT} {_UNIT})(?! of)", _ahead),
        (rf"{_WEEKDAY} (?:of )?(?P<which>last|this|next) week", _weekday_of_week),
        (r"(?:the )?(?P<day>\d{1,2})(?:st|nd|rd|th) of (?P<which>last|this|next) month", _day_of_month),
        (rf"(?:the )?(?P<unit>week|weekend|month|year|{'|'.join(SEASONS)}) (?P<which>before last|after next)",
         _relative_unit),
        (rf"the (?:(?P<year>(?:19|20)\d0)'?s|'?(?P<short>[2-9]0)'?s|(?P<name>{'|'.join(_DECADES)}))", _decade),
        (rf"(?:(?:in|over|for|during) )?(?:the|these) (?:last|past) {_COUNT} (?P<unit>day|week|month|year)s?",
         _in_the_last),
        (rf"{_LAST} (?P<unit>week|weekend|month|year|{'|'.join(SEASONS)})", _relative_unit),
        (r"(?:over|on|at|during) the weekend", _last_weekend),
        (r"recently|lately|the other (?:day|night|evening|week)", _recently),
        (rf"(?<!every )(?:{_LAST} |on )?(?P<weekday>{'|'.join(WEEKDAYS)})", _weekday),
        (rf"(?P<which>last|this|next|past|previous) {_FULL_MONTH}", _month_alone),
        (rf"(?<!\w )(?P<which>(?!))?{_FULL_MONTH}(?<!\bmay)(?<!\bmarch)", _month_alone),
        (rf"(?:in|on|of|during|since|by|until|early|late|mid|from|for|and|or|to|through)(?:-| )"
         rf"(?:(?P<which>last|this|next|past|previous) )?{_FULL_MONTH}", _month_alone),
        (rf"(?:in|during|over) (?:the )?(?P<season>{'|'.join(SEASONS)})(?P<year>(?!))?", _season_alone),
        (rf"(?:in|since|during|of|from|until|by|year) {_YEAR}", _year),
    ]
]  # fmt: skip
_BACK = re.compile(r"\b(?:did|was|were|had|ago)\b", re.IGNORECASE)
_AHEAD = re.compile(r"\b(?:will|shall|going to|gonna|must|have to|need to|come|comes|until|by)\b|'ll\b", re.IGNORECASE)
