"""Tracks how much a client has heard so far of the reply that it is sent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pipeline.conversation.events import Event, ReplyDone, ReplyPaused, ReplyResumed
from web.realtime import events as wire
from web.realtime.narrator import Narrator, milliseconds
from web.realtime.pace import ClientPlayback, Pace

REPORT_EVERY = 0.1
"""Seconds between two estimates of what was heard."""


class Follower:
    def __init__(self, narrator: Narrator, playback: ClientPlayback | None, heard: Callable[[int], None]) -> None:
        """
        Args:
            playback: the transport's own, if sound goes beside the messages; otherwise the clock estimates it.
            heard: called with the number of samples of the reply that were heard.
        """
        self._narrator = narrator
        self._heard = heard
        self._media = playback is not None
        self._playback = playback or Pace(asyncio.get_running_loop().time)
        self._following = ""
        """The id of the response that `_playback` counts."""
        self._whole = ""
        """The id of the last response whose sound was sent to its end."""
        self._sounded = asyncio.Event()

    def sent(self, event: wire.ServerEvent) -> None:
        """Note that the event is on its way: from now on its sound may be heard."""
        if not isinstance(event, wire.ResponseOutputAudioDelta | wire.ResponseOutputAudioDone):
            return
        answer = self._narrator.answer_of(event.item_id)
        if answer is None:
            return  # it belongs to a reply outside the conversation
        if isinstance(event, wire.ResponseOutputAudioDone):
            self._whole = event.response_id
        else:
            if self._following != event.response_id:
                self._following = event.response_id
                self._playback.begin(event.response_id)
            self._playback.sent(answer.mouth.samples_of(event.delta))
        self._sounded.set()

    async def run(self) -> None:
        """Report regularly what was heard by a client that does not report playback itself."""
        while True:
            await self._sounded.wait()
            self._sounded.clear()
            while not self._narrator.parley:
                self.report()
                left = self._playback.left
                if left <= 0:
                    break
                await asyncio.sleep(min(REPORT_EVERY, left))

    def report(self) -> None:
        answer, playback = self._narrator.answer, self._playback
        if answer is not None and answer.response_id == self._following:
            over = playback.left <= 0 and not playback.paused and self._whole == answer.response_id
            # resampling for the client may have lost a sample
            self._heard(answer.samples if over else playback.played)

    def keep_pace(self, event: Event) -> wire.ConversationItemTruncated | None:
        """Pause, resume or drop playback with the reply: a client clears what it plays when speech starts.

        If the transport plays the sound, return the event that says how much was heard of an interrupted reply.
        """
        if isinstance(event, ReplyPaused) and not self._narrator.manual:
            self._playback.pause()
        elif isinstance(event, ReplyResumed):
            self._playback.resume()
            self._sounded.set()
        elif isinstance(event, ReplyDone) and event.outcome != "completed":
            answer = self._narrator.answer
            if answer is None or answer.of != (event.turn, event.revision):
                return None  # it had not been started
            self._playback.drop(answer.response_id)
            if self._media and event.outcome == "interrupted" and answer.samples:
                played = self._playback.played if self._following == answer.response_id else 0
                return wire.ConversationItemTruncated(item_id=answer.item_id, audio_end_ms=milliseconds(played))
        return None
