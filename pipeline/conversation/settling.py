"""Waits for the final words of the user's turns after they end, and settles the turns in the order they were said."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from pipeline.conversation.scope import ConversationScope
from pipeline.engine import WENT_WRONG, EngineError
from pipeline.turns.listening import UserTurn
from pipeline.turns.record import TurnRecord

log = logging.getLogger(__name__)


class Settling:
    def __init__(self, scope: ConversationScope, understood: Callable[[UserTurn, str, str], bool]) -> None:
        """`understood` gets each turn, its words and any STT error; it returns whether an answer is still due."""
        self.last: asyncio.Task[TurnRecord | None] | None = None
        """The task of the turn that ended last, while its words are not final."""
        self._scope = scope
        self._understood = understood

    @property
    def pending(self) -> bool:
        return self.last is not None

    def begin(self, turn: UserTurn) -> None:
        """Start settling a turn that has ended."""
        self.last = self._scope.spawn(self._settle(turn, self.last))

    async def done(self) -> TurnRecord | None:
        """Wait until the words of all turns are final; return the last turn's record if it waits for an answer."""
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
        except Exception:  # a bug in an engine: whatever it is, the turn must end
            log.exception("a turn could not be understood")
            trouble = f"{WENT_WRONG} Please say it again."
            self._scope.notice("error", trouble)
        finally:
            self._scope.clean_up(turn.listening.close())
        if before is not None:
            await asyncio.wait([before])  # what was said first enters the history first
        if self.last is asyncio.current_task():
            self.last = None
        record.mark("transcript_final", self._scope.clock())
        return record if self._understood(turn, words, trouble) else None
