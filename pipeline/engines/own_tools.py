"""The owner's tools, with what the running engines know: the memory."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from config.settings import Settings
from pipeline.engine import EngineError
from pipeline.engines.running import Engines
from pipeline.tools.builtin.clock import clock_tools
from pipeline.tools.builtin.said import said_tools
from pipeline.tools.builtin.timers import Timers
from pipeline.tools.owner import OwnerTools
from pipeline.tools.toolbox import ToolFailed

FOUND = 2000
"""Characters of what a search in earlier conversations gives back."""


def own_tools(
    engines: Engines, timers: Timers, settings: Callable[[], Settings], now: Callable[[], datetime]
) -> OwnerTools:
    """`settings` are those in force, `now` is the wall clock."""

    async def search(query: str, conversation: str) -> str:
        try:
            memory = engines.memory()
            found = await memory.recall(query, budget_chars=FOUND, exclude_conversation=conversation, asker="user")
        except EngineError as error:
            raise ToolFailed(str(error)) from error
        return found.text

    remembers = said_tools(search, lambda: settings().memory.enabled)
    return OwnerTools([*clock_tools(now), *timers.tools, *remembers], settings().tools)
