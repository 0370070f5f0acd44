"""The built-in tools: each has its own file, and is a Builtin."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.tools.calls import Tool

Run = Callable[[Mapping[str, Any], str], Awaitable[str]]
"""With its arguments, for a conversation of that name; raises ToolFailed."""


@dataclass(frozen=True, slots=True)
class Builtin:
    tool: Tool
    line: str
    """For the owner: what it does. The tool's description is written for the language model."""
    run: Run
    works: Callable[[], bool] = lambda: True
    """Whether it can be of use just now."""


def builtin(
    name: str, description: str, line: str, run: Run, *, works: Callable[[], bool] = lambda: True, **parameters: str
) -> Builtin:
    """One whose arguments are text: each by its name, with what it is; those to be left out begin with “Optional”."""
    schema = {
        "type": "object",
        "properties": {each: {"type": "string", "description": what} for each, what in parameters.items()},
        "required": [each for each, what in parameters.items() if not what.startswith("Optional")],
    }
    return Builtin(Tool(name, description, schema, own=True), line, run, works)
