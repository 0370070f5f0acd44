"""A language model's request to run a tool, instead of text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Tool:
    name: str
    description: str = ""
    """For the language model: what the tool does, and when it is useful."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """The JSON Schema of its arguments."""
    own: bool = False
    """Whether Parley runs it itself; otherwise, whoever reads the conversation's events runs it."""

    @property
    def size(self) -> int:
        """Characters of it in a prompt, as JSON."""
        return len(json.dumps([self.name, self.description, dict(self.parameters)]))


@dataclass(frozen=True, slots=True)
class ToolCall:
    id: str
    """Distinguishes its result from those of other calls; assigned by the server, or made up."""
    name: str
    """The tool's name."""
    arguments: str
    """JSON as the model wrote it, possibly invalid: whoever runs the tool checks it."""
    own: bool = False
    """As in the tool."""
