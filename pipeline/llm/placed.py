"""The client side of a language model that computes in a place of its own, such as a worker process."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from pipeline.engine import Report
from pipeline.llm import Prompt, Truncated, small
from pipeline.llm.openers import Openers
from pipeline.tools.calls import ToolCall
from pipeline.workers.place import Place, PlacedEngine


class PlacedMind(PlacedEngine[Place]):
    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._parameters = small.SMALL
        self._knows_tools = False
        self._openers = Openers()

    async def start(self, report: Report) -> None:
        """Load the engine. Raises EngineError with one sentence that says what to do."""
        await super().start(report)
        self._parameters = await self._place.call("parameters")
        self._knows_tools = await self._place.call("knows_tools")

    @property
    def uses_tools(self) -> bool:
        """Whether its template supports tools, and it is not one of the smallest, which call a tool to say hello."""
        return self._knows_tools and self._parameters >= small.SMALL

    @property
    def summarises(self) -> bool:
        """False for the smallest: SmolLM2 135M invented a coat and a warm meal in a talk about a journey and a dog."""
        return self._parameters >= small.SMALL

    async def reply(self, prompt: Prompt) -> AsyncGenerator[str | ToolCall | Truncated, None]:
        written = small.reply(prompt, self.written, self._openers) if self._guarded(prompt) else self.written(prompt)
        async with aclosing(written) as pieces:
            async for piece in pieces:
                yield piece

    def _guarded(self, prompt: Prompt) -> bool:
        """Whether rules guard the model before and after it writes (small.py); they do not support tools."""
        return self._parameters < small.SMALL and not prompt.tools

    async def written(self, prompt: Prompt) -> AsyncGenerator[str | ToolCall | Truncated, None]:
        """Yield the model's own reply to the prompt."""
        async with aclosing(self._place.stream("reply", prompt)) as pieces:
            async for piece in pieces:
                if piece:
                    yield piece
