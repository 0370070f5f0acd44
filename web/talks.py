"""The conversations that a page can return to: open ones, recently ended ones, and those in the memory."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from pipeline.conversation.history import Entry, Past
from pipeline.engine import EngineError
from pipeline.engines.running import Engines
from web.turn_log import TurnLog

KEPT = 50
"""Ended conversations whose history is kept, even if nothing is remembered."""
LATEST = 400
"""Turns of a remembered conversation with which it continues; a prompt holds fewer."""
NAME = re.compile(r"[A-Za-z0-9_-]{1,100}")


@dataclass(eq=False, slots=True)
class _Running:
    give_up: Callable[[], None]
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class Talks:
    def __init__(self, engines: Engines, records: TurnLog) -> None:
        self._engines = engines
        self._records = records
        self._running: dict[str, _Running] = {}
        self._ended: dict[str, Past] = {}

    async def knows(self, name: str) -> bool:
        return name in self._running or await self.past(name) is not None

    async def past(self, name: str) -> Past | None:
        """Return the history with which a conversation that is not running continues; None if it is unknown."""
        if name in self._ended or not NAME.fullmatch(name):
            return self._ended.get(name)
        try:
            turns = await self._engines.memory().turns(conversation=name, limit=LATEST)
        except EngineError:
            return None
        entries = tuple(
            Entry("", "assistant", turn.text, number)
            if turn.speaker == "assistant"
            else Entry("", "user", turn.text, number, speaker=turn.speaker)
            for number, turn in enumerate(turns, 1)
        )
        if not entries:
            return None
        numbers = [record["turn"] for record in await asyncio.to_thread(self._records.of, name)]
        return Past(entries, max([len(entries), *numbers]))

    @asynccontextmanager
    async def held(self, name: str, give_up: Callable[[], None]) -> AsyncIterator[None]:
        """Run a conversation. If it already runs elsewhere, that side's `give_up` is called, and its end awaited."""
        while (other := self._running.get(name)) is not None:
            other.give_up()
            await other.ended.wait()
        mine = self._running[name] = _Running(give_up)
        try:
            yield
        finally:
            del self._running[name]
            mine.ended.set()

    def keep(self, name: str, past: Past) -> None:
        """Keep the history of an ended conversation, so that it can continue."""
        if not past.entries:
            return
        self._ended.pop(name, None)  # re-inserted as the newest
        self._ended[name] = past
        while len(self._ended) > KEPT:
            del self._ended[next(iter(self._ended))]

    def forget(self, conversation: str | None = None) -> None:
        """Forget the history kept of one conversation, or of all if none is named."""
        if conversation is None:
            self._ended.clear()
        else:
            self._ended.pop(conversation, None)
