"""The time here and elsewhere, and the weekdays of dates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from typing import Any

from pipeline.tools.builtin import Builtin, builtin
from pipeline.tools.builtin.places import time_in
from pipeline.tools.toolbox import ToolFailed

_FORM = "A date as YYYY-MM-DD."


def clock_tools(now: Callable[[], datetime]) -> Sequence[Builtin]:
    """Return the tools. `now` is the wall clock, with its time zone."""

    async def get_time(given: Mapping[str, Any], conversation: str) -> str:
        here, place = now(), str(given.get("place") or "").strip()
        if not place:
            return f"It is {here:%H:%M} on {_said(here.date())}."
        there = time_in(place, here)
        if there is None:
            raise ToolFailed(f"No place {place[:60]!r} is known to have one time: name a large city.")
        return f"In {place[:60]} it is {there:%H:%M} on {_said(there.date())}."

    async def get_weekday(given: Mapping[str, Any], conversation: str) -> str:
        return f"{given['date']} is {_said(_date(given['date']))}."

    async def days_between(given: Mapping[str, Any], conversation: str) -> str:
        today = now().date()
        start, end = (_date(given[name]) if given.get(name) else today for name in ("start", "end"))
        days = (end - start).days
        counted = "1 day" if abs(days) == 1 else f"{abs(days):,} days"
        weeks = f" ({abs(days) // 7} weeks and {abs(days) % 7} days)" if abs(days) >= 14 else ""
        return f"From {_said(start)} to {_said(end)} it is {counted}{weeks}{' back' if days < 0 else ''}."

    return (
        builtin(
            "get_time",
            "The time and the date now, here or in another place.",
            "Tells the time and the date, here or in another city or country.",
            get_time,
            place="Optional. A city or country, for the time there.",
        ),
        builtin(
            "get_weekday",
            "The day of the week of a date.",
            "Tells which day of the week a date falls on.",
            get_weekday,
            date=_FORM,
        ),
        builtin(
            "days_between",
            "How many days lie between two dates.",
            "Counts the days between two dates, or until a date.",
            days_between,
            start=f"Optional, else today. {_FORM}",
            end=f"Optional, else today. {_FORM}",
        ),
    )


def _said(day: date) -> str:
    return f"{day:%A}, {day.day} {day:%B} {day.year}"


def _date(text: object) -> date:
    try:
        return date.fromisoformat(str(text).strip()[:10])
    except ValueError:
        raise ToolFailed(f"{str(text)[:40]!r} is not a date: write it as YYYY-MM-DD.") from None
