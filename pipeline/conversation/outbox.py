"""The messages that leave a conversation, in order. Only here are those of a cancelled reply dropped."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator

from pipeline.conversation.events import (
    Event,
    MicrophoneLevel,
    ReplyAudio,
    ReplyMade,
    ReplyPaused,
    ReplyResumed,
    ReplyStarted,
    ReplyText,
)

_OF_A_REPLY = (ReplyStarted, ReplyText, ReplyAudio, ReplyMade, ReplyPaused, ReplyResumed)


class Outbox:
    """A queue with one consumer. Audio waits for room; everything else is small and always fits."""

    def __init__(self, capacity: int = 256) -> None:
        self._capacity = capacity
        self._events: deque[Event] = deque()
        self._arrived = asyncio.Event()
        self._taken = asyncio.Event()
        self._reply: tuple[int, int] | None = None
        self._closed = False

    def only(self, reply: tuple[int, int] | None) -> None:
        """Let only the reply of this turn and revision leave; drop messages of any other, even if already queued."""
        self._reply = reply
        self._events = deque(event for event in self._events if not self._stale(event))
        self._taken.set()

    def complete(self) -> None:
        """Accept nothing more of the reply; what is already queued still leaves."""
        self._reply = None

    def post(self, event: Event) -> None:
        if self._closed or self._stale(event):
            return
        if isinstance(event, MicrophoneLevel) and len(self._events) >= self._capacity:
            return  # nobody is looking at the meter
        if isinstance(event, ReplyPaused):
            self._events.appendleft(event)  # queued audio before it would be played after the interruption
        else:
            self._events.append(event)
        self._arrived.set()

    async def room(self) -> None:
        """Wait until the consumer has caught up enough for more audio."""
        while len(self._events) >= self._capacity and not self._closed:
            self._taken.clear()
            await self._taken.wait()

    async def __aiter__(self) -> AsyncIterator[Event]:
        while True:
            while not self._events:
                if self._closed:
                    return
                self._arrived.clear()
                await self._arrived.wait()
            event = self._events.popleft()
            self._taken.set()
            yield event

    def close(self) -> None:
        """End the iteration after what is already queued has been delivered."""
        self._closed = True
        self._arrived.set()
        self._taken.set()

    def _stale(self, event: Event) -> bool:
        return isinstance(event, _OF_A_REPLY) and (event.turn, event.revision) != self._reply
