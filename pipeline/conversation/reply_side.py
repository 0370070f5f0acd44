"""The assistant's turns: at most one reply at a time, from its start until its last sample is heard or it is stopped
for a stated reason."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable

from pipeline.audio import MOUTH_RATE
from pipeline.conversation.events import Outcome, ReplyDone
from pipeline.conversation.reply import Reply
from pipeline.conversation.request import USUAL, Request
from pipeline.conversation.scope import ConversationScope
from pipeline.engine import WENT_WRONG, EngineError
from pipeline.llm import Truncated
from pipeline.tools.calls import ToolCall
from pipeline.tts import Speaker, TextToSpeech
from pipeline.turns.record import TurnRecord

log = logging.getLogger(__name__)

SILENT_END_S = 10.0
"""How long the audio end may report no playback while it should be playing."""


class ReplySide:
    def __init__(
        self,
        voice: TextToSpeech,
        scope: ConversationScope,
        *,
        user_talks: Callable[[], bool],
        made: Callable[[Reply], None],
        done: Callable[[Reply, Outcome], None],
        changed: Callable[[], None],
    ) -> None:
        """`made` is called with each reply that was sent in full; `done` with each that is over, before its record is
        closed; `changed` on any change of state."""
        self.current: Reply | None = None
        self._voice = voice
        self.speaker: Speaker = voice.speaker()
        self._scope = scope
        self._user_talks = user_talks
        self._made = made
        self._done = done
        self._changed = changed
        self._task: asyncio.Task[None] | None = None

    def configure(self, voice: TextToSpeech) -> None:
        """Use another voice from the next reply on; the current reply keeps its own."""
        if voice is not self._voice:
            self._scope.clean_up(_close_after(self._task, self.speaker))
            self._voice, self.speaker = voice, voice.speaker()

    def of(self, record: TurnRecord) -> Reply | None:
        """The current reply, if it answers this turn."""
        return self.current if self.current is not None and self.current.record is record else None

    def start(
        self,
        record: TurnRecord,
        text: AsyncGenerator[str | ToolCall | Truncated, None],
        *,
        release: bool,
        request: Request = USUAL,
    ) -> None:
        """Start making a reply; nothing of it is heard until it is released."""
        if self.current is not None:
            self.finish(self.current, "interrupted", "another reply took its place")
        reply = self.current = Reply(record, text, self.speaker, self._scope.outbox, self._scope.clock, request)
        self._scope.outbox.only((reply.turn, reply.revision))
        self._task = self._scope.spawn(self._run(reply))
        if release:
            reply.release()
        self._changed()

    def played(self, samples: int) -> None:
        """Report how many samples of the current reply have really been heard so far (24 kHz)."""
        if (reply := self.current) is not None:
            reply.reached(samples)
            self._finish_if_over(reply)

    def cancel(self, why: str) -> None:
        """Stop the reply that is being made or played."""
        if self.current is not None:
            self.finish(self.current, "interrupted", why)

    def discard(self, reply: Reply) -> None:
        """Stop making a reply; unless it is over, nothing more of it leaves the outbox. Only this cancels a reply."""
        if reply is not self.current:
            return
        self.current = None
        if reply.over:
            self._scope.outbox.complete()
        else:
            self._scope.outbox.only(None)
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()
        self._task = None
        self._scope.clean_up(reply.remember())

    def waste(self, reply: Reply) -> None:
        """Discard a prepared reply that is not wanted, and count its tokens as wasted."""
        reply.record.wasted_tokens += reply.tokens
        self.discard(reply)

    def finish(self, reply: Reply, outcome: Outcome, why: str) -> None:
        """End the reply with this outcome, and report it."""
        self.discard(reply)
        record, heard = reply.record, reply.heard
        record.mark("reply_done", self._scope.clock())
        record.reply, record.heard = reply.text, heard
        self._done(reply, outcome)
        request = reply.request.id
        self._scope.outbox.post(ReplyDone(reply.turn, reply.revision, outcome, reply.text, heard, why, request))
        self._scope.close_record(record, outcome, why)
        self._changed()

    async def _run(self, reply: Reply) -> None:
        try:
            await reply.run()
        except Exception:  # a bug in an engine: whatever it is, the user must not wait forever
            log.exception("a reply could not be made")
            if reply is self.current and not reply.released and not reply.request.id:
                self.waste(reply)  # the turn has not ended; when it does, another reply is made
                return
            reply.failure = EngineError(f"{WENT_WRONG} Please say it again.")
            if reply is self.current:
                self.finish(reply, "failed", str(reply.failure))
        if reply.failure is not None:
            self._scope.notice("error", str(reply.failure))
        else:
            self._made(reply)
        self._finish_if_over(reply)
        self._changed()
        while reply is self.current:  # an audio end that sleeps or breaks must not leave the turn open forever
            before = reply.played
            await asyncio.sleep((reply.samples - before) / MOUTH_RATE + SILENT_END_S)
            if reply is self.current and reply.played == before and not self._user_talks():
                self.finish(reply, "interrupted", "the headset reported no more playback")

    def _finish_if_over(self, reply: Reply) -> None:
        if reply is not self.current or not reply.over:
            return
        if reply.failure is not None:
            self.finish(reply, "failed", str(reply.failure))
        else:
            self.finish(reply, "completed", "all of it was heard" if reply.samples else "nothing to say")


async def _close_after(reply: asyncio.Task[None] | None, speaker: Speaker) -> None:
    try:
        if reply is not None:
            await asyncio.wait([reply])
    finally:
        await speaker.close()
