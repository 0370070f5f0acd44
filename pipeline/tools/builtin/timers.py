"""Timers. When one ends, this is said aloud, in the conversation that set it or in any other."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pipeline.tools.builtin import Builtin, builtin
from pipeline.tools.toolbox import ToolFailed

MOST = 20
LONGEST_S = 24 * 3600.0
LONGEST = 100
"""Characters of a duration that are read."""

Say = Callable[[str], None]

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0}
_PART = re.compile(r"(?P<count>\d+(?:\.\d+)?)\s*(?P<unit>h|m|s)[a-z]*", re.IGNORECASE)


@dataclass(eq=False, slots=True)
class _Timer:
    number: int
    label: str
    ends: float
    """On the event loop's clock, in seconds."""
    conversation: str
    handle: asyncio.TimerHandle

    @property
    def name(self) -> str:
        return f"the timer for {self.label}" if self.label else f"timer {self.number}"


class Timers:
    """The timers of all conversations; they live as long as Parley runs."""

    def __init__(self) -> None:
        self._timers: list[_Timer] = []
        self._set = 0
        self._listening: dict[str, Say] = {}
        self._unsaid: list[str] = []
        """Messages of timers that ended while nobody listened."""

    @contextmanager
    def told(self, conversation: str, say: Say) -> Iterator[None]:
        """While the block runs, call `say` with the messages of timers that end."""
        self._listening[conversation] = say
        unsaid, self._unsaid = self._unsaid, []
        for text in unsaid:
            say(text)
        try:
            yield
        finally:
            if self._listening.get(conversation) is say:
                del self._listening[conversation]

    @property
    def running(self) -> bool:
        """Whether there is anything left to say: a timer is running, or one ended while nobody listened."""
        return bool(self._timers or self._unsaid)

    def stop(self) -> None:
        for timer in self._timers:
            timer.handle.cancel()
        self._timers.clear()

    @property
    def tools(self) -> Sequence[Builtin]:
        which = "Its number, or what it is for."
        return (
            builtin(
                "set_timer",
                "Set a timer. When it ends, the user is told aloud.",
                "Starts a timer. Parley tells you when it ends.",
                self._begin,
                duration="How long, such as “10 minutes” or “1 hour 30 minutes”.",
                label="Optional. What it is for, in a word or two.",
            ),
            builtin(
                "list_timers",
                "The timers that are running, and how long each has left.",
                "Tells which timers are running, and how long each has left.",
                self._list,
            ),
            builtin(
                "cancel_timer",
                "Stop a timer before it ends.",
                "Stops a timer before it ends.",
                self._cancel,
                timer=which,
            ),
        )

    async def _begin(self, given: Mapping[str, Any], conversation: str) -> str:
        seconds = _seconds(str(given["duration"]))
        if len(self._timers) >= MOST:
            raise ToolFailed(f"{MOST} timers are already running: cancel one first.")
        self._set += 1
        loop = asyncio.get_running_loop()
        label = " ".join(str(given.get("label") or "").split())[:40]
        number = self._set
        handle = loop.call_later(seconds, lambda: self._ended(number))
        timer = _Timer(number, label, loop.time() + seconds, conversation, handle)
        self._timers.append(timer)
        return f"Set: {timer.name}, number {number}, ends in {_said(seconds)}."

    async def _list(self, given: Mapping[str, Any], conversation: str) -> str:
        if not self._timers:
            return "No timer runs."
        now = asyncio.get_running_loop().time()
        return "\n".join(f"Number {each.number}, {each.name}: {_said(each.ends - now)} left." for each in self._timers)

    async def _cancel(self, given: Mapping[str, Any], conversation: str) -> str:
        wanted = str(given["timer"]).strip().lower()
        named = [each for each in self._timers if wanted in (str(each.number), each.label.lower())]
        named = named or [each for each in self._timers if each.label and each.label.lower() in wanted]
        if not named and len(self._timers) == 1 and wanted in ("", "the timer", "timer", "it", "all"):
            named = self._timers
        if not named:
            raise ToolFailed(f"There is no such timer. {await self._list(given, conversation)}")
        timer = named[0]
        timer.handle.cancel()
        self._timers.remove(timer)
        return f"Cancelled: {timer.name}."

    def _ended(self, number: int) -> None:
        timer = next(each for each in self._timers if each.number == number)
        self._timers.remove(timer)
        what = f"Your timer for {timer.label} has ended." if timer.label else "Your timer has ended."
        say = self._listening.get(timer.conversation) or next(reversed(self._listening.values()), None)
        if say is None:
            self._unsaid.append(what)
        else:
            say(what)


def _seconds(duration: str) -> float:
    """Parse a duration. Raises ToolFailed."""
    if re.fullmatch(r"\s*\d+(?:\.\d+)?\s*", duration):
        raise ToolFailed("Say whether that is seconds, minutes or hours.")
    total = sum(float(part["count"]) * _UNITS[part["unit"].lower()] for part in _PART.finditer(duration[:LONGEST]))
    if not 0 < total <= LONGEST_S:
        raise ToolFailed("Give a duration between 1 second and 24 hours, such as “10 minutes”.")
    return total


def _said(seconds: float) -> str:
    whole = max(0, round(seconds))
    parts = [(whole // 3600, "hour"), (whole % 3600 // 60, "minute"), (whole % 60, "second")]
    return " ".join(f"{count} {unit}{'' if count == 1 else 's'}" for count, unit in parts if count) or "0 seconds"
