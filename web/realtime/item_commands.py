"""Commands of a client that add, correct and delete items of the conversation."""

from __future__ import annotations

import numpy as np

from pipeline.conversation.conversation import Conversation
from pipeline.conversation.history import Entry
from pipeline.engine import EngineError
from pipeline.llm import Message
from pipeline.tools.calls import ToolCall
from pipeline.tools.results import bounded
from web.realtime import events as wire
from web.realtime import parts
from web.realtime.items import ROOT
from web.realtime.narrator import CANCELLED, Narrator, milliseconds, samples_in
from web.realtime.pcm import Encoding, SoundError, ToEar, decoded
from web.realtime.reading import Refusal

MAX_ITEMS = 1000
"""The number of items in a conversation at which a client can add no more."""


class ItemCommands:
    """Each method raises Refusal if the command cannot be carried out, and then has changed nothing."""

    def __init__(self, conversation: Conversation, narrator: Narrator) -> None:
        self._conversation = conversation
        self._narrator = narrator
        self._typed: parts.Message | None = None
        """What the user typed, until a reply turns it into a turn."""
        self._made = 0
        """How many ids have been generated for the client's items."""

    async def create(self, event: wire.ConversationItemCreate, encoding: Encoding) -> list[wire.ServerEvent]:
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
                item = await self._transcribed(item, encoding)
            case parts.FunctionCall():
                item.call_id = item.call_id or item.id
                self._narrator.calls.add(item.call_id or "")
            case parts.FunctionCallOutput() if item.call_id not in self._narrator.calls:
                raise Refusal("invalid_call_id", f"No call {item.call_id!r} is waiting for its output.", "item.call_id")
            case parts.FunctionCallOutput():
                self._narrator.calls.remove(item.call_id)
                self._conversation.settled_call(item.call_id)
                item.output = bounded(item.output)
        self.keep_typed()
        last = after in {None, items.last} or (after == ROOT and not items)
        if isinstance(item, parts.Message) and item.role == "user" and last:
            self._typed = item
        else:
            self.keep(item, None if last else after)
        return self._narrator.add(item, after)

    def _new_id(self) -> str:
        self._made += 1
        return f"item_client_{self._made}"

    async def _transcribed(self, item: parts.Message, encoding: Encoding) -> parts.Message:
        """Return the message with its sound transcribed. Raises Refusal if a language model cannot be given it."""
        _without_images(item, "item.content")
        content = []
        for part in item.content:
            words = part.transcript or part.text
            if part.type == "input_audio" and part.audio and not words:
                words = await self._understood(part.audio, encoding)
            name = "transcript" if part.type.endswith("_audio") else "text"
            content.append(part.model_copy(update={name: words, "audio": None}))
        item = item.model_copy(update={"content": content})
        if not item.text:
            raise Refusal("invalid_value", "The item has no text.", "item.content")
        return item

    async def _understood(self, audio: str, encoding: Encoding) -> str:
        try:
            ear = ToEar(encoding)
            samples = ear.feed(decoded(audio, ear.encoding))
            return await self._conversation.understood(np.concatenate([samples, ear.flush()]))
        except SoundError as error:
            raise Refusal("invalid_audio", str(error), "item.content") from None
        except EngineError as error:
            raise Refusal("engine_error", f"The recording was not understood: {error}", "item.content") from error

    def keep(self, item: parts.Item, after: str | None = None) -> None:
        """Add the item to the history: at the end, or after an item or ROOT."""
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
        """Return the position after an item in the history, which does not contain every item."""
        history, ids = self._conversation.history, self._narrator.items.ids
        for earlier in reversed(ids[: ids.index(item_id) + 1] if item_id != ROOT else []):
            if (entry := self._entry(earlier)) is not None and (place := history.place(entry.id)) is not None:
                return place + 1
        return 0

    def keep_typed(self) -> None:
        """Move text that was typed but not answered into the history, as the conversation has gone on."""
        if self._typed is not None:
            self.keep(self._typed)
            self._typed = None

    def _item(self, item_id: str, code: str) -> parts.Item:
        item = self._narrator.items.find(item_id)
        if item is None:
            raise Refusal(code, f"There is no item {item_id!r}.", "item_id")
        return item

    def _entry(self, item_id: str) -> Entry | None:
        """Return the history's entry for an item; a reply that was not heard has none."""
        history, item = self._conversation.history, self._narrator.items.find(item_id)
        turn = self._narrator.turn_of(item_id)
        if turn is None:
            return history.find(item_id)
        role = item.role if isinstance(item, parts.Message) else "assistant"
        of_turn = [entry for entry in history.entries if entry.turn == turn and entry.role == role]
        return next((entry for entry in reversed(of_turn) if not entry.calls), None)

    def truncate(self, event: wire.ConversationItemTruncate) -> list[wire.ServerEvent]:
        """Cut a reply down to what the client says was really heard, and stop it if it is still going on."""
        answer = self._narrator.answer_of(event.item_id)
        told = wire.ConversationItemTruncated(
            item_id=event.item_id, content_index=event.content_index, audio_end_ms=event.audio_end_ms
        )
        if answer is None:
            self._item(event.item_id, "item_truncate_invalid_item_id")
            raise Refusal("invalid_value", "Only a spoken reply can be truncated.", "item_id")
        if event.item_id not in self._narrator.items:
            return [told]  # the reply was withdrawn meanwhile: the history holds nothing of it
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

    def delete(self, item_id: str) -> list[wire.ServerEvent]:
        self._item(item_id, "item_delete_invalid_item_id")
        entry = self._entry(item_id)
        if self._typed is not None and self._typed.id == item_id:
            self._typed = None
        elif entry is not None:
            self._conversation.history.delete(entry.id)
        return [self._narrator.remove(item_id)]

    def retrieve(self, item_id: str) -> list[wire.ServerEvent]:
        return [wire.ConversationItemRetrieved(item=self._item(item_id, "item_retrieve_invalid_item_id"))]

    def take_typed(self) -> parts.Message | None:
        """Return what the user typed, to be made a turn."""
        typed, self._typed = self._typed, None
        return typed

    def given(self, item: parts.Item | parts.ItemReference) -> Message:
        """Return an item of a reply's `input` as a message for the language model. Raises Refusal."""
        if isinstance(item, parts.ItemReference):
            item = self._item(item.id, "item_reference_invalid_item_id")
        if isinstance(item, parts.Message):
            _without_images(item, "response.input")
        return _message(item)


def _without_images(item: parts.Message, param: str) -> None:
    """Raises Refusal if the message has an image."""
    if any(part.type == "input_image" for part in item.content):
        raise Refusal("image_not_supported", "The language model cannot see images: send text.", param)


def _message(item: parts.Item) -> Message:
    """Return the item as a message for the language model."""
    match item:
        case parts.Message():
            return Message(item.role, item.text)
        case parts.FunctionCall():
            call = ToolCall(item.call_id or item.id or "", item.name, item.arguments)
            return Message("assistant", "", calls=(call,))
        case parts.FunctionCallOutput():
            return Message("tool", item.output, call_id=item.call_id)
