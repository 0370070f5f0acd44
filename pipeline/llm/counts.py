"""How many tokens a server's prompts take: counted by the server's tokenizer if it can be asked, otherwise estimated.

If the counts do not come in time, texts are assumed to be as dense as those counted before. A fixed estimate would not
do: in a script that it hardly knows, a tokenizer makes a token of each byte, and too long a prompt is refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from math import ceil

from pipeline.llm import Prompt
from pipeline.llm.chat import FRAME, ChatMessage, chat, size, tokens

PATIENCE_S = 0.25
"""How long a turn waits for counts. Texts not counted by then are estimated, and counted at the next turn."""

SAMPLE = "Hello, how are you today? Tell me what you have been doing since we last talked."
"""The text that is counted first, for a first estimate of the tokenizer's density."""

KNOWN = 4096
"""Number of texts whose counts are kept."""


class Counts:
    def __init__(self, ask: Callable[[str], Awaitable[int | None]]) -> None:
        self._ask = ask
        self._known: dict[str, int] = {}
        self._density = 0.0
        """The most tokens per byte of all texts counted so far."""
        self.exact = False
        """Whether the server counts; if not, the counts are estimates."""

    async def learn(self) -> None:
        """Find out whether the server counts tokens."""
        counted = await self._ask(SAMPLE)
        self.exact = counted is not None
        self._learn_density(SAMPLE, counted)

    async def fitted(self, prompt: Prompt, room: int) -> list[ChatMessage]:
        """Return the prompt's messages, of at most `room` tokens.

        A token is at least one byte, so if the bytes fit, which is nearly always so, the server is not asked.
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
                return self._estimate(text)
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
        self._known[text] = self._estimate(text) - FRAME if counted is None else counted
        self._learn_density(text, counted)

    def _learn_density(self, text: str, counted: int | None) -> None:
        length = len(text.encode())
        if counted is not None and length >= len(SAMPLE):  # a short text says little about the density
            self._density = min(1.0, max(self._density, counted / length))

    def _estimate(self, text: str) -> int:
        """Estimate the tokens of a message that has not been counted, including its frame."""
        return max(tokens(text), ceil(self._density * len(text.encode())) + FRAME)


def _bytes(text: str) -> int:
    return len(text.encode()) + FRAME
