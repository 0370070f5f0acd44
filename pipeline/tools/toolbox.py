"""Tools that Parley runs itself, as opposed to those of a client."""

from __future__ import annotations

from typing import Protocol

from pipeline.tools.calls import Tool, ToolCall

ROOM = 8000
"""Characters of all tools together, as JSON at the beginning of each prompt: about 2000 tokens. Tools beyond this limit
are left out."""


class ToolFailed(Exception):
    """A call failed; the message is one sentence for the language model."""


class Toolbox(Protocol):
    def tools(self) -> tuple[Tool, ...]:
        """Return the tools that may be called now, each with a unique name."""

    def asks(self, name: str) -> bool:
        """Whether the user must be asked before each call of that tool."""

    async def call(self, call: ToolCall, conversation: str) -> str:
        """Run a call for the named conversation. Return the result for the language model. Raises ToolFailed."""


class Empty:
    """A Toolbox without tools."""

    def tools(self) -> tuple[Tool, ...]:
        return ()

    def asks(self, name: str) -> bool:
        return False

    async def call(self, call: ToolCall, conversation: str) -> str:
        raise ToolFailed(f"There is no tool {call.name!r}.")
