"""What Parley can do by itself besides speaking: the owner's tools, beside those that a client brings."""

from __future__ import annotations

from typing import Protocol

from pipeline.tools.calls import Tool, ToolCall

ROOM = 8000
"""Characters of all tools together, as JSON, which each prompt begins with: some 2000 tokens. What is beyond is left
out, the last ones first."""


class ToolFailed(Exception):
    """A call came to nothing: one sentence for the language model."""


class Toolbox(Protocol):
    def tools(self) -> tuple[Tool, ...]:
        """What may be called just now, each of another name."""

    def asks(self, name: str) -> bool:
        """Whether the user is asked before each call of that tool."""

    async def call(self, call: ToolCall, conversation: str) -> str:
        """Do it, for a conversation of that name; what came of it, for the language model. Raises ToolFailed."""


class Empty:
    """A Toolbox with nothing in it."""

    def tools(self) -> tuple[Tool, ...]:
        return ()

    def asks(self, name: str) -> bool:
        return False

    async def call(self, call: ToolCall, conversation: str) -> str:
        raise ToolFailed(f"There is no tool {call.name!r}.")
