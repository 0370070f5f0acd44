"""What a client's messages do to its conversation."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine

from config import Settings
from pipeline.conversation.conversation import Conversation
from pipeline.conversation.history import Entry
from pipeline.conversation.stages import Stages
from pipeline.engine import EngineError
from web.realtime import events as wire
from web.realtime.narrator import CANCELLED, Narrator, milliseconds, samples_in
from web.realtime.options import Wishes, in_force
from web.realtime.pcm import WIRE_RATE, SoundError, ToEar, decoded

logger = logging.getLogger(__name__)

MAX_ITEMS = 1000
"""Items that a client may put into one conversation."""


class Refusal(Exception):
    """A message that cannot be followed: a code for programs, a sentence for people, and the field it is about."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.param = param


class Commands:
    def __init__(self, conversation: Conversation, narrator: Narrator, settings: Settings) -> None:
        self._conversation = conversation
        self._narrator = narrator
        self._settings = settings
        self._wishes = Wishes()
        self._ear = ToEar()
        self._appended = 0
        """Samples since the last commit or clear."""
        self._typed: wire.Item | None = None
        """What the user typed, until `response.create` makes it a turn."""
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def session(self) -> wire.Session:
        return in_force(self._conversation.name, self._settings, self._wishes)

    def configure(self, settings: Settings, stages: Stages) -> None:
        """The user changed the settings; this client's own wishes stay."""
        self._settings = settings
        self._conversation.configure(self._wishes.applied_to(settings), stages=stages)

    async def obey(self, event: wire.AnyClientEvent) -> list[wire.ServerEvent]:
        """The direct answers to a message; what follows from it comes through the conversation's events.

        Raises:
            Refusal: it could not be followed, and nothing has changed.
        """
        match event:
            case wire.SessionUpdate():
                return self._update(event.session)
            case wire.InputAudioBufferAppend():
                return await self._append(event.audio)
            case wire.InputAudioBufferCommit():
                return await self._commit()
            case wire.InputAudioBufferClear():
                return await self._clear()
            case wire.ConversationItemCreate():
                return self._create(event)
            case wire.ConversationItemRetrieve():
                return [wire.ConversationItemRetrieved(item=self._item(event.item_id))]
            case wire.ConversationItemTruncate():
                return self._truncate(event)
            case wire.ConversationItemDelete():
                return self._delete(event.item_id)
            case wire.ResponseCreate():
                return await self._respond(event.response or wire.ResponseOptions())
            case wire.ResponseCancel():
                return self._cancel(event.response_id)
            case wire.ParleyPlayback():
                answer = self._narrator.answer
                if answer is not None and answer.response_id == event.response_id:  # else it speaks of an older one
                    self._conversation.played(event.samples)
        return []

    async def close(self) -> None:
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # -- the session and its sound ------------------------------------------------------------------------------------

    def _update(self, session: wire.Session) -> list[wire.ServerEvent]:
        self._wishes = self._wishes.updated(session)
        self._narrator.manual = self._wishes.mode == "manual"
        self._narrator.parley = self._narrator.parley or session.parley is not None
        self._conversation.configure(self._wishes.applied_to(self._settings), mode=self._wishes.mode)
        return [wire.SessionUpdated(session=self.session)]

    async def _append(self, audio: str) -> list[wire.ServerEvent]:
        try:
            samples = decoded(audio)
        except SoundError as error:
            raise Refusal("invalid_audio", str(error), "audio") from None
        self._appended += len(samples)
        for start in range(0, len(samples), WIRE_RATE):
            self._conversation.hear(self._ear.feed(samples[start : start + WIRE_RATE]))
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

    def _create(self, event: wire.ConversationItemCreate) -> list[wire.ServerEvent]:
        narrator = self._narrator
        if event.previous_item_id not in {None, narrator.last_item}:
            raise Refusal("invalid_value", "An item can only be added at the end: leave previous_item_id out.")
        if len(narrator.items) >= MAX_ITEMS:
            raise Refusal("too_many_items", f"This conversation has {MAX_ITEMS} items; begin another.")
        item = event.item.model_copy(update={"status": "completed", "object": "realtime.item"})
        if item.id is None:
            item.id = f"item_client_{len(narrator.items) + 1}"
        if item.id in narrator.items:
            raise Refusal("item_exists", f"There is already an item {item.id}.", "item.id")
        if any(part.type == "input_audio" for part in item.content):
            raise Refusal("invalid_value", "Send sound by input_audio_buffer.append.", "item.content")
        if not _text(item):
            raise Refusal("invalid_value", "The item has no text.", "item.content")
        self._keep_typed()
        if item.role == "user":
            self._typed = item
            return narrator.add(item)
        self._conversation.history.add(item.role, _text(item), 0, id=item.id)
        return narrator.add(item)

    def _keep_typed(self) -> None:
        """What was typed and not answered before the conversation went on is history, nothing more."""
        if self._typed is not None:
            self._conversation.history.add("user", _text(self._typed), 0, id=self._typed.id)
            self._typed = None

    def _item(self, item_id: str) -> wire.Item:
        item = self._narrator.items.get(item_id)
        if item is None:
            raise Refusal("item_not_found", f"There is no item {item_id}.", "item_id")
        return item

    def _entry(self, item_id: str) -> Entry | None:
        """What the history keeps for an item; an unheard reply has nothing there."""
        history, item = self._conversation.history, self._item(item_id)
        turn = self._narrator.turn_of(item_id)
        if turn is None:
            return history.find(item_id)
        of_turn = [entry for entry in history.entries if entry.turn == turn and entry.role == item.role]
        return of_turn[-1] if of_turn else None

    def _truncate(self, event: wire.ConversationItemTruncate) -> list[wire.ServerEvent]:
        """The client says what was really heard; the reply stops if it is still going on."""
        self._item(event.item_id)
        answer = self._narrator.answer_of(event.item_id)
        if answer is None:
            raise Refusal("invalid_value", "Only a spoken reply can be truncated.", "item_id")
        samples = samples_in(event.audio_end_ms)
        if samples > answer.samples:
            raise Refusal(
                "invalid_value",
                f"audio_end_ms is {event.audio_end_ms}, but only {milliseconds(answer.samples)} ms were sent.",
                "audio_end_ms",
            )
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
        return [wire.ConversationItemTruncated(item_id=event.item_id, audio_end_ms=event.audio_end_ms)]

    def _delete(self, item_id: str) -> list[wire.ServerEvent]:
        entry = self._entry(item_id)
        if self._typed is not None and self._typed.id == item_id:
            self._typed = None
        elif entry is not None:
            self._conversation.history.delete(entry.id)
        return [self._narrator.remove(item_id)]

    # -- replies ------------------------------------------------------------------------------------------------------

    async def _respond(self, options: wire.ResponseOptions) -> list[wire.ServerEvent]:
        answer = self._narrator.answer
        if answer is not None and answer.open:
            raise Refusal(
                "conversation_already_has_active_response",
                "A reply is being made already: wait for response.done, or send response.cancel first.",
            )
        self._narrator.metadata = options.metadata
        typed = self._typed
        if typed is not None and options.instructions is None:
            self._typed = None
            self._narrator.typed(typed)
            await self._conversation.say(_text(typed))
            return []
        self._keep_typed()
        self._spawn(self._conversation.respond(options.instructions))
        return []

    def _cancel(self, response_id: str | None) -> list[wire.ServerEvent]:
        answer = self._narrator.answer
        thinking = answer is None and self._conversation.state != "listening"
        if not thinking and (answer is None or response_id not in {None, answer.response_id}):
            raise Refusal("response_cancel_not_active", "There is no such reply to cancel; it may be over already.")
        self._conversation.cancel(CANCELLED)
        return []

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        """A reply waits for the transcript; meanwhile the client's further messages are read."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            level = logging.WARNING if isinstance(error, EngineError) else logging.ERROR
            logger.log(level, "a reply could not be begun: %s", error, exc_info=error)


def _text(item: wire.Item) -> str:
    parts = (part.text or part.transcript or "" for part in item.content)
    return " ".join(text.strip() for text in parts if text.strip())
