"""The mind: the Protocol of what answers. One file an engine beside this one."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol, runtime_checkable

from pipeline.engine import Engine, EngineError
from pipeline.tools.calls import Tool, ToolCall
from rag import Recall

USER = "user"
"""How the memory knows whoever it belongs to; others who speak it knows by their names."""


class PromptTooLong(EngineError):
    """More than the model reads at once; to ask again is of no use."""


@dataclass(frozen=True, slots=True)
class Message:
    role: Literal["user", "assistant", "system", "tool"]
    text: str
    """For an assistant's message that was interrupted: only what was heard. For a tool's: what it gave back."""
    interrupted: bool = False
    calls: tuple[ToolCall, ...] = ()
    """What the assistant asked to have done."""
    call_id: str = ""
    """Of the call that a tool's message answers."""
    speaker: str = USER
    """Who said what is the user's, as the memory knows them."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """All that a reply is made from; an engine renders it in its own form."""

    persona: str
    history: tuple[Message, ...]
    """This conversation, oldest first; the last message is the user's, and is what is answered."""
    recalled: Recall | None
    """Memories of other conversations: data, never instructions."""
    now: datetime
    temperature: float = 0.7
    """Of sampling; 0 takes the likeliest token always."""
    max_tokens: int = 300
    """Of the reply."""
    bare: bool = False
    """Without the time and the memories around what is asked."""
    tools: tuple[Tool, ...] = ()
    """What may be asked for. Engines that know of no tools pass over them."""
    speaker: str = USER
    """Who is answered, as the memory knows them."""
    tool_choice: str = "auto"
    """auto, none, required, or the name of the tool that must be used."""


@dataclass(frozen=True, slots=True)
class Truncated:
    """The last thing of a reply that had to end at `max_tokens`, in the middle of what it would have said."""


class LanguageModel(Engine, Protocol):
    def reply(self, prompt: Prompt) -> AsyncGenerator[str | ToolCall | Truncated, None]:
        """Pieces of text as they are made, then calls of tools. Closing the generator stops the work, at a server too.

        Raises EngineError (while iterating).
        """


@runtime_checkable
class ReadsAhead(Protocol):
    """What a mind adds that keeps what it has read of a prompt."""

    async def read_ahead(self, prompt: Prompt) -> None:
        """Read all that stands before the user's next words, so that only those are left to read when they come.

        Args:
            prompt: of the reply to come; its history ends before what that will answer.

        Raises EngineError.
        """


@runtime_checkable
class UsesTools(Protocol):
    """What a mind adds that can call tools in the form of its own that it was trained for."""

    @property
    def uses_tools(self) -> bool:
        """Whether it calls them so well that it is offered the owner's."""


@runtime_checkable
class Summarises(Protocol):
    """What a mind adds that can tell what was said in a day."""

    @property
    def summarises(self) -> bool:
        """Whether it tells what was said and not what it made up, as the smallest models do."""


@dataclass(frozen=True, slots=True)
class Passed:
    """How a server answers, before what it answers."""

    status: int
    media_type: str


@runtime_checkable
class Passing(Protocol):
    """What a mind adds that has a server behind it."""

    def passed(self, path: str, request: Mapping[str, object]) -> AsyncGenerator[Passed | bytes, None]:
        """A client's own request, for the model in use: how the server answers, then its answer as it comes.

        Args:
            path: behind /v1, such as "/chat/completions".

        Raises EngineError (while iterating).
        """
