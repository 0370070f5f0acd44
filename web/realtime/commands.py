"""What a client's messages do to its conversation."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from config import Settings
from pipeline.audio import Samples
from pipeline.conversation.conversation import Conversation
from pipeline.conversation.history import Entry
from pipeline.conversation.request import Request
from pipeline.conversation.stages import Stages
from pipeline.engine import EngineError
from pipeline.llm import Message
from pipeline.tools.calls import ToolCall
from pipeline.tools.results import bounded
from web.realtime import events as wire
from web.realtime import parts
from web.realtime.answer import Answer
from web.realtime.items import ROOT
from web.realtime.narrator import CANCELLED, CANCELLED_BY_CLIENT, Narrator, milliseconds, samples_in
from web.realtime.options import Wishes, in_force, undeclared
from web.realtime.pcm import FromMouth, SoundError, ToEar, decoded
from web.realtime.reading import Refusal, refused

logger = logging.getLogger(__name__)

MAX_ITEMS = 1000
"""Items that a client may put into one conversation."""
MOST_ASIDES = 8
"""Replies that are made outside a conversation at once."""
FAILED = parts.StatusDetails(
    type="failed",
    error=parts.StatusError(
        type="server_error",
        code="internal_error",
        message="Something went wrong inside Parley; its log has the details.",
    ),
)


@dataclass(slots=True)
class AskedReply:
    """A `response.create` while it waits for what was said before to be understood."""

    answer: Answer
    typed: parts.Message | None
    """What the user typed, which it makes a turn."""
    task: asyncio.Task[None]


class Commands:
    def __init__(
        self,
        conversation: Conversation,
        narrator: Narrator,
        settings: Settings,
        wishes: Wishes,
        tell: Callable[[wire.ServerEvent], Awaitable[None]],
    ) -> None:
        """`tell` sends what comes of a message later, beside the conversation's events."""
        self._conversation = conversation
        self._narrator = narrator
        self._settings = settings
        self._wishes = wishes
        self._tell = tell
        self._ear = ToEar()
        self._appended = 0
        """Samples since the last commit or clear."""
        self._typed: parts.Message | None = None
        """What the user typed, until `response.create` makes it a turn."""
        self._asked: AskedReply | None = None
        self._asides: dict[str, tuple[Answer, asyncio.Task[None]]] = {}
        """What is made outside the conversation, by the response's id."""
        self._made = 0
        """Names given to items of the client."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._apply()

    @property
    def session(self) -> parts.Session:
        return in_force(self._conversation.name, self._settings, self._wishes)

    def configure(self, settings: Settings, stages: Stages) -> None:
        """The user changed the settings; this client's own wishes stay."""
        self._settings = settings
        self._apply(stages)

    def _apply(self, stages: Stages | None = None) -> None:
        wishes, narrator = self._wishes, self._narrator
        own = wishes.applied_to(self._settings)
        narrator.manual = wishes.mode == "manual"
        narrator.instructions = own.mind.persona
        if narrator.mouth.encoding is not wishes.told:
            narrator.mouth = FromMouth(wishes.told)
        if self._ear.encoding is not wishes.heard:
            self._conversation.hear(self._ear.flush())
            self._ear = ToEar(wishes.heard)
        self._conversation.configure(
            own, mode=wishes.turns, stages=stages, usual=wishes.request, interruptible=wishes.interruptible
        )

    async def obey(self, event: wire.AnyClientEvent) -> list[wire.ServerEvent]:
        """The direct answers to a message; what follows from it comes through the conversation's events.

        Raises:
            Refusal: it could not be followed, and nothing has changed.
        """
        match event:
            case wire.SessionUpdate():
                return self._update(event.session, event.event_id)
            case wire.InputAudioBufferAppend():
                return await self._append(event.audio)
            case wire.InputAudioBufferCommit():
                return await self._commit()
            case wire.InputAudioBufferClear():
                return await self._clear()
            case wire.ConversationItemCreate():
                return await self._create(event)
            case wire.ConversationItemRetrieve():
                item = self._item(event.item_id, "item_retrieve_invalid_item_id")
                return [wire.ConversationItemRetrieved(item=item)]
            case wire.ConversationItemTruncate():
                return self._truncate(event)
            case wire.ConversationItemDelete():
                return self._delete(event.item_id)
            case wire.ResponseCreate():
                return self._respond(event.response or parts.ResponseOptions())
            case wire.ResponseCancel():
                return self._cancel(event.response_id)
            case wire.OutputAudioBufferClear():
                self._stop_playing()
            case wire.ParleyPlayback():
                answer = self._narrator.answer
                if answer is not None and answer.response_id == event.response_id:  # else it speaks of an older one
                    self._conversation.played(event.samples)
            case wire.ParleyToolAnswer():
                if not self._conversation.allow(event.call_id, event.allow):
                    raise Refusal("invalid_call_id", "This call is no longer waiting for an answer.", "call_id")
        return []

    async def close(self) -> None:
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def hear(self, samples: Samples) -> None:
        """Sound that comes beside the messages, 16 kHz."""
        self._appended += len(samples)
        self._conversation.hear(samples)

    # -- the session and its sound ------------------------------------------------------------------------------------

    def _update(self, session: parts.Session, event_id: str | None) -> list[wire.ServerEvent]:
        self._wishes = self._wishes.updated(session)
        self._narrator.parley = self._narrator.parley or session.parley is not None
        self._apply()
        told: list[wire.ServerEvent] = [wire.SessionUpdated(session=self.session)]
        if (why := undeclared(session.tool_choice, self._wishes.tools)) is not None:
            told.insert(0, refused(Refusal("invalid_value", why, "session.tool_choice"), event_id))
        return told

    async def _append(self, audio: str) -> list[wire.ServerEvent]:
        if self._wishes.media:
            raise Refusal("invalid_value", "In a WebRTC call, send sound on its audio track.", "type")
        try:
            samples = decoded(audio, self._ear.encoding)
        except SoundError as error:
            raise Refusal("invalid_audio", str(error), "audio") from None
        self._appended += len(samples)
        second = self._ear.encoding.rate
        for start in range(0, len(samples), second):
            self._conversation.hear(self._ear.feed(samples[start : start + second]))
            await asyncio.sleep(0)  # a second at a time: a long message must not hold up the loop
        return []

    async def _commit(self) -> list[wire.ServerEvent]:
        if not self._appended:
            raise Refusal("input_audio_buffer_commit_empty", "There is no sound to commit: append some first.")
        await self._everything_heard()
        self._keep_typed()
        self._conversation.commit()
        return []

    async def _clear(self) -> list[wire.ServerEvent]:
        await self._everything_heard()
        self._conversation.clear()
        return [wire.InputAudioBufferCleared()]

    async def _everything_heard(self) -> None:
        self._conversation.hear(self._ear.flush())
        self._appended = 0
        await self._conversation.caught_up()

    # -- items --------------------------------------------------------------------------------------------------------

    async def _create(self, event: wire.ConversationItemCreate) -> list[wire.ServerEvent]:
        items = self._narrator.items
        after = event.previous_item_id
        if after not in {None, ROOT} and after not in items:
            raise Refusal(
                "item_create_invalid_previous_item_id", f"There is no item {after!r} to follow.", "previous_item_id"
            )
        if len(items) >= MAX_ITEMS:
            raise Refusal("too_many_items", f"This conversation already has {MAX_ITEMS} items: start another.")
        item = event.item.model_copy(update={"status": "completed", "object": "realtime.item"})
        if item.id is None:
            item.id = self._new_id()
        if item.id in items:
            raise Refusal("item_create_duplicate_item_id", f"There is already an item {item.id!r}.", "item.id")
        match item:
            case parts.Message():
                item = await self._transcribed(item)
            case parts.FunctionCall():
                item.call_id = item.call_id or item.id
                self._narrator.calls.add(item.call_id or "")
            case parts.FunctionCallOutput() if item.call_id not in self._narrator.calls:
                raise Refusal("invalid_call_id", f"No call {item.call_id!r} is waiting for its output.", "item.call_id")
            case parts.FunctionCallOutput():
                self._narrator.calls.remove(item.call_id)
                self._conversation.settled_call(item.call_id)
                item.output = bounded(item.output)
        self._keep_typed()
        last = after in {None, items.last} or (after == ROOT and not items)
        if isinstance(item, parts.Message) and item.role == "user" and last:
            self._typed = item
        else:
            self._keep(item, None if last else after)
        return self._narrator.add(item, after)

    def _new_id(self) -> str:
        self._made += 1
        return f"item_client_{self._made}"

    async def _transcribed(self, item: parts.Message) -> parts.Message:
        """With the words of its sound. Raises Refusal for a message that cannot be told to the language model."""
        _without_images(item, "item.content")
        content = []
        for part in item.content:
            words = part.transcript or part.text
            if part.type == "input_audio" and part.audio and not words:
                words = await self._understood(part.audio)
            name = "transcript" if part.type.endswith("_audio") else "text"
            content.append(part.model_copy(update={name: words, "audio": None}))
        item = item.model_copy(update={"content": content})
        if not item.text:
            raise Refusal("invalid_value", "The item has no text.", "item.content")
        return item

    async def _understood(self, audio: str) -> str:
        try:
            ear = ToEar(self._ear.encoding)
            samples = ear.feed(decoded(audio, ear.encoding))
            return await self._conversation.understood(np.concatenate([samples, ear.flush()]))
        except SoundError as error:
            raise Refusal("invalid_audio", str(error), "item.content") from None
        except EngineError as error:
            raise Refusal("engine_error", f"The recording was not understood: {error}", "item.content") from error

    def _keep(self, item: parts.Item, after: str | None = None) -> None:
        """It is history: at the end, or after an item or ROOT."""
        message = _message(item)
        self._conversation.history.add(
            message.role,
            message.text,
            0,
            id=item.id,
            calls=message.calls,
            call_id=message.call_id,
            place=None if after is None else self._place_after(after),
        )

    def _place_after(self, item_id: str) -> int:
        """Among what is history, which has not every item."""
        history, ids = self._conversation.history, self._narrator.items.ids
        for earlier in reversed(ids[: ids.index(item_id) + 1] if item_id != ROOT else []):
            if (entry := self._entry(earlier)) is not None and (place := history.place(entry.id)) is not None:
                return place + 1
        return 0

    def _keep_typed(self) -> None:
        """What was typed and not answered before the conversation went on is history, nothing more."""
        if self._typed is not None:
            self._keep(self._typed)
            self._typed = None

    def _item(self, item_id: str, code: str) -> parts.Item:
        item = self._narrator.items.find(item_id)
        if item is None:
            raise Refusal(code, f"There is no item {item_id!r}.", "item_id")
        return item

    def _entry(self, item_id: str) -> Entry | None:
        """What the history keeps for an item; an unheard reply has nothing there."""
        history, item = self._conversation.history, self._narrator.items.find(item_id)
        turn = self._narrator.turn_of(item_id)
        if turn is None:
            return history.find(item_id)
        role = item.role if isinstance(item, parts.Message) else "assistant"
        of_turn = [entry for entry in history.entries if entry.turn == turn and entry.role == role]
        return next((entry for entry in reversed(of_turn) if not entry.calls), None)

    def _truncate(self, event: wire.ConversationItemTruncate) -> list[wire.ServerEvent]:
        """The client says what was really heard; the reply stops if it is still going on."""
        answer = self._narrator.answer_of(event.item_id)
        told = wire.ConversationItemTruncated(
            item_id=event.item_id, content_index=event.content_index, audio_end_ms=event.audio_end_ms
        )
        if answer is None:
            self._item(event.item_id, "item_truncate_invalid_item_id")
            raise Refusal("invalid_value", "Only a spoken reply can be truncated.", "item_id")
        if event.item_id not in self._narrator.items:
            return [told]  # it was taken back meanwhile: nothing of it is history
        if event.content_index != 0:
            raise Refusal("invalid_value", "A spoken reply has one content part: content_index is 0.", "content_index")
        if event.audio_end_ms > milliseconds(answer.samples):
            sent = f"only {milliseconds(answer.samples)} ms were sent"
            raise Refusal("invalid_value", f"audio_end_ms is {event.audio_end_ms}, but {sent}.", "audio_end_ms")
        samples = min(samples_in(event.audio_end_ms), answer.samples)
        if answer is self._narrator.answer:
            self._conversation.played(samples)
            self._conversation.cancel(CANCELLED)
        entry = self._entry(event.item_id)
        heard = answer.heard(samples)
        if entry is not None and len(heard) < len(entry.text):
            if heard:
                self._conversation.history.truncate(entry.id, heard)
            else:
                self._conversation.history.delete(entry.id)
        self._narrator.items.replace(answer.message("incomplete", heard))
        return [told]

    def _delete(self, item_id: str) -> list[wire.ServerEvent]:
        self._item(item_id, "item_delete_invalid_item_id")
        entry = self._entry(item_id)
        if self._typed is not None and self._typed.id == item_id:
            self._typed = None
        elif entry is not None:
            self._conversation.history.delete(entry.id)
        return [self._narrator.remove(item_id)]

    # -- replies ------------------------------------------------------------------------------------------------------

    def _respond(self, options: parts.ResponseOptions) -> list[wire.ServerEvent]:
        """From here on `response.created` is followed by exactly one `response.done`, whatever happens."""
        if self._wishes.kind == "transcription":
            raise Refusal(
                "invalid_value", "A transcription session has no replies: connect without intent=transcription.", "type"
            )
        tools = self._wishes.tools if options.tools is None else options.tools
        if (why := undeclared(options.tool_choice, tools)) is not None:
            raise Refusal("invalid_value", why, "response.tool_choice")
        request = self._wishes.request_for(options)
        if options.input is not None:
            request = replace(request, history=tuple(self._given(each) for each in options.input))
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
            self._conversation.played(narrator.answer.samples)  # such a client plays the new one after it
        if request.history is not None:
            self._keep_typed()
        typed, self._typed = self._typed, None
        if typed is not None:
            narrator.typed(typed)
        answer = narrator.ask(options.metadata, spoken=request.spoken)
        request = replace(request, id=answer.response_id)
        self._asked = AskedReply(answer, typed, self._spawn(self._begin(answer, request, typed)))
        return [wire.ResponseCreated(response=answer.response("in_progress"))]

    async def _begin(self, answer: Answer, request: Request, typed: parts.Message | None) -> None:
        """A reply waits for the transcript; meanwhile the client's further messages are read."""
        try:
            if typed is None:
                await self._conversation.respond(request)
            else:
                await self._conversation.say(typed.text, request)
        except Exception:
            logger.exception("a reply could not be begun")
            await self._fail(answer)
        self._asked = None  # not where it was cancelled: that was seen to

    def _respond_aside(self, options: parts.ResponseOptions, request: Request) -> list[wire.ServerEvent]:
        if len(self._asides) >= MOST_ASIDES:
            raise Refusal(
                "too_many_responses", f"{MOST_ASIDES} separate replies are already being made: wait for one of them."
            )
        answer = self._narrator.ask(options.metadata, spoken=request.spoken, apart=True)
        self._asides[answer.response_id] = answer, self._spawn(self._make(answer, request))
        return [wire.ResponseCreated(response=answer.response("in_progress"))]

    async def _make(self, answer: Answer, request: Request) -> None:
        """A reply outside the conversation."""
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

    def _given(self, item: parts.Item | parts.ItemReference) -> Message:
        if isinstance(item, parts.ItemReference):
            item = self._item(item.id, "item_reference_invalid_item_id")
        if isinstance(item, parts.Message):
            _without_images(item, "response.input")
        return _message(item)

    def _cancel(self, response_id: str | None) -> list[wire.ServerEvent]:
        if response_id is not None and (aside := self._asides.get(response_id)) is not None:
            answer, task = aside
            task.cancel()
            return self._narrator.close(answer, CANCELLED_BY_CLIENT)
        narrator = self._narrator
        possible = [answer.response_id for answer in (narrator.asked, narrator.answer) if answer is not None]
        thinking = not possible and self._wishes.turns == "automatic" and self._conversation.state != "listening"
        if not thinking and (not possible or response_id not in {None, *possible}):
            raise Refusal("response_cancel_not_active", "Cancellation failed: there is no such active response.")
        told: list[wire.ServerEvent] = []
        if (asked := self._asked) is not None:  # it still waits for what was said before
            self._asked = None
            asked.task.cancel()
            if asked.typed is not None:
                self._narrator.untyped(asked.typed)
                self._keep(asked.typed)
            told = narrator.close(asked.answer, CANCELLED_BY_CLIENT)
        if response_id is None:
            self._conversation.call_off()
        self._conversation.cancel(CANCELLED)
        return told

    def _stop_playing(self) -> None:
        if not self._wishes.media:
            raise Refusal(
                "invalid_value",
                "The client plays the sound here: stop playing, and send conversation.item.truncate.",
                "type",
            )
        if self._narrator.answer is not None:
            self._conversation.cancel(CANCELLED)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _without_images(item: parts.Message, param: str) -> None:
    """Raises Refusal."""
    if any(part.type == "input_image" for part in item.content):
        raise Refusal("image_not_supported", "The language model cannot see images: send text.", param)


def _message(item: parts.Item) -> Message:
    """As the language model is told of it."""
    match item:
        case parts.Message():
            return Message(item.role, item.text)
        case parts.FunctionCall():
            call = ToolCall(item.call_id or item.id or "", item.name, item.arguments)
            return Message("assistant", "", calls=(call,))
        case parts.FunctionCallOutput():
            return Message("tool", item.output, call_id=item.call_id)
