"""Tools that come with Parley, and the yes or no before others."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Any

import pytest

from pipeline.tools.builtin import Builtin
from pipeline.tools.builtin.clock import clock_tools
from pipeline.tools.builtin.timers import Timers
from pipeline.tools.calls import ToolCall
from pipeline.tools.consent import consent
from pipeline.tools.toolbox import ToolFailed
from pipeline.tools.wording import arguments, question
from tests.support import virtual_time

NOW = datetime(2026, 11, 30, 14, 5, tzinfo=UTC)
CLOCK = {each.tool.name: each for each in clock_tools(lambda: NOW)}


def ran(tools: dict[str, Builtin], name: str, **given: str) -> str:
    return asyncio.run(_run(tools, name, **given))


def _run(tools: dict[str, Builtin], name: str, **given: str) -> Coroutine[Any, Any, str]:
    return tools[name].run(given, "talk")  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("name", "given", "says"),
    [
        ("get_time", {}, "It is 14:05 on Monday, 30 November 2026."),
        ("get_time", {"place": "Tokyo"}, "In Tokyo it is 23:05 on Monday, 30 November 2026."),
        ("get_weekday", {"date": "2027-03-03"}, "2027-03-03 is Wednesday, 3 March 2027."),
        (
            "days_between",
            {"end": "2026-12-24"},
            "From Monday, 30 November 2026 to Thursday, 24 December 2026 it is 24 days",
        ),
        ("days_between", {"start": "2026-12-01", "end": "2026-11-30"}, "it is 1 day back."),
    ],
)
def test_the_clock(name: str, given: dict[str, str], says: str) -> None:
    assert says in ran(CLOCK, name, **given)


@pytest.mark.parametrize(
    ("name", "given"),
    [("get_time", {"place": "Nowhere"}), ("get_weekday", {"date": "3 March"}), ("days_between", {"end": "2026-02-30"})],
)
def test_the_clock_says_what_it_does_not_know(name: str, given: dict[str, str]) -> None:
    with pytest.raises(ToolFailed):
        ran(CLOCK, name, **given)


def test_timers_are_set_listed_cancelled_and_told_of_aloud() -> None:
    async def scene() -> list[str]:
        timers, heard = Timers(), list[str]()
        tools = {each.tool.name: each for each in timers.tools}
        assert await _run(tools, "list_timers") == "No timer runs."
        with timers.told("talk", heard.append):
            said = await _run(tools, "set_timer", duration="10 minutes", label="the eggs")
            assert said == "Set: the timer for the eggs, number 1, ends in 10 minutes."
            await _run(tools, "set_timer", duration="1h 30m")
            await asyncio.sleep(60)
            assert "the timer for the eggs: 9 minutes left" in await _run(tools, "list_timers")
            assert await _run(tools, "cancel_timer", timer="2") == "Cancelled: timer 2."
            await asyncio.sleep(600)
            assert heard == ["Your timer for the eggs has ended."]
            await _run(tools, "set_timer", duration="5 seconds")
        await asyncio.sleep(10)  # nobody is there
        with timers.told("another talk", heard.append):
            pass
        for bad in ("5", "0 seconds", "a while", "100 hours"):
            with pytest.raises(ToolFailed):
                await _run(tools, "set_timer", duration=bad)
        with pytest.raises(ToolFailed):
            await _run(tools, "cancel_timer", timer="7")
        timers.stop()
        return heard

    assert virtual_time.run(scene()) == ["Your timer for the eggs has ended.", "Your timer has ended."]


@pytest.mark.parametrize(
    ("said", "means"),
    [
        ("Yes.", True), ("Yes, please!", True), ("okay, go ahead", True), ("Sure thing", None), ("No.", False),
        ("no, don’t do that", False), ("please don't", False), ("yes but to Anna", None), ("yes no", None), ("", None),
        ("Please.", None), ("I know", None), ("nothing", None), ("never mind", False), ("not now, thanks", False),
    ],
)  # fmt: skip
def test_yes_and_no(said: str, means: bool | None) -> None:
    assert consent(said) is means


def test_a_question_is_short_whatever_the_call_holds() -> None:
    call = ToolCall("1", "sendMail", '{"to": "Anna", "text": "%s", "n": 3, "more": []}' % ("word " * 1000))
    asked = question(call)
    assert asked.startswith("May I use the tool “send mail”, with to “Anna”, text “word word")
    assert asked.endswith("and 1 more?")
    assert len(asked) < 220
    assert len(arguments(call)) <= 200
    assert question(ToolCall("1", "x", "no JSON")) == "May I use the tool “x”?"
