"""From the end of the user's turn to its final words: one turn after another, in the order in which they were said."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pipeline.conversation.scope import ConversationScope
from pipeline.engine import EngineError
from pipeline.turns.listening import UserTurn
from pipeline.turns.record import TurnRecord


class Settling:
    def __init__(self, scope: ConversationScope, understood: Callable[[UserTurn, str, str], bool]) -> None:
        """`understood` gets each turn, its words and, where the ears failed, why; it says if an answer is still due."""
        self.last: asyncio.Task[TurnRecord | None] | None = None
        """Of the turn that ended last, while its words are not final."""
        self._scope = scope
        self._understood = understood

    @property
    def pending(self) -> bool:
        return self.last is not None

    def begin(self, turn: UserTurn) -> None:
        """The turn has ended."""
        self.last = self._scope.spawn(self._settle(turn, self.last))

    async def done(self) -> TurnRecord | None:
        """Wait until the words of all turns are final; the last turn's record, if it waits for an answer."""
        record = None
        while self.last is not None:
            record = await asyncio.shield(self.last)
        return record

    async def _settle(self, turn: UserTurn, before: asyncio.Task[TurnRecord | None] | None) -> TurnRecord | None:
        record, trouble, words = turn.record, "", ""
        try:
            words = (await turn.finish()).text
        except EngineError as error:
            trouble = str(error)
            self._scope.notice("error", f"Your words were not understood: {error}")
        finally:
            self._scope.clean_up(turn.listening.close())
        if before is not None:
            await asyncio.wait([before])  # what was said first is history first
        if self.last is asyncio.current_task():
            self.last = None
        record.mark("transcript_final", self._scope.clock())
        return record if self._understood(turn, words, trouble) else None
