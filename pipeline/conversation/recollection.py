"""How a conversation uses the memory: it recalls ahead of time, and stores every turn in order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from config import Settings
from pipeline.conversation.stages import ConversationMemory
from pipeline.engine import EngineError
from rag import Recall

log = logging.getLogger(__name__)

RECALL_S = 2.0
"""How long a reply waits for the memory."""

CLOSING_S = 10.0
"""How long the end of a conversation waits for turns still being stored; those left are stored later, if possible."""


@dataclass(frozen=True, slots=True)
class _Look:
    query: str
    asker: str
    found: asyncio.Task[Recall]


class Recollection:
    def __init__(
        self,
        memory: ConversationMemory | None,
        settings: Settings,
        *,
        name: str,
        now: Callable[[], datetime],
        warn: Callable[[str], None],
    ) -> None:
        """`name` is the conversation; its own turns are not recalled in it. `warn` tells the user."""
        self._memory = memory
        self._settings = settings
        self._name = name
        self._now = now
        self._warn = warn
        self._ahead: _Look | None = None
        self._next = ""
        """The newest words that came in while that look was under way."""
        self._noticed = set[str]()
        self._kept: asyncio.Task[None] | None = None
        """The newest task of a chain, in which each waits for the one before it."""

    def configure(self, memory: ConversationMemory | None, settings: Settings) -> None:
        self._memory, self._settings = memory, settings

    def keep(self, whose: Callable[[], Coroutine[Any, Any, str | None]], text: str) -> None:
        """Remember a turn, after those before it, in the background.

        Args:
            whose: returns the name to store it under; None if it should not be stored.
        """
        if self._memory is not None and self._settings.memory.enabled and text:
            self._kept = asyncio.create_task(self._remember(self._memory, whose, text, self._now(), self._kept))
            self._kept.add_done_callback(self._tell_failure)

    def _tell_failure(self, kept: asyncio.Task[None]) -> None:
        """A fault that nobody foresaw costs one turn, and is told; the turns after it are remembered."""
        if not kept.cancelled() and (error := kept.exception()) is not None:
            log.error("a turn could not be remembered", exc_info=error)
            self._warn("This turn will not be remembered: something went wrong inside Parley; the log has the details.")

    async def _remember(
        self,
        memory: ConversationMemory,
        whose: Callable[[], Coroutine[Any, Any, str | None]],
        text: str,
        at: datetime,
        before: asyncio.Task[None] | None,
    ) -> None:
        if before is not None:
            await asyncio.wait([before])  # however it ended
        if (speaker := await whose()) is None:
            return
        try:
            await memory.remember(speaker, text, at=at, conversation=self._name)
        except EngineError as error:
            self._warn(f"This turn will not be remembered: {error}")
        with suppress(EngineError):  # if the memory can't be asked now, it is asked at the next turn
            await self._tell_notices(memory)

    async def _tell_notices(self, memory: ConversationMemory) -> None:
        """Tell the user the memory's own notices, once each."""
        for notice in await memory.notices():
            if notice not in self._noticed:
                self._noticed.add(notice)
                self._warn(notice)

    def look_ahead(self, words: str, asker: str) -> None:
        """Start to recall while somebody still speaks: one look at a time, the next with the newest words."""
        if self._ahead is not None and not self._ahead.found.done():
            self._next = words
            return
        if words and self._memory is not None and self._settings.memory.enabled:
            found = asyncio.create_task(self._look(self._memory, words, asker))
            self._ahead = _Look(words, asker, found)
            found.add_done_callback(partial(self._looked, asker))

    def _looked(self, asker: str, look: asyncio.Task[Recall]) -> None:
        """Start the next look, unless this one failed. It fails silently: the real recall will report the error."""
        newest, self._next = self._next, ""
        if not look.cancelled() and look.exception() is None and newest:
            self.look_ahead(newest, asker)

    async def recall(self, query: str, asker: str) -> Recall | None:
        """Return what fits the words, from the look ahead if it had the same words. None if there is no memory.

        Args:
            asker: who says "my", as the memory knows them.
        """
        if self._memory is None or not self._settings.memory.enabled or not query:
            return None
        try:
            async with asyncio.timeout(RECALL_S):
                if (ahead := self._ahead) is not None and _same(ahead.query, query) and ahead.asker == asker:
                    return await asyncio.shield(ahead.found)
                return await self._look(self._memory, query, asker)
        except TimeoutError:
            self._warn("The memory is taking too long, so this reply does without it.")
            return None
        except EngineError as error:
            self._warn(f"Nothing could be recalled for this turn: {error}")
            return None

    async def _look(self, memory: ConversationMemory, query: str, asker: str) -> Recall:
        if self._kept is not None:  # the turns that are finished must be in memory first
            await asyncio.wait([self._kept])
        return await memory.recall(
            query,
            budget_chars=self._settings.memory.budget_chars,
            now=self._now(),
            exclude_conversation=self._name,
            asker=asker,
        )

    async def close(self) -> None:
        """Wait until everything is stored, for at most CLOSING_S."""
        self._next = ""
        if self._ahead is not None:
            self._ahead.found.cancel()
            await asyncio.wait([self._ahead.found])
        if self._kept is not None:
            await asyncio.wait([self._kept], timeout=CLOSING_S)


def _same(one: str, other: str) -> bool:
    return one.strip(" .?!").lower() == other.strip(" .?!").lower()
