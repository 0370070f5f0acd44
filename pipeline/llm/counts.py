"""How many tokens a server's prompts take: counted by its tokenizer where it has one to ask, estimated elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from pipeline.llm import Prompt
from pipeline.llm.chat import FRAME, ChatMessage, chat, size, tokens

PATIENCE_S = 0.25
"""How long a turn waits for counts; what has not been counted by then is estimated, and asked for at the next."""

KNOWN = 4096
"""Texts whose counts are kept."""


class Counts:
    def __init__(self, ask: Callable[[str], Awaitable[int | None]]) -> None:
        self._ask = ask
        self._known: dict[str, int] = {}
        self.exact = False
        """Whether the server counts; else the counts are estimates."""

    async def learn(self) -> None:
        """Find out whether the server counts."""
        self.exact = await self._ask("Hello.") is not None

    async def fitted(self, prompt: Prompt, room: int) -> list[ChatMessage]:
        """The prompt's messages, of at most `room` tokens.

        A token is a byte at least: where the bytes fit, which is nearly always, nobody needs to be asked.
        """
        everything = chat(prompt, 1 << 40, _bytes)
        if sum(size(message, _bytes) for message in everything) <= room:
            return everything
        if not self.exact:
            return chat(prompt, room)
        unknown: set[str] = set()

        def count(text: str) -> int:
            if text not in self._known:
                unknown.add(text)
                return tokens(text)
            return self._known[text] + FRAME

        try:
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    messages = chat(prompt, room, count)
                    if not unknown:
                        return messages
                    await asyncio.gather(*(self._count(text) for text in unknown))
                    unknown.clear()
        except TimeoutError:
            return chat(prompt, room, count)

    async def _count(self, text: str) -> None:
        if len(self._known) >= KNOWN:
            self._known.clear()
        counted = await self._ask(text)
        self._known[text] = tokens(text) - FRAME if counted is None else counted


def _bytes(text: str) -> int:
    return len(text.encode()) + FRAME
