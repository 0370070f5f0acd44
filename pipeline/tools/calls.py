"""What a language model asks to have done, in place of text."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ToolCall:
    id: str
    """By which its result is told from those of other calls; the server's own, or one that was made up for it."""
    name: str
    """Of the tool."""
    arguments: str
    """JSON as the model wrote it, which need not be valid: whoever runs the tool checks it."""
