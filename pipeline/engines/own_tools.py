"""The owner's tools that need the running engines: those that use the memory."""

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
"""Maximum characters that a search in earlier conversations returns."""


def own_tools(
    engines: Engines, timers: Timers, settings: Callable[[], Settings], now: Callable[[], datetime]
) -> OwnerTools:
    """Return the owner's tools. `settings` returns those in force, `now` is the wall clock."""

    async def search(query: str, conversation: str) -> str:
        try:
            memory = engines.memory()
            found = await memory.recall(query, budget_chars=FOUND, exclude_conversation=conversation, asker="user")
        except EngineError as error:
            raise ToolFailed(str(error)) from error
        return found.text

    remembers = said_tools(search, lambda: settings().memory.enabled)
    return OwnerTools([*clock_tools(now), *timers.tools, *remembers], settings().tools)
