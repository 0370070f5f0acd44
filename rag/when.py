"""What "last Tuesday" means: time expressions in English text as spans of days, relative to the day they were said."""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta

DAY = timedelta(days=1)
MONTHS = "january february march april may june july august september october november december".split()
WEEKDAYS = "monday tuesday wednesday thursday friday saturday sunday".split()
ONES = "one two three four five six seven eight nine".split()
TENS = {word: 10 * ten for ten, word in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split(), 2)}
NUMBERS = (
    {"a": 1, "an": 1, "couple of": 2, "a couple of": 2, "few": 3, "a few": 3, "several": 4}
    | TENS
    | {
        word: number
        for number, word in enumerate(
            [*ONES, *"ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen".split()], 1
        )
    }
)
SEASONS = {"spring": 3, "summer": 6, "autumn": 9, "fall": 9, "winter": 12}
"""The first month of each season in the northern hemisphere."""
FEASTS = {"christmas": (12, 25), "christmas eve": (12, 24), "new year's eve": (12, 31), "new year's day": (1, 1),
          "new year's": (1, 1), "halloween": (10, 31), "valentine's day": (2, 14), "valentine's": (2, 14),
          "independence day": (7, 4)}  # fmt: skip


@dataclass(frozen=True)
class Span:
    """The days from `first` to `last`, inclusive. `yearly`: no year was named, so any year may be meant."""

    first: date
    last: date
    yearly: bool = False

    def overlaps(self, other: Span) -> bool:
        if not (self.yearly or other.yearly):
            return self.first <= other.last and other.first <= self.last
        yearly, fixed = (self, other) if self.yearly else (other, self)
        return any(
            fixed.first <= last and first <= fixed.last
            for year in range(max(fixed.first.year - 1, 1), min(fixed.last.year + 1, 9999))
            for first, last in [_moved(yearly, year)]
        )

    @property
    def days(self) -> int:
        return (self.last - self.first).days + 1


@dataclass(frozen=True)
class Phrase:
    """A time expression's position in the text, and the days it means."""

    start: int
    end: int
    span: Span


def phrases(text: str, said: date) -> list[Phrase]:
    """Return every time that `text`, said on the day `said`, names, in the order of the text.

    Phrases are matched longest first: "May 5th, 2023" is one day, not a month, a day and a year. Expressions that name
    no calendar days ("soon", "once upon a time") are left out.
    """
    found: list[Phrase] = []
    for pattern, meaning in _PHRASES:
        for match in pattern.finditer(text):
            if any(phrase.start < match.end() and match.start() < phrase.end for phrase in found):
                continue
            try:
                span = meaning(match, said)
            except (ValueError, OverflowError):  # the 31st of February; ten thousand years ago
                continue
            if span is not None:
                found.append(Phrase(match.start(), match.end(), span))
    return [_extended(phrase, text, said) for phrase in sorted(found, key=lambda phrase: phrase.start)]


# The meaning of each phrase


def _day(match: re.Match[str], said: date) -> Span:
    month, day, year = _month(match["month"]), int(match["day"]), match["year"]
    on = date(int(year) if year else said.year, month, day)
    return Span(on, on, yearly=not year)


def _iso(match: re.Match[str], said: date) -> Span:
    on = date.fromisoformat(match[0])
    return Span(on, on)


def _month_of_year(match: re.Match[str], said: date) -> Span:
    return _whole_month(int(match["year"]), _month(match["month"]))


def _month_alone(match: re.Match[str], said: date) -> Span:
    month = _month(match["month"])
    if match["which"] and match["which"].lower() != "this":
        step = -1 if match["which"].lower() in {"last", "past", "previous"} else 1
        year = said.year + (step if (month - said.month) * step <= 0 else 0)
        return _whole_month(year, month)
    span = _whole_month(said.year, month)
    return Span(span.first, span.last, yearly=True)


def _year(match: re.Match[str], said: date) -> Span:
    year = int(match["year"])
    return Span(date(year, 1, 1), date(year, 12, 31))


def _relative_day(match: re.Match[str], said: date) -> Span:
    phrase = " ".join(match[0].lower().split())
    shift = {"yesterday": -1, "last night": -1, "the day before yesterday": -2, "day before yesterday": -2,
             "tomorrow": 1, "the day after tomorrow": 2, "day after tomorrow": 2}.get(phrase, 0)  # fmt: skip
    return Span(said + shift * DAY, said + shift * DAY)


def _ago(match: re.Match[str], said: date) -> Span:
    return _away(said, -_number(match["count"]), match["unit"].lower())


def _ahead(match: re.Match[str], said: date) -> Span:
    return _away(said, _number(match["count"]), match["unit"].lower())


def _half_years_ago(match: re.Match[str], said: date) -> Span:
    years = _number(match["years"]) if match["years"] else 0
    return _whole_month(*_months_from(said, -12 * years - 6))


def _weekdays_ago(match: re.Match[str], said: date) -> Span:
    """Read "two Fridays ago" and "the Friday before last"."""
    back = (said.weekday() - WEEKDAYS.index(match["weekday"].lower())) % 7 or 7
    count = _number(match["count"]) if "count" in match.groupdict() else 2
    on = said - (back + 7 * (count - 1)) * DAY
    return Span(on, on)


def _weekday_of_week(match: re.Match[str], said: date) -> Span:
    step = {"last": -1, "this": 0, "next": 1}[match["which"].lower()]
    on = said + (WEEKDAYS.index(match["weekday"].lower()) - said.weekday() + 7 * step) * DAY
    return Span(on, on)


def _day_of_month(match: re.Match[str], said: date) -> Span:
    month = _months_from(said, {"last": -1, "this": 0, "next": 1}[match["which"].lower()])
    on = date(*month, int(match["day"]))
    return Span(on, on)


def _decade(match: re.Match[str], said: date) -> Span:
    first = int(match["year"] or 1900 + (int(match["short"]) if match["short"] else _DECADES[match["name"].lower()]))
    return Span(date(first, 1, 1), date(first + 9, 12, 31))


def _in_the_last(match: re.Match[str], said: date) -> Span:
    days = {"day": 1, "week": 7, "month": 30, "year": 365}[match["unit"].lower()]
    return Span(said - _number(match["count"]) * days * DAY, said)


def _recently(match: re.Match[str], said: date) -> Span:
    return Span(said - 14 * DAY, said)


def _weekday(match: re.Match[str], said: date) -> Span:
    wanted = WEEKDAYS.index(match["weekday"].lower())
    which = (match["which"] or "").lower()
    ahead = (wanted - said.weekday()) % 7
    if which in {"next", "this", "coming", "upcoming"}:
        on = said + (ahead or 7) * DAY
    else:  # "on Tuesday" looks back, as most memories do
        on = said - ((-ahead) % 7 or 7) * DAY
    return Span(on, on)


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
        saturday = monday + (7 * step + 5) * DAY
        return Span(saturday - DAY, saturday + DAY)
    if unit == "month":
        return _whole_month(*_months_from(said, step))
    if unit == "year":
        return Span(date(said.year + step, 1, 1), date(said.year + step, 12, 31))
    first = _season(said.year, unit)
    if abs(step) == 2:
        before = first.last < said if step < 0 else first.first > said
        return _season(said.year + step + (before if step < 0 else -before), unit)
    if step < 0 and first.last >= said:
        return _season(said.year - 1, unit)
    if step > 0 and first.first <= said:
        return _season(said.year + 1, unit)
    return first


def _season_alone(match: re.Match[str], said: date) -> Span:
    year = match["year"]
    span = _season(int(year) if year else said.year, match["season"].lower())
    return Span(span.first, span.last, yearly=not year)


def _feast(match: re.Match[str], said: date) -> Span:
    month, day = FEASTS[match["feast"].lower().replace("’", "'")]
    year = match["year"]
    on = date(int(year) if year else said.year, month, day)
    return Span(on, on, yearly=not year)


# Words before a phrase that move it


def _extended(phrase: Phrase, text: str, said: date) -> Phrase:
    """Apply the words before a phrase: "the day after Christmas", "two weeks before May 5th", "since Christmas"."""
    if shift := _SHIFT.search(text, 0, phrase.start):
        side = 1 if shift["side"].lower() == "after" else -1
        near = phrase.span.last if side > 0 else phrase.span.first
        if shift["unit"].lower() == "week" and not shift["count"]:  # "the week after" it
            first, last = sorted((near + side * DAY, near + 7 * side * DAY))
        else:
            weeks = shift["unit"].lower() == "week"
            on = near + side * (_number(shift["count"]) if shift["count"] else 1) * (7 if weeks else 1) * DAY
            first, last = (on - 3 * DAY, on + 3 * DAY) if weeks else (on, on)
        return Phrase(shift.start(), phrase.end, Span(first, last, phrase.span.yearly))
    since = _SINCE.search(text, 0, phrase.end if text[phrase.start :].lower().startswith("since") else phrase.start)
    if since or text[phrase.start : phrase.start + 6].lower() == "since ":
        first = phrase.span.first
        if phrase.span.yearly and first > said:
            first = _in_year(first, said.year - 1)
        if first <= said:
            return Phrase(since.start() if since else phrase.start, phrase.end, Span(first, said))
    return phrase


# The calendar


def _away(said: date, count: int, unit: str) -> Span:
    """Return the span that many days, weeks, months or years from a day, only as precise as people mean it."""
    if unit == "day":
        return Span(said + count * DAY, said + count * DAY)
    if unit in {"week", "fortnight"}:
        middle = said + (14 if unit == "fortnight" else 7) * count * DAY
        return Span(middle - 3 * DAY, middle + 3 * DAY)
    if unit == "month":
        return _whole_month(*_months_from(said, count))
    year = said.year + (10 if unit == "decade" else 1) * count
    return Span(date(year, 1, 1), date(year, 12, 31))


def _moved(span: Span, year: int) -> tuple[date, date]:
    """Return the same days of the year, starting in `year`."""
    return _in_year(span.first, year), _in_year(span.last, year + span.last.year - span.first.year)


def _in_year(day: date, year: int) -> date:
    return day.replace(year=year, day=min(day.day, monthrange(year, day.month)[1]))


def _month(name: str) -> int:
    return next(number for number, month in enumerate(MONTHS, 1) if month.startswith(name.lower().rstrip(".")[:3]))


def _number(words: str) -> int:
    words = " ".join(words.lower().split())
    if words.isdigit():
        return int(words)
    return NUMBERS[words] if words in NUMBERS else sum(NUMBERS[word] for word in re.split("[ -]", words))


def _months_from(said: date, months: int) -> tuple[int, int]:
    index = said.year * 12 + said.month - 1 + months
    return index // 12, index % 12 + 1


def _whole_month(year: int, month: int) -> Span:
    return Span(date(year, month, 1), date(year, month, monthrange(year, month)[1]))


def _season(year: int, name: str) -> Span:
    first = SEASONS[name]
    return Span(date(year, first, 1), _whole_month(*_months_from(date(year, first, 1), 2)).last)


# The phrases, the most specific first

_MONTH = r"(?P<month>jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?" \
         r"|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\.?"  # fmt: skip
_FULL_MONTH = rf"(?P<month>{'|'.join(MONTHS)})"
_YEAR = r"(?P<year>(?:19|20)\d\d)"
_COUNTED = rf"\d{{1,4}}|(?:{'|'.join(TENS)})[ -](?:{'|'.join(ONES)})|{'|'.join(sorted(NUMBERS, key=len, reverse=True))}"
_COUNT = rf"(?P<count>{_COUNTED})"
_UNIT = r"(?P<unit>day|week|fortnight|month|year|decade)s?"
_WEEKDAY = rf"(?P<weekday>{'|'.join(WEEKDAYS)})"
_DECADES = {"twenties": 20, "thirties": 30, "forties": 40, "fifties": 50, "sixties": 60, "seventies": 70,
            "eighties": 80,
            "nineties": 90}  # fmt: skip
_LAST = r"(?P<which>last|past|previous|this|current|next|coming|upcoming)"
_FEASTS = "|".join(sorted(FEASTS, key=len, reverse=True)).replace("'", "['’]")

_Meaning = Callable[[re.Match[str], date], Span | None]
_PHRASES: list[tuple[re.Pattern[str], _Meaning]] = [
    (re.compile(rf"\b{phrase}\b", re.IGNORECASE), meaning)
    for phrase, meaning in [
        (r"(?:19|20)\d\d-\d\d-\d\d", _iso),
        (rf"{_MONTH} (?P<day>\d{{1,2}})(?:st|nd|rd|th)?(?:,? {_YEAR})?", _day),
        (rf"(?P<day>\d{{1,2}})(?:st|nd|rd|th)?(?: of)? {_MONTH}(?:,? {_YEAR})?", _day),
        (rf"{_MONTH}(?: of|,)? {_YEAR}", _month_of_year),
        (rf"(?P<feast>{_FEASTS})(?: {_YEAR})?", _feast),
        (rf"(?P<season>{'|'.join(SEASONS)})(?: of)? {_YEAR}", _season_alone),
        (rf"{_COUNT} {_UNIT} from (?:now|today)", _ahead),
        (r"(?:the )?day before yesterday|(?:the )?day after tomorrow|yesterday|last night|today|tonight|tomorrow"
         r"|this (?:morning|afternoon|evening)", _relative_day),
        (rf"(?:(?P<years>{_COUNTED}) years? and a half|half a year) ago", _half_years_ago),
        (rf"{_COUNT} {_UNIT} ago", _ago),
        (rf"{_COUNT} {_WEEKDAY}s ago", _weekdays_ago),
        (rf"(?:the )?{_WEEKDAY} before last", _weekdays_ago),
        (rf"(?:(?<!once )(?<!twice )(?<!times )in {_COUNT} {_UNIT})(?! of)", _ahead),
        (rf"{_WEEKDAY} (?:of )?(?P<which>last|this|next) week", _weekday_of_week),
        (r"(?:the )?(?P<day>\d{1,2})(?:st|nd|rd|th) of (?P<which>last|this|next) month", _day_of_month),
        (rf"(?:the )?(?P<unit>week|weekend|month|year|{'|'.join(SEASONS)}) (?P<which>before last|after next)",
         _relative_unit),
        (rf"the (?:(?P<year>(?:19|20)\d0)'?s|'?(?P<short>[2-9]0)'?s|(?P<name>{'|'.join(_DECADES)}))", _decade),
        (rf"(?:in|over|for|during) the (?:last|past) {_COUNT} (?P<unit>day|week|month|year)s?", _in_the_last),
        (rf"{_LAST} (?P<unit>week|weekend|month|year|{'|'.join(SEASONS)})", _relative_unit),
        (r"recently|lately|the other day", _recently),
        (rf"(?:{_LAST} |on )?(?P<weekday>{'|'.join(WEEKDAYS)})", _weekday),
        (rf"(?P<which>last|this|next|past|previous) {_FULL_MONTH}", _month_alone),
        (rf"(?<!\w )(?P<which>(?!))?{_FULL_MONTH}(?<!\bmay)(?<!\bmarch)", _month_alone),
        (rf"(?:in|on|of|during|since|by|until|early|late|mid|from|for|and|or|to|through)(?:-| )"
         rf"(?:(?P<which>last|this|next|past|previous) )?{_FULL_MONTH}", _month_alone),
        (rf"(?:in|during|over) (?:the )?(?P<season>{'|'.join(SEASONS)})(?P<year>(?!))?", _season_alone),
        (rf"(?:in|since|during|of|from|until|by|year) {_YEAR}", _year),
    ]
]  # fmt: skip
_SHIFT = re.compile(rf"(?:the|\b{_COUNT}) (?P<unit>day|week)s? (?P<side>before|after) (?:the )?$", re.IGNORECASE)
_SINCE = re.compile(r"\bsince (?:the )?$", re.IGNORECASE)
