"""What a reply should be like."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.llm import Message
from pipeline.tools.calls import Tool


@dataclass(frozen=True, slots=True)
class Request:
    """Beside the settings, to which each field's default leaves it."""

    id: str = ""
    """By which whoever asked knows the reply; empty for one that follows from a turn by itself."""
    persona: str | None = None
    history: tuple[Message, ...] | None = None
    """What it is made from, in place of what was said in the conversation."""
    max_tokens: int | None = None
    spoken: bool = True
    """False: text alone, as it is written."""
    tools: tuple[Tool, ...] = ()
    """The client's: what the language model may ask for, and whoever reads the conversation's events runs."""
    tool_choice: str = "auto"
    """auto, none, required, or the name of the tool that must be used."""
    kept: bool = True
    """What is heard of it is history, and remembered; not where it only fills a silence, or asks for a yes."""


USUAL = Request()
