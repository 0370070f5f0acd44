"""The built-in tools, each in its own file as a Builtin."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.tools.calls import Tool

Run = Callable[[Mapping[str, Any], str], Awaitable[str]]
"""Runs the tool with its arguments for the named conversation; raises ToolFailed."""


@dataclass(frozen=True, slots=True)
class Builtin:
    tool: Tool
    line: str
    """What it does, for the owner; the tool's description is for the language model."""
    run: Run
    works: Callable[[], bool] = lambda: True
    """Whether the tool is useful right now."""


def builtin(
    name: str, description: str, line: str, run: Run, *, works: Callable[[], bool] = lambda: True, **parameters: str
) -> Builtin:
    """Make a tool whose arguments are texts, given as name and description; optional ones begin with “Optional”."""
    schema = {
        "type": "object",
        "properties": {each: {"type": "string", "description": what} for each, what in parameters.items()},
        "required": [each for each, what in parameters.items() if not what.startswith("Optional")],
    }
    return Builtin(Tool(name, description, schema, own=True), line, run, works)
