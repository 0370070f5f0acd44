"""The objects in the messages of `/v1/realtime`: sessions, items, responses, errors, named as in OpenAI's GA API.

The stock SDK can parse whatever the server sends. docs/REALTIME.md describes the same in prose.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    SerializerFunctionWrapHandler,
    Tag,
    model_serializer,
    model_validator,
)

LONGEST_TEXT = 200_000
"""The most characters in instructions, in an item's text, and in a tool's output."""


class WireModel(BaseModel):
    model_config = ConfigDict(extra="forbid")

    told_empty: ClassVar[frozenset[str]] = frozenset()
    """Fields that are sent as null when they have no value; other empty fields are left out."""

    @model_serializer(mode="wrap")
    def _told(self, told: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = told(self)
        for name in self.empty():
            fields.setdefault(name, None)
        return fields

    def empty(self) -> frozenset[str]:
        return self.told_empty


# --- sound and turns --------------------------------------------------------------------------------------------------


class PcmFormat(WireModel):
    """16-bit little-endian mono."""

    type: Literal["audio/pcm"] = "audio/pcm"
    rate: Literal[24000] = 24000


class UlawFormat(WireModel):
    """G.711 μ-law at 8 kHz, as telephones use it in America and Japan."""

    type: Literal["audio/pcmu"] = "audio/pcmu"


class AlawFormat(WireModel):
    """G.711 A-law at 8 kHz, as telephones use it elsewhere."""

    type: Literal["audio/pcma"] = "audio/pcma"


Format = Annotated[PcmFormat | UlawFormat | AlawFormat, Field(discriminator="type")]


class ServerVad(WireModel):
    type: Literal["server_vad"] = "server_vad"
    threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    prefix_padding_ms: Annotated[int, Field(ge=0)] | None = None
    silence_duration_ms: Annotated[int, Field(ge=0)] | None = None
    """End a turn by silence alone, after this long; None: as chosen on the setup page."""
    create_response: bool | None = None
    """False: turns are detected, but answered only on `response.create`."""
    interrupt_response: bool | None = None
    """False: a reply is spoken to its end, even if someone speaks meanwhile."""
    idle_timeout_ms: Annotated[int, Field(ge=0)] | None = None


class SemanticVad(WireModel):
    """Voice and words together decide whether the user has finished."""

    type: Literal["semantic_vad"] = "semantic_vad"
    eagerness: Literal["low", "medium", "high", "auto"] | None = None
    create_response: bool | None = None
    interrupt_response: bool | None = None


class Transcription(WireModel):
    """Accepted from a client and answered with the values in force: speech recognition is chosen on the setup page."""

    model: str | None = None
    language: str | None = None
    languages: list[str] | None = None
    prompt: str | None = None
    keywords: list[str] | None = None
    delay: Any = None


class AudioInput(WireModel):
    format: Format | None = None
    turn_detection: Annotated[ServerVad | SemanticVad, Field(discriminator="type")] | None = None
    transcription: Transcription | None = None
    noise_reduction: Any = None

    told_empty = frozenset({"turn_detection"})


class AudioOutput(WireModel):
    format: Format | None = None
    voice: Any = None
    speed: Any = None


class Audio(WireModel):
    input: AudioInput | None = None
    output: AudioOutput | None = None


# --- tools ------------------------------------------------------------------------------------------------------------


class FunctionTool(WireModel):
    """A tool that the client runs itself."""

    type: Literal["function"] = "function"
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,128}$")]
    description: Annotated[str, Field(max_length=20_000)] | None = None
    parameters: dict[str, Any] | None = None
    """A JSON Schema."""
    strict: Any = None

    @model_validator(mode="before")
    @classmethod
    def _own(cls, tool: Any) -> Any:
        """Refuse MCP servers: one named by a session would be contacted from inside the user's network."""
        if isinstance(tool, dict) and tool.get("type") == "mcp":
            raise ValueError("tools of an MCP server are chosen by the owner on the setup page, not by a session")
        return tool


def _of_different_names(tools: list[FunctionTool]) -> list[FunctionTool]:
    names = [tool.name for tool in tools]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"two tools have the name {twice}: give each its own name")
    return tools


Tools = Annotated[list[FunctionTool], Field(max_length=128), AfterValidator(_of_different_names)]


class ChosenFunction(WireModel):
    type: Literal["function"] = "function"
    name: str


def _choice(choice: object) -> object:
    named = isinstance(choice, dict) and choice.get("type") == "function" and isinstance(choice.get("name"), str)
    if choice in ("auto", "none", "required") or isinstance(choice, ChosenFunction) or named:
        return choice
    raise ValueError("say auto, none, required, or name a function")


ToolChoice = Annotated[Literal["auto", "none", "required"] | ChosenFunction, BeforeValidator(_choice)]


# --- the session ------------------------------------------------------------------------------------------------------


class ParleyOptions(WireModel):
    """Its presence asks for the `parley.` messages; the client must then report what it has played."""


Modality = Literal["audio", "text"]
Modalities = Annotated[list[Modality], Field(min_length=1, max_length=2)]
MostTokens = Annotated[int, Field(ge=1)] | Literal["inf"]
Instructions = Annotated[str, Field(max_length=LONGEST_TEXT)]


class Session(WireModel):
    """The fields of the GA session. Those typed `Any` are accepted but not used; `session.updated` says which apply."""

    type: Literal["realtime", "transcription"] = "realtime"
    id: str | None = None
    object: str | None = None
    model: str | None = None
    instructions: Instructions | None = None
    output_modalities: Modalities | None = None
    audio: Audio | None = None
    tools: Tools | None = None
    tool_choice: ToolChoice | None = None
    max_output_tokens: MostTokens | None = None
    parallel_tool_calls: bool | None = None
    include: Any = None
    prompt: Any = None
    reasoning: Any = None
    tracing: Any = None
    truncation: Any = None
    expires_at: int | None = None
    parley: ParleyOptions | None = None


# --- items ------------------------------------------------------------------------------------------------------------

ItemStatus = Literal["completed", "incomplete", "in_progress"]
Role = Literal["user", "assistant", "system"]
ItemId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,128}$")]


class Content(WireModel):
    type: Literal["input_text", "input_audio", "input_image", "output_text", "output_audio"]
    text: Annotated[str, Field(max_length=LONGEST_TEXT)] | None = None
    transcript: Annotated[str, Field(max_length=LONGEST_TEXT)] | None = None
    audio: str | None = None
    """Base64 of sound in the session's input format."""
    image_url: str | None = None
    detail: Any = None

    def empty(self) -> frozenset[str]:
        """agents-realtime rejects an audio item without the `transcript` field, so it is sent even if it is null."""
        return frozenset({"transcript"}) if self.type.endswith("_audio") else frozenset()


CONTENTS: Mapping[Role, frozenset[str]] = {
    "user": frozenset({"input_text", "input_audio", "input_image"}),
    "assistant": frozenset({"output_text", "output_audio"}),
    "system": frozenset({"input_text"}),
}
"""The content types that a message of each role may hold."""


class _Item(WireModel):
    id: ItemId | None = None
    object: Literal["realtime.item"] | None = "realtime.item"
    status: ItemStatus | None = None


class Message(_Item):
    type: Literal["message"] = "message"
    role: Role
    content: Annotated[list[Content], Field(max_length=64)]

    @model_validator(mode="after")
    def _fits(self) -> Message:
        if wrong := [part.type for part in self.content if part.type not in CONTENTS[self.role]]:
            possible = " or ".join(sorted(CONTENTS[self.role]))
            raise ValueError(f"the content of a {self.role} message is {possible}, not {wrong[0]}")
        return self

    @property
    def text(self) -> str:
        """The message's words, written or spoken."""
        parts = (part.text or part.transcript or "" for part in self.content)
        return " ".join(text.strip() for text in parts if text.strip())


class FunctionCall(_Item):
    type: Literal["function_call"] = "function_call"
    call_id: Annotated[str, Field(max_length=128)] | None = None
    name: Annotated[str, Field(max_length=128)]
    arguments: Annotated[str, Field(max_length=LONGEST_TEXT)]


class FunctionCallOutput(_Item):
    type: Literal["function_call_output"] = "function_call_output"
    call_id: Annotated[str, Field(max_length=128)]
    output: str
    """Output that is too long for a language model is cut off, with a note that says so."""


def _kind(item: object) -> object:
    """Return the item's type; an item without a type is a message."""
    return item.get("type", "message") if isinstance(item, dict) else getattr(item, "type", None)


Item = Annotated[
    Annotated[Message, Tag("message")]
    | Annotated[FunctionCall, Tag("function_call")]
    | Annotated[FunctionCallOutput, Tag("function_call_output")],
    Discriminator(_kind),
]


class ItemReference(WireModel):
    """A reference to an item of the conversation by its id."""

    type: Literal["item_reference"] = "item_reference"
    id: str


def _reference(item: object) -> object:
    """Turn a bare id into an `item_reference`: clients use either."""
    bare = isinstance(item, dict) and "id" in item and not {"role", "content", "call_id"} & set(item)
    return {"type": "item_reference", "id": item["id"]} if isinstance(item, dict) and bare else item


Input = Annotated[
    Annotated[Message, Tag("message")]
    | Annotated[FunctionCall, Tag("function_call")]
    | Annotated[FunctionCallOutput, Tag("function_call_output")]
    | Annotated[ItemReference, Tag("item_reference")],
    Discriminator(_kind),
    BeforeValidator(_reference),
]

# --- responses --------------------------------------------------------------------------------------------------------

Metadata = dict[str, str]


class ResponseOptions(WireModel):
    instructions: Instructions | None = None
    output_modalities: Modalities | None = None
    conversation: Literal["auto", "none"] | None = None
    input: Annotated[list[Input], Field(max_length=1000)] | None = None
    metadata: Annotated[Metadata, Field(max_length=64)] | None = None
    audio: Any = None
    max_output_tokens: MostTokens | None = None
    tools: Tools | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    prompt: Any = None
    reasoning: Any = None


class ErrorDetail(WireModel):
    type: str
    code: str | None = None
    message: str
    param: str | None = None
    event_id: str | None = None
    """The id of the faulty event, if the client gave it one."""


class StatusError(WireModel):
    type: str | None = None
    code: str | None = None
    message: str | None = None


class StatusDetails(WireModel):
    type: Literal["completed", "cancelled", "incomplete", "failed"]
    reason: Literal["turn_detected", "client_cancelled", "max_output_tokens"] | None = None
    error: StatusError | None = None


class TokenDetails(WireModel):
    audio_tokens: int = 0
    text_tokens: int = 0
    cached_tokens: int | None = None


class Usage(WireModel):
    """No engine here bills by the token: text is counted by its bytes, sound by its length, as OpenAI's models do."""

    total_tokens: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    input_token_details: TokenDetails = Field(default_factory=TokenDetails)
    output_token_details: TokenDetails = Field(default_factory=TokenDetails)


class Duration(WireModel):
    type: Literal["duration"] = "duration"
    seconds: float


ResponseStatus = Literal["in_progress", "completed", "cancelled", "failed", "incomplete"]


class Response(WireModel):
    id: str
    object: Literal["realtime.response"] = "realtime.response"
    status: ResponseStatus
    status_details: StatusDetails | None = None
    output: list[Item] = Field(default_factory=list)
    conversation_id: str | None = None
    output_modalities: list[Modality] = ["audio"]
    metadata: Metadata | None = None
    usage: Usage | None = None

    told_empty = frozenset({"status_details", "metadata", "usage", "conversation_id"})


class ContentPart(WireModel):
    type: Literal["audio", "text"] = "audio"
    transcript: str | None = None
    text: str | None = None
