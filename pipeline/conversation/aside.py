"""A reply outside the conversation: it disturbs nothing, and none of it enters the history."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from pipeline.conversation.events import Event, ReplyAudio
from pipeline.conversation.outbox import Outbox
from pipeline.conversation.reply import Reply
from pipeline.conversation.request import Request
from pipeline.llm import Truncated
from pipeline.tools.calls import ToolCall
from pipeline.tts import Speaker
from pipeline.turns.record import TurnRecord


async def aside(
    text: AsyncGenerator[str | ToolCall | Truncated, None], speaker: Speaker, request: Request
) -> AsyncGenerator[Event, None]:
    """Yield the reply's events, up to ReplyMade. Closes the speaker at the end."""
    outbox = Outbox()
    reply = Reply(TurnRecord("", 0), text, speaker, outbox, asyncio.get_running_loop().time, request)
    outbox.only((reply.turn, reply.revision))
    reply.release()
    making = asyncio.create_task(reply.run())
    making.add_done_callback(lambda _: outbox.close())
    try:
        async for event in outbox:
            if isinstance(event, ReplyAudio):
                reply.reached(reply.samples)  # nobody reports playback here, so everything counts as heard
            yield event
        making.result()
    finally:
        making.cancel()
        await asyncio.gather(making, return_exceptions=True)
        await speaker.close()
