"""How a client's messages change its conversation. This file handles the session and sound; item_commands and
reply_commands handle items and replies."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from config import Settings
from pipeline.audio import Samples
from pipeline.conversation.conversation import Conversation
from pipeline.conversation.stages import Stages
from web.realtime import events as wire
from web.realtime import parts
from web.realtime.item_commands import ItemCommands
from web.realtime.narrator import CANCELLED, Narrator
from web.realtime.options import Wishes, in_force, undeclared
from web.realtime.pcm import FromMouth, SoundError, ToEar, decoded
from web.realtime.reading import Refusal, refused
from web.realtime.reply_commands import ReplyCommands


class Commands:
    def __init__(
        self,
        conversation: Conversation,
        narrator: Narrator,
        settings: Settings,
        wishes: Wishes,
        tell: Callable[[wire.ServerEvent], Awaitable[None]],
    ) -> None:
        """`tell` sends what follows from a message later, in addition to the conversation's events."""
        self._conversation = conversation
        self._narrator = narrator
        self._settings = settings
        self._wishes = wishes
        self._items = ItemCommands(conversation, narrator)
        self._replies = ReplyCommands(conversation, narrator, self._items, tell)
        self._ear = ToEar()
        self._appended = 0
        """Samples received since the last commit or clear."""
        self._apply()

    @property
    def session(self) -> parts.Session:
        return in_force(self._conversation.name, self._settings, self._wishes)

    def configure(self, settings: Settings, stages: Stages) -> None:
        """Apply settings that the user has changed; this client's own wishes stay."""
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
        """Return the direct answers to a message; what follows from it comes through the conversation's events.

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
                return await self._items.create(event, self._ear.encoding)
            case wire.ConversationItemRetrieve():
                return self._items.retrieve(event.item_id)
            case wire.ConversationItemTruncate():
                return self._items.truncate(event)
            case wire.ConversationItemDelete():
                return self._items.delete(event.item_id)
            case wire.ResponseCreate():
                return self._replies.create(event.response or parts.ResponseOptions(), self._wishes)
            case wire.ResponseCancel():
                return self._replies.cancel(event.response_id, self._wishes)
            case wire.OutputAudioBufferClear():
                self._stop_playing()
            case wire.ParleyPlayback():
                answer = self._narrator.answer
                if answer is not None and answer.response_id == event.response_id:  # else it reports on an older one
                    self._conversation.played(event.samples)
            case wire.ParleyToolAnswer():
                if not self._conversation.allow(event.call_id, event.allow):
                    raise Refusal("invalid_call_id", "This call is no longer waiting for an answer.", "call_id")
        return []

    async def close(self) -> None:
        await self._replies.close()

    def hear(self, samples: Samples) -> None:
        """Take 16 kHz sound that does not come in messages."""
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
            await asyncio.sleep(0)  # a second at a time, so that a long message does not block the event loop
        return []

    async def _commit(self) -> list[wire.ServerEvent]:
        if not self._appended:
            raise Refusal("input_audio_buffer_commit_empty", "There is no sound to commit: append some first.")
        await self._everything_heard()
        self._items.keep_typed()
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

    def _stop_playing(self) -> None:
        if not self._wishes.media:
            raise Refusal(
                "invalid_value",
                "The client plays the sound here: stop playing, and send conversation.item.truncate.",
                "type",
            )
        if self._narrator.answer is not None:
            self._conversation.cancel(CANCELLED)
