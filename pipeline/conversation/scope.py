"""What belongs to one conversation and ends with it: its outbox, its turn records and its tasks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from datetime import datetime
from typing import Any, TypeVar

from pipeline.conversation.events import Notice, Severity, TurnFinished
from pipeline.conversation.outbox import Outbox
from pipeline.turns.record import TurnRecord

log = logging.getLogger(__name__)

T = TypeVar("T")


class ConversationScope:
    def __init__(
        self,
        name: str,
        now: Callable[[], datetime],
        on_record: Callable[[TurnRecord], None] | None = None,
        turns: int = 0,
    ) -> None:
        """`name` identifies the conversation; `now` is the wall clock; `on_record` gets each finished turn's record.

        `turns` is how many turns a resumed conversation already had.
        """
        self.name = name
        self.now = now
        self.clock = asyncio.get_running_loop().time
        self.outbox = Outbox()
        self.turns = turns
        """Turns begun so far, spoken or typed."""
        self._on_record = on_record
        self._tasks: set[asyncio.Task[Any]] = set()
        self._cleaning: set[asyncio.Task[None]] = set()

    def new_record(self) -> TurnRecord:
        self.turns += 1
        return TurnRecord(self.name, self.turns, at=self.now().isoformat(timespec="milliseconds"))

    def close_record(self, record: TurnRecord, outcome: str, why: str) -> None:
        """Close the record of a finished turn and report it. Nothing else reports the end of a turn."""
        record.outcome, record.why = outcome, why
        self.outbox.post(TurnFinished(record.turn, record.revision, record))
        if self._on_record is not None:
            self._on_record(record)

    def notice(self, severity: Severity, text: str) -> None:
        self.outbox.post(Notice(self.turns, 0, severity, text))

    def warn(self, text: str) -> None:
        self.notice("warning", text)

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start a task that is cancelled when the conversation ends."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def clean_up(self, work: Coroutine[Any, Any, None]) -> None:
        """Start a clean-up task. The end of the conversation waits for it and does not cancel it."""
        task = asyncio.create_task(work)
        self._cleaning.add(task)
        task.add_done_callback(self._finished)

    async def end(self) -> None:
        """Cancel all running tasks and wait for the clean-up. The outbox stays open for last messages."""
        for task in self._tasks:
            if not task.cancelling():  # a second cancel would cut its own clean-up short
                task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        while self._cleaning:
            await asyncio.wait(self._cleaning)

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        self._cleaning.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a task of the conversation failed", exc_info=error)
            self.notice(
                "error", "Something went wrong inside Parley; the log has the details. The conversation continues."
            )
