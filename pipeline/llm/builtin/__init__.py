"""The built-in replies: a small rule-based companion that needs no download, and admits what it is.

`words` normalises what was heard, `facts` reads what the user told and asked about themselves, `knowledge` keeps the
newest of it, `arithmetic` calculates, `answers` computes answers, and `rules` is the table of everything it can answer.
pipeline.tools.builtin.places knows the time elsewhere.
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
        """Do nothing, since there is nothing to load."""

    async def stop(self) -> None:
        """Do nothing, since there is nothing to release."""

    @property
    def status(self) -> EngineStatus:
        return EngineStatus("builtin", "ready")

    async def reply(self, prompt: Prompt) -> AsyncGenerator[str, None]:
        """Yield the answer word by word, as a language model's tokens would come."""
        for piece in re.findall(r"\s*\S+", await asyncio.to_thread(answer, prompt)):
            yield piece
            await asyncio.sleep(0)
