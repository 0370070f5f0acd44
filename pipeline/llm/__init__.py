"""The language model, or mind: the Protocol that every engine in this folder implements, one file for each."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol, runtime_checkable

from pipeline.engine import Engine, EngineError
from pipeline.tools.calls import Tool, ToolCall
from rag import Recall

USER = "user"
"""How the memory refers to its owner; it refers to other speakers by their names."""


class PromptTooLong(EngineError):
    """The prompt is longer than the model can read; asking again does not help."""


@dataclass(frozen=True, slots=True)
class Message:
    role: Literal["user", "assistant", "system", "tool"]
    text: str
    """What was said. If the assistant was interrupted, only what was heard; in a tool's message, the result."""
    interrupted: bool = False
    calls: tuple[ToolCall, ...] = ()
    """The tool calls that the assistant made."""
    call_id: str = ""
    """The id of the call that a tool's message answers."""
    speaker: str = USER
    """Who said a user's message, by their name in the memory."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """Everything that a reply is made from; each engine renders it in its own form."""

    persona: str
    history: tuple[Message, ...]
    """This conversation, oldest first; the last message is the user's, to be answered."""
    recalled: Recall | None
    """Memories of other conversations: data, never instructions."""
    now: datetime
    temperature: float = 0.7
    """The temperature of sampling; 0 always takes the likeliest token."""
    max_tokens: int = 300
    """The maximum length of the reply."""
    bare: bool = False
    """Leave out the time and the memories around the question."""
    aloud: bool = False
    """The reply is spoken while it is being written. A slow mind may begin with a few words (openers.py)."""
    tools: tuple[Tool, ...] = ()
    """The tools that may be called. Engines that do not support tools ignore them."""
    speaker: str = USER
    """Who is being answered, by their name in the memory."""
    tool_choice: str = "auto"
    """auto, none, required, or the name of the tool that must be used."""


@dataclass(frozen=True, slots=True)
class Truncated:
    """The last item of a reply that was cut off at `max_tokens`."""


class LanguageModel(Engine, Protocol):
    def reply(self, prompt: Prompt) -> AsyncGenerator[str | ToolCall | Truncated, None]:
        """Yield pieces of text as they are made, then tool calls. Closing the generator stops the work, including a
        server's.

        Raises EngineError (while iterating).
        """


@runtime_checkable
class ReadsAhead(Protocol):
    """What a mind implements in addition if it keeps what it has read of a prompt."""

    async def read_ahead(self, prompt: Prompt) -> None:
        """Read everything before the user's next words, so that only those remain to be read when they arrive.

        Args:
            prompt: the prompt of the next reply; its history ends before the message that it will answer.

        Raises EngineError.
        """


@runtime_checkable
class UsesTools(Protocol):
    """What a mind implements in addition if it can call tools in the format it was trained for."""

    @property
    def uses_tools(self) -> bool:
        """Whether it calls tools well enough to be offered the owner's."""


@runtime_checkable
class Summarises(Protocol):
    """What a mind implements in addition if it can summarise a day."""

    @property
    def summarises(self) -> bool:
        """Whether it is large enough to tell what was said without making things up."""


@dataclass(frozen=True, slots=True)
class Passed:
    """The status and type of a server's answer, before its body."""

    status: int
    media_type: str


@runtime_checkable
class Passing(Protocol):
    """What a mind implements in addition if it has a server behind it."""

    def passed(self, path: str, request: Mapping[str, object]) -> AsyncGenerator[Passed | bytes, None]:
        """Forward a client's own request to the current model: yield how the server answers, then its answer as it
        arrives.

        Args:
            path: the path after /v1, such as "/chat/completions".

        Raises EngineError (while iterating).
        """
