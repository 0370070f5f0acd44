"""What a reply should be like."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.llm import Message
from pipeline.tools.calls import Tool


@dataclass(frozen=True, slots=True)
class Request:
    """What a reply should be like where it differs from the settings; each field's default leaves it to them."""

    id: str = ""
    """Lets the requester recognise the reply; empty if the reply follows from a turn by itself."""
    persona: str | None = None
    history: tuple[Message, ...] | None = None
    """The messages to reply to, in place of what was said in the conversation."""
    max_tokens: int | None = None
    spoken: bool = True
    """False: send only text, as it is written."""
    tools: tuple[Tool, ...] = ()
    """The client's tools. The language model may call them; whoever reads the conversation's events runs them."""
    tool_choice: str = "auto"
    """auto, none, required, or the name of the tool that must be used."""
    kept: bool = True
    """Whether what is heard enters the history and the memory. False if it only fills a silence or asks for consent."""


USUAL = Request()
