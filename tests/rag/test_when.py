from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.days import Span
from rag.when import phrases

THURSDAY = date(2023, 5, 25)


def spans(text: str, said: date) -> list[Span]:
    return [phrase.span for phrase in phrases(text, said)]


def day(month: int, number: int, year: int = 2023, *, yearly: bool = False) -> Span:
    return Span(date(year, month, number), date(year, month, number), yearly)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("What did I do yesterday?", day(5, 24)),
        ("the day before yesterday", day(5, 23)),
        ("last Tuesday", day(5, 23)),
        ("on Thursday", day(5, 18)),
        ("next Friday", day(5, 26)),
        ("May 5th, 2023", day(5, 5)),
        ("the 5th of May", day(5, 5, yearly=True)),
        ("2022-12-31", day(12, 31, 2022)),
        ("last week", Span(date(2023, 5, 15), date(2023, 5, 21))),
        ("last weekend", Span(date(2023, 5, 19), date(2023, 5, 21))),
        ("two weeks ago", Span(date(2023, 5, 8), date(2023, 5, 14))),
        ("a couple of months ago", Span(date(2023, 3, 1), date(2023, 3, 31))),
        ("in the last three days", Span(date(2023, 5, 22), THURSDAY)),
        ("in March 2022", Span(date(2022, 3, 1), date(2022, 3, 31))),
        ("in May", Span(date(2023, 5, 1), date(2023, 5, 31), yearly=True)),
        ("last March", Span(date(2023, 3, 1), date(2023, 3, 31))),
        ("last December", Span(date(2022, 12, 1), date(2022, 12, 31))),
        ("last summer", Span(date(2022, 6, 1), date(2022, 8, 31))),
        ("last year", Span(date(2022, 1, 1), date(2022, 12, 31))),
        ("since 2019", Span(date(2019, 1, 1), THURSDAY)),
        ("Christmas 2022", day(12, 25, 2022)),
        ("twelve days ago", day(5, 13)),
        ("twenty-one days ago", day(5, 4)),
        ("a fortnight ago", Span(date(2023, 5, 8), date(2023, 5, 14))),
        ("half a year ago", Span(date(2022, 11, 1), date(2022, 11, 30))),
        ("a year and a half ago", Span(date(2021, 11, 1), date(2021, 11, 30))),
        ("a decade ago", Span(date(2013, 1, 1), date(2013, 12, 31))),
        ("two Fridays ago", day(5, 12)),
        ("the Friday before last", day(5, 12)),
        ("Monday last week", day(5, 15)),
        ("the 3rd of last month", day(4, 3)),
        ("in three days", day(5, 28)),
        ("in two weeks", Span(date(2023, 6, 5), date(2023, 6, 11))),
        ("a week from today", Span(date(2023, 5, 29), date(2023, 6, 4))),
        ("the week before last", Span(date(2023, 5, 8), date(2023, 5, 14))),
        ("the week after next", Span(date(2023, 6, 5), date(2023, 6, 11))),
        ("the month before last", Span(date(2023, 3, 1), date(2023, 3, 31))),
        ("the summer before last", Span(date(2021, 6, 1), date(2021, 8, 31))),
        ("the day after Christmas", day(12, 26, yearly=True)),
        ("two days before Christmas 2022", day(12, 23, 2022)),
        ("the week after May 5th, 2023", Span(date(2023, 5, 6), date(2023, 5, 12))),
        ("since Christmas", Span(date(2022, 12, 25), THURSDAY)),
        ("since last Monday", Span(date(2023, 5, 22), THURSDAY)),
        ("in the nineties", Span(date(1990, 1, 1), date(1999, 12, 31))),
        ("the ninth of May", day(5, 9, yearly=True)),
        ("June twenty-first, 2022", day(6, 21, 2022)),
        ("the Sunday before May 17, 2023", day(5, 14)),
        ("two Fridays after May 17, 2023", day(5, 26)),
        ("the weekend before 17 May 2023", Span(date(2023, 5, 12), date(2023, 5, 14))),
        ("two weekends before 17 May 2023", Span(date(2023, 5, 5), date(2023, 5, 7))),
        ("the weekend after 19 May 2023", Span(date(2023, 5, 19), date(2023, 5, 21))),
        ("the week of 17 May 2023", Span(date(2023, 5, 14), date(2023, 5, 20))),
        ("the month before March 2022", Span(date(2022, 1, 30), date(2022, 2, 28))),
        ("two months before 5 May 2022", Span(date(2022, 2, 24), date(2022, 3, 16))),
        ("the first weekend of April 2023", Span(date(2023, 3, 31), date(2023, 4, 2))),
        ("the second week of November", Span(date(2023, 11, 8), date(2023, 11, 14), yearly=True)),
        ("the last Friday in April 2023", day(4, 28)),
        ("early May 2022", Span(date(2022, 5, 1), date(2022, 5, 12))),
        ("the end of June", Span(date(2023, 6, 19), date(2023, 6, 30), yearly=True)),
        ("late 2022", Span(date(2022, 9, 1), date(2022, 12, 31))),
        ("the summer of last year", Span(date(2022, 6, 1), date(2022, 8, 31))),
        ("last year in March", Span(date(2022, 3, 1), date(2022, 3, 31))),
        ("last Christmas", day(12, 25, 2022)),
        ("between March 30 and April 2, 2023", Span(date(2023, 3, 30), date(2023, 4, 2))),
        ("from May 3 to 9", Span(date(2023, 5, 3), date(2023, 5, 9), yearly=True)),
        ("from December to January 2023", Span(date(2022, 12, 1), date(2023, 1, 31))),
        ("a few weeks back", Span(date(2023, 5, 1), date(2023, 5, 7))),
        ("over the weekend", Span(date(2023, 5, 19), date(2023, 5, 21))),
        ("these past three days", Span(date(2023, 5, 22), THURSDAY)),
        ("they will come on Saturday", day(5, 27)),
        ("Did they come on Saturday?", day(5, 20)),
    ],
)
def test_what_is_meant(text: str, meant: Span) -> None:
    assert spans(text, THURSDAY) == [meant]


@pytest.mark.parametrize(
    "text",
    [
        "it may rain",
        "march on",
        "31 February",
        "9999 years ago",
        "soon",
        "I second that",
        "I may second it",
        "every Sunday",
        "",
    ],
)
def test_what_names_no_day(text: str) -> None:
    assert spans(text, THURSDAY) == []


def test_more_than_one_time_in_the_order_of_the_text() -> None:
    assert spans("was it in June or last Tuesday?", THURSDAY) == [
        Span(date(2023, 6, 1), date(2023, 6, 30), yearly=True),
        day(5, 23),
    ]


def test_a_month_without_a_year_is_any_years() -> None:
    (may,) = spans("in May", THURSDAY)
    (winter,) = spans("in the winter", THURSDAY)
    assert may.overlaps(day(5, 31, 1999)) and not may.overlaps(day(6, 1, 1999))
    assert (
        winter.overlaps(day(1, 15, 2001)) and winter.overlaps(day(12, 1, 2001)) and not winter.overlaps(day(3, 1, 2001))
    )


@given(st.text(alphabet="last next MayJunday 0123456789,-/ago weekyear", max_size=60), st.dates())
def test_any_text_on_any_day(text: str, said: date) -> None:
    for span in spans(text, said):
        assert span.first <= span.last
        assert span.overlaps(span)
