"""The built-in replies: a small rule-based companion that needs no download, and says that it is one.

`words` makes what was heard comparable, `facts` reads what the user told and asked about themselves, `knowledge`
keeps the newest of it, `arithmetic` calculates, `places` knows the time elsewhere, and `rules` is the table of
everything it can answer.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator

from pipeline.engine import EngineStatus, Report
from pipeline.llm import Prompt
from pipeline.llm.builtin.rules import answer

__all__ = ["BuiltinReplies"]


class BuiltinReplies:
    """A LanguageModel without a model and without a state: the same prompt always gets the same reply."""

    async def start(self, report: Report) -> None:
        """There is nothing to load."""

    async def stop(self) -> None:
        """There is nothing to let go of."""

    @property
    def status(self) -> EngineStatus:
        return EngineStatus("builtin", "ready")

    async def reply(self, prompt: Prompt) -> AsyncGenerator[str, None]:
        """The answer, word by word, as a language model's tokens would come."""
        for piece in re.findall(r"\s*\S+", await asyncio.to_thread(answer, prompt)):
            yield piece
            await asyncio.sleep(0)
