"""Times of day, durations, dates and years in words: a table of steps for pipeline/tts/speakable.py."""

from __future__ import annotations

import re

from num2words import num2words

from pipeline.tts.numbers import COUNTED_THINGS, DASH, YEAR, Step, counted, number_words, ordinal, steps, year_words

_MONTHS = "January February March April May June July August September October November December".split()
MONTH = "|".join(f"{month}|{month[:3]}\\b\\.?" for month in _MONTHS)
_BEFORE_A_YEAR = "in|since|after|before|under|year|from|until|till|by|circa|during|of"


def _clock(match: re.Match[str]) -> str:
    hour, minute = int(match["hour"]), int(match["minute"])
    half = match["half"]
    part = f" {half[0].lower()}.m." if half else " p.m." if hour > 12 else " a.m." if hour == 0 else ""
    minutes = "" if minute == 0 else f" oh {num2words(minute)}" if minute < 10 else f" {num2words(minute)}"
    words = str(num2words((hour - 1) % 12 + 1)) + (minutes or ("" if part else " o'clock")) + part
    return words + ("." if part and match["stop"] and not match["half"] else "")


def _half_of_day(match: re.Match[str]) -> str:
    return f"{number_words(match[1])} {match[2].lower()}.m."


def _duration(match: re.Match[str]) -> str:
    parts = zip(match.groups(), ("hour", "minute", "second"), strict=True)
    return " ".join(counted(str(int(number)), unit) for number, unit in parts if number)


def _minutes(match: re.Match[str]) -> str:
    return f"{counted(str(int(match[1])), 'minute')} {counted(str(int(match[2])), 'second')}"


def _iso_date(match: re.Match[str]) -> str:
    year, month, day = match.groups()
    if not 1 <= int(month) <= 12 or not 1 <= int(day) <= 31:
        return match[0]
    return _american(int(month), day, year)


def _slashed(match: re.Match[str]) -> str:
    """Read 3/25/2026 as a date if a day above 12 shows the order; otherwise say only the numbers: both are usual."""
    first, second, year = match.groups()
    if int(first) <= 12 < int(second) <= 31:
        return _american(int(first), second, year)
    if int(second) <= 12 < int(first) <= 31:
        return _british(first, int(second), year)
    return f"{number_words(first)}, {number_words(second)}, {_year(year)}"


def _dotted(match: re.Match[str]) -> str:
    day, month, year = match.groups()
    if not 1 <= int(month) <= 12 or not 1 <= int(day) <= 31:
        return match[0]
    return _british(day, int(month), year)


def _american(month: int, day: str, year: str) -> str:
    return f"{_MONTHS[month - 1]} {ordinal(day)}, {_year(year)}"


def _british(day: str, month: int, year: str) -> str:
    return f"the {ordinal(day)} of {_MONTHS[month - 1]}, {_year(year)}"


def _year(year: str) -> str:
    return year_words(year) if len(year) == 4 else number_words(year)


def _month_name(short: str) -> str:
    return next(month for month in _MONTHS if month[:3] == short[:3])


def _month_day(match: re.Match[str]) -> str:
    if not 1 <= int(match[2]) <= 31:
        return match[0]
    year = f", {year_words(match[3])}" if match[3] else ""
    return f"{_month_name(match[1])} {ordinal(match[2])}{year}"


def _month_days(match: re.Match[str]) -> str:
    if not (1 <= int(match[2]) <= 31 and 1 <= int(match[3]) <= 31):
        return match[0]
    year = f", {year_words(match[4])}" if match[4] else ""
    return f"{_month_name(match[1])} {ordinal(match[2])} to {ordinal(match[3])}{year}"


def _day_month(match: re.Match[str]) -> str:
    if not 1 <= int(match[1]) <= 31:
        return match[0]
    year = f", {year_words(match[3])}" if match[3] else ""
    return f"the {ordinal(match[1])} of {_month_name(match[2])}{year}"


def _decade(match: re.Match[str]) -> str:
    words = year_words(match[1]) if len(match[1]) == 4 else str(num2words(int(match[1])))
    return words[:-1] + "ies" if words.endswith("y") else words + "s"


DATES: tuple[Step, ...] = steps(
    (r"(?<=\d{4}-\d\d-\d\d)T(?=\d\d:\d\d)", " at "),
    (rf"(?<=\d:\d\d) ?{DASH} ?(?=\d{{1,2}}(?::\d\d| ?[AaPp]\.?[Mm]\b))", " to "),
    (rf"(?i)(?<=\d[ap]m) ?{DASH} ?(?=\d)|(?<=\d [ap]m) ?{DASH} ?(?=\d)|(?<=[ap]\.m\.) ?{DASH} ?(?=\d)", " to "),
    (rf"\b(\d{{1,2}}) ?{DASH} ?(?=\d{{1,2}}(?::\d\d)? ?[AaPp]\.?[Mm]\b)", r"\1 to "),
    (r"\b(\d{1,2}):([0-5]\d):([0-5]\d)\b", _duration),
    (r"\b(\d{1,3}) ?(?:h|hrs?) ?([0-5]?\d) ?(?:m|mins?)\b(?: ?([0-5]?\d) ?(?:s|secs?)\b)?", _duration),
    (r"\b(\d{1,3}) ?(?:m|min) ?([0-5]?\d) ?(?:s|secs?)\b", _minutes),
    (r"\b(?P<hour>[01]?\d|2[0-3]):(?P<minute>[0-5]\d)(?!\d)(?: ?(?P<half>[AaPp])\.?[Mm]\b\.?)?(?P<stop>\.(?=\s*$))?",
     _clock),
    (r"\b(\d{1,2}) ?([AaPp])\.?[Mm]\b\.?", _half_of_day),
    (r"\b(\d{4})-(\d{2})-(\d{2})\b", _iso_date),
    (r"(?<![\w/])(\d{1,2})/(\d{1,2})/(\d{4}|\d\d)(?![\w/])", _slashed),
    (r"(?<![\w.])(\d{1,2})\.(\d{1,2})\.(\d{4})(?!\w|\.\d)", _dotted),
    (rf"\b({MONTH}) (\d{{1,2}})(?:st|nd|rd|th)? ?{DASH} ?(\d{{1,2}})(?:st|nd|rd|th)?\b(?!:|\.\d)(?:,? (\d{{4}})\b)?",
     _month_days),
    (rf"\b({MONTH}) (\d{{1,2}})(?:st|nd|rd|th)?\b(?!:|\.\d)(?:,? (\d{{4}})\b)?", _month_day),
    (rf"\b(?:the )?(\d{{1,2}})(?:st|nd|rd|th)?(?: of)? ({MONTH})\b(?:,? (\d{{4}})\b)?", _day_month),
    (rf"(\b(?:{MONTH}),? )({YEAR})\b(?![.,]?\d)", lambda m: m[1] + year_words(m[2])),
    (rf"\b({YEAR})( ?{DASH} ?| (?:to|and|or|until|through) )({YEAR})\b(?![.,]?\d)" + COUNTED_THINGS,
     lambda m: f"{year_words(m[1])} {m[2].strip() if m[2].strip().isalpha() else 'to'} {year_words(m[3])}"),
    (rf"(?<=\()({YEAR})(?=[),;])", lambda m: year_words(m[1])),
    (rf"(?i)(\b(?:{_BEFORE_A_YEAR}) )({YEAR})\b(?![.,]?\d)" + COUNTED_THINGS,
     lambda m: m[1] + year_words(m[2])),
    (r"\b((?:1[1-9]|20)\d0|[1-9]0)'?s\b", _decade),
)  # fmt: skip
