"""The messages that leave a conversation, in order; the one place where those of a cancelled reply are dropped."""

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
    """A queue with one consumer. Sound waits for room; everything else is small and always fits."""

    def __init__(self, capacity: int = 256) -> None:
        self._capacity = capacity
        self._events: deque[Event] = deque()
        self._arrived = asyncio.Event()
        self._taken = asyncio.Event()
        self._reply: tuple[int, int] | None = None
        self._closed = False

    def only(self, reply: tuple[int, int] | None) -> None:
        """Nothing leaves any more of a reply other than this turn's and revision's, not even what is already queued."""
        self._reply = reply
        self._events = deque(event for event in self._events if not self._stale(event))
        self._taken.set()

    def complete(self) -> None:
        """Nothing more comes of the reply; what is queued of it still leaves."""
        self._reply = None

    def post(self, event: Event) -> None:
        if self._closed or self._stale(event):
            return
        if isinstance(event, MicrophoneLevel) and len(self._events) >= self._capacity:
            return  # nobody is looking at the meter
        if isinstance(event, ReplyPaused):
            self._events.appendleft(event)  # what is queued would be sound played after the interruption
        else:
            self._events.append(event)
        self._arrived.set()

    async def room(self) -> None:
        """Wait until the consumer has caught up enough for more sound."""
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
        """What is queued is still delivered; then the iteration ends."""
        self._closed = True
        self._arrived.set()
        self._taken.set()

    def _stale(self, event: Event) -> bool:
        return isinstance(event, _OF_A_REPLY) and (event.turn, event.revision) != self._reply
