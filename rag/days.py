"""Spans of days, and the calendar: months, seasons and feasts."""

from __future__ import annotations

from calendar import monthrange
from dataclasses import dataclass
from datetime import date, timedelta

DAY = timedelta(days=1)
MONTHS = "january february march april may june july august september october november december".split()
WEEKDAYS = "monday tuesday wednesday thursday friday saturday sunday".split()
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
            fixed.first <= there.last and there.first <= fixed.last
            for year in range(max(fixed.first.year - 1, 1), min(fixed.last.year + 1, 9999))
            for there in [moved(yearly, year)]
        )

    @property
    def days(self) -> int:
        return (self.last - self.first).days + 1


def away(said: date, count: int, unit: str) -> Span:
    """Return the span that many days, weeks, months or years from a day, only as precise as people mean it."""
    if unit == "day":
        return Span(said + count * DAY, said + count * DAY)
    if unit in {"week", "fortnight"}:
        middle = said + (14 if unit == "fortnight" else 7) * count * DAY
        return Span(middle - 3 * DAY, middle + 3 * DAY)
    if unit == "month":
        return whole_month(*months_from(said, count))
    year = said.year + (10 if unit == "decade" else 1) * count
    return Span(date(year, 1, 1), date(year, 12, 31))


def moved(span: Span, year: int) -> Span:
    """Return the same days of the year, starting in `year`."""
    last = in_year(span.last, year + span.last.year - span.first.year)
    return Span(in_year(span.first, year), last)


def in_year(day: date, year: int) -> date:
    return day.replace(year=year, day=min(day.day, monthrange(year, day.month)[1]))


def month_named(name: str) -> int:
    return next(number for number, month in enumerate(MONTHS, 1) if month.startswith(name.lower().rstrip(".")[:3]))


def weekend(saturday: date) -> Span:
    """Return the weekend around a Saturday; for most people it begins on Friday."""
    return Span(saturday - DAY, saturday + DAY)


def months_from(said: date, months: int) -> tuple[int, int]:
    index = said.year * 12 + said.month - 1 + months
    return index // 12, index % 12 + 1


def whole_month(year: int, month: int) -> Span:
    return Span(date(year, month, 1), date(year, month, monthrange(year, month)[1]))


def season(year: int, name: str) -> Span:
    first = SEASONS[name]
    return Span(date(year, first, 1), whole_month(*months_from(date(year, first, 1), 2)).last)
