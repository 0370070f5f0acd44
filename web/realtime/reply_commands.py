"""Commands of a client that request and cancel replies, inside its conversation and outside it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

from pipeline.conversation.conversation import Conversation
from pipeline.conversation.request import Request
from pipeline.engine import WENT_WRONG
from web.realtime import events as wire
from web.realtime import parts
from web.realtime.answer import Answer
from web.realtime.item_commands import ItemCommands
from web.realtime.narrator import CANCELLED, CANCELLED_BY_CLIENT, Narrator
from web.realtime.options import Wishes, undeclared
from web.realtime.reading import Refusal

logger = logging.getLogger(__name__)

MOST_ASIDES = 8
"""The most replies that are generated outside a conversation at once."""
FAILED = parts.StatusDetails(
    type="failed",
    error=parts.StatusError(
        type="server_error",
        code="internal_error",
        message=WENT_WRONG,
    ),
)


@dataclass(slots=True)
class AskedReply:
    """A `response.create` that waits until the speech before it has been transcribed."""

    answer: Answer
    typed: parts.Message | None
    """What the user typed, which this reply turns into a turn."""
    task: asyncio.Task[None]


class ReplyCommands:
    """Each method raises Refusal if the command cannot be carried out, and then has changed nothing."""

    def __init__(
        self,
        conversation: Conversation,
        narrator: Narrator,
        items: ItemCommands,
        tell: Callable[[wire.ServerEvent], Awaitable[None]],
    ) -> None:
        """`tell` sends what follows from a command later, in addition to the conversation's events."""
        self._conversation = conversation
        self._narrator = narrator
        self._items = items
        self._tell = tell
        self._asked: AskedReply | None = None
        self._asides: dict[str, tuple[Answer, asyncio.Task[None]]] = {}
        """Replies outside the conversation, by response id."""
        self._tasks: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def create(self, options: parts.ResponseOptions, wishes: Wishes) -> list[wire.ServerEvent]:
        """Request a reply. Exactly one `response.done` follows its `response.created`, whatever happens."""
        if wishes.kind == "transcription":
            raise Refusal(
                "invalid_value", "A transcription session has no replies: connect without intent=transcription.", "type"
            )
        tools = wishes.tools if options.tools is None else options.tools
        if (why := undeclared(options.tool_choice, tools)) is not None:
            raise Refusal("invalid_value", why, "response.tool_choice")
        request = wishes.request_for(options)
        if options.input is not None:
            request = replace(request, history=tuple(self._items.given(each) for each in options.input))
        if request.tool_choice not in ("auto", "none") and not self._conversation.calls_tools:
            why = "This language model does not call tools: choose one that does on the setup page."
            raise Refusal("invalid_value", why, "response.tool_choice")
        if options.conversation == "none":
            return self._respond_aside(options, request)
        narrator = self._narrator
        under_way = narrator.answer is not None and narrator.answer.open and narrator.answer.kept
        if narrator.asked is not None or under_way:
            raise Refusal(
                "conversation_already_has_active_response",
                "A reply is already in progress: wait for response.done, or send response.cancel first.",
            )
        if narrator.answer is not None and not narrator.parley:
            self._conversation.played(narrator.answer.samples)  # such a client plays the new reply after it
        if request.history is not None:
            self._items.keep_typed()
        typed = self._items.take_typed()
        if typed is not None:
            narrator.typed(typed)
        answer = narrator.ask(options.metadata, spoken=request.spoken)
        request = replace(request, id=answer.response_id)
        self._asked = AskedReply(answer, typed, self._spawn(self._begin(answer, request, typed)))
        return [wire.ResponseCreated(response=answer.response("in_progress"))]

    async def _begin(self, answer: Answer, request: Request, typed: parts.Message | None) -> None:
        """Wait for the transcript, then start the reply; the client's further messages are read meanwhile."""
        try:
            if typed is None:
                await self._conversation.respond(request)
            else:
                await self._conversation.say(typed.text, request)
        except Exception:
            logger.exception("a reply could not be begun")
            await self._fail(answer)
        self._asked = None  # not reached if it was cancelled: cancel() handles that

    def _respond_aside(self, options: parts.ResponseOptions, request: Request) -> list[wire.ServerEvent]:
        if len(self._asides) >= MOST_ASIDES:
            raise Refusal(
                "too_many_responses", f"{MOST_ASIDES} separate replies are already being made: wait for one of them."
            )
        answer = self._narrator.ask(options.metadata, spoken=request.spoken, apart=True)
        self._asides[answer.response_id] = answer, self._spawn(self._make(answer, request))
        return [wire.ResponseCreated(response=answer.response("in_progress"))]

    async def _make(self, answer: Answer, request: Request) -> None:
        """Generate a reply outside the conversation."""
        try:
            if request.history is None:
                await self._conversation.settled()
            async with aclosing(self._conversation.aside(request)) as events:
                async for event in events:
                    for told in self._narrator.tell_aside(answer, event):
                        await self._tell(told)
        except Exception:
            logger.exception("a reply apart could not be made")
            await self._fail(answer)
        finally:
            self._asides.pop(answer.response_id, None)

    async def _fail(self, answer: Answer) -> None:
        for told in self._narrator.close(answer, FAILED):
            await self._tell(told)

    def cancel(self, response_id: str | None, wishes: Wishes) -> list[wire.ServerEvent]:
        if response_id is not None and (aside := self._asides.get(response_id)) is not None:
            answer, task = aside
            task.cancel()
            return self._narrator.close(answer, CANCELLED_BY_CLIENT)
        narrator = self._narrator
        possible = [answer.response_id for answer in (narrator.asked, narrator.answer) if answer is not None]
        thinking = not possible and wishes.turns == "automatic" and self._conversation.state != "listening"
        if not thinking and (not possible or response_id not in {None, *possible}):
            raise Refusal("response_cancel_not_active", "Cancellation failed: there is no such active response.")
        told: list[wire.ServerEvent] = []
        if (asked := self._asked) is not None:  # it still waits for the transcript of what was said before
            self._asked = None
            asked.task.cancel()
            if asked.typed is not None:
                self._narrator.untyped(asked.typed)
                self._items.keep(asked.typed)
            told = narrator.close(asked.answer, CANCELLED_BY_CLIENT)
        if response_id is None:
            self._conversation.call_off()
        self._conversation.cancel(CANCELLED)
        return told

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
