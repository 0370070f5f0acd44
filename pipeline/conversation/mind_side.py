"""The language model's part in the conversation: it writes replies, and prefills the next prompt while idle."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from config import Settings
from pipeline.conversation.answering import answer, read_ahead
from pipeline.conversation.company import Company
from pipeline.conversation.events import MemoryRecalled
from pipeline.conversation.history import History
from pipeline.conversation.own_accord import OwnAccord
from pipeline.conversation.recollection import Recollection
from pipeline.conversation.reply_side import ReplySide
from pipeline.conversation.request import Request
from pipeline.conversation.scope import ConversationScope
from pipeline.llm import LanguageModel, Message, Truncated
from pipeline.tools.calls import ToolCall
from pipeline.turns.listening import UserTurn
from pipeline.turns.record import TurnRecord
from rag import Recall


class MindSide:
    def __init__(
        self,
        mind: LanguageModel,
        settings: Settings,
        scope: ConversationScope,
        history: History,
        recollection: Recollection,
        replies: ReplySide,
        own: OwnAccord,
        company: Company,
    ) -> None:
        self._mind = mind
        self._settings = settings
        self._scope = scope
        self._history = history
        self._recollection = recollection
        self._replies = replies
        self._own = own
        self._company = company
        self._reading: asyncio.Task[None] | None = None

    def configure(self, mind: LanguageModel, settings: Settings) -> None:
        self._mind, self._settings = mind, settings

    def answer(
        self,
        record: TurnRecord,
        request: Request,
        turn: UserTurn | None = None,
        after: asyncio.Task[TurnRecord | None] | None = None,
    ) -> AsyncGenerator[str | ToolCall | Truncated, None]:
        """Yield the text of a reply and the calls that end it, once `after` is done.

        `turn` is the user's turn if its words are not in the history yet. Raises EngineError (while iterating).
        """

        def recalled(recall: Recall) -> None:
            record.mark("recalled", self._scope.clock())
            self._scope.outbox.post(MemoryRecalled(record.turn, record.revision, recall))

        def before() -> tuple[Message, ...]:
            if (reply := self._replies.of(record)) is not None:
                reply.covers = frozenset(self._own.errands.owed)
            return self._history.without(turn.number) if turn is not None else self._history.messages

        return answer(
            self._mind,
            self._recollection,
            self._settings.mind,
            before,
            self._scope.now,
            request=request,
            own=self._own.tools(request, self._mind),
            turn=turn,
            after=[task for task in (self._reading, after) if task is not None],
            on_transcript=lambda: record.mark("transcript_final", self._scope.clock()),
            on_recall=recalled,
            speaker=lambda: self._company.speaker(record.turn),
        )

    def aside(self, request: Request) -> AsyncGenerator[str | ToolCall | Truncated, None]:
        """Yield the text of a reply outside the conversation, from what was said so far; no memory, no own tools."""
        messages = self._history.messages
        return answer(self._mind, None, self._settings.mind, lambda: messages, self._scope.now, request=request)

    def read_ahead(self, request: Request) -> None:
        """Prefill what was said so far, with which the next prompt begins, while nobody waits for a reply."""
        if self._reading is not None:
            self._reading.cancel()
        own = self._own.tools(request, self._mind)
        messages, now = self._history.messages, self._scope.now()
        self._reading = self._scope.spawn(read_ahead(self._mind, self._settings.mind, messages, now, request, own=own))
