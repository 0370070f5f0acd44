"""Openers: the few words with which people begin while still thinking, such as "Well, let me see."

Speakers who expect a delay announce it, and listeners take that as the beginning of the answer (Clark and Fox Tree,
"Using uh and um in spontaneous speaking", Cognition 84, 2002). Openers commit to nothing, so any sentence may follow.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from dataclasses import replace

from pipeline.llm import Message, Prompt, Truncated
from pipeline.llm.builtin.facts import is_question

AFTER_A_QUESTION = ("Let me think.", "Well, let me see.", "Let me see.", "Well, let me think.")
AFTER_A_STATEMENT = ("I see.", "Oh, I see.", "All right.", "Ah, okay.", "Oh, right.")
OPENERS = (*AFTER_A_QUESTION, *AFTER_A_STATEMENT)

SOON_S = 0.05
"""A reply that begins within this time needs no opener. People answer each other after 0.2 s (Stivers et al., PNAS 106,
2009), and end-of-turn detection and speech recognition must also fit into that."""


class Openers:
    """Begins the replies of one model. If its last reply took too long to begin, the next opener comes at once."""

    def __init__(self) -> None:
        self._late = False

    async def opened(
        self, prompt: Prompt, reply: AsyncGenerator[str | Truncated, None]
    ) -> AsyncGenerator[str | Truncated, None]:
        """Yield the reply, after an opener if it does not begin soon. Closes `reply` at the end."""
        async with aclosing(reply):
            first = asyncio.create_task(self._first(reply))
            try:
                if self._late or not (await asyncio.wait({first}, timeout=SOON_S))[0]:
                    yield f"{_opener(prompt)} "
                piece = await first
            finally:
                first.cancel()
                await asyncio.gather(first, return_exceptions=True)
            if piece is not None:
                yield piece
            async for piece in reply:
                yield piece

    async def _first(self, reply: AsyncGenerator[str | Truncated, None]) -> str | Truncated | None:
        clock = asyncio.get_running_loop().time
        began = clock()
        piece = await anext(reply, None)
        self._late = clock() - began > SOON_S
        return piece


def without_opener(message: Message) -> Message:
    """Remove the opener of an assistant's message; if the model saw openers in its replies, it would imitate them."""
    for opener in OPENERS:
        if message.role == "assistant" and message.text.startswith(f"{opener} "):
            return replace(message, text=message.text.removeprefix(opener).lstrip())
    return message


def _opener(prompt: Prompt) -> str:
    """Choose an opener, a different one each time."""
    phrases = AFTER_A_QUESTION if is_question(prompt.history[-1].text) else AFTER_A_STATEMENT
    return phrases[_count(prompt.history, phrases) % len(phrases)]


def _count(history: Iterable[Message], phrases: tuple[str, ...]) -> int:
    return sum(message.role == "assistant" and message.text.startswith(phrases) for message in history)
