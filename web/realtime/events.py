"""Every message of `/v1/realtime`: the GA names of OpenAI's Realtime API, and the `parley.` family of our page.

What a client sends is checked strictly: an unknown field is refused by name, so that nothing is silently ignored. What
the server sends parses in the stock SDK. docs/REALTIME.md tells the same in prose.
"""

from __future__ import annotations

import uuid
from typing import Annotated, Any, Generic, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from pipeline.conversation.events import Outcome, Severity, State
from pipeline.engine import EngineStatus

T = TypeVar("T")
"""The Literal of an event's type, which stands in its head and nowhere else."""

# --- what is inside the messages ------------------------------------------------------------------------------------


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class PcmFormat(_Part):
    """16-bit little-endian mono."""

    type: Literal["audio/pcm"] = "audio/pcm"
    rate: Literal[24000] = 24000


class ServerVad(_Part):
    type: Literal["server_vad"] = "server_vad"
    threshold: Annotated[float, Field(ge=0.05, le=0.95)] | None = None
    prefix_padding_ms: Annotated[int, Field(ge=0, le=2000)] | None = None
    silence_duration_ms: Annotated[int, Field(ge=100, le=5000)] | None = None
    """Silence alone ends a turn, after so long; None: as the user has chosen on the setup page."""
    create_response: bool = True
    """False: turns are found, and answered only when `response.create` asks."""
    interrupt_response: Literal[True] = True
    idle_timeout_ms: None = None


class SemanticVad(_Part):
    """Whether the user had finished is judged by voice and words."""

    type: Literal["semantic_vad"] = "semantic_vad"
    eagerness: Literal["low", "medium", "high", "auto"] = "auto"
    create_response: bool = True
    interrupt_response: Literal[True] = True


class Transcription(_Part):
    """Accepted from a client and answered with what is in force: the ears are chosen on the setup page."""

    model: str | None = None
    language: str | None = None
    prompt: str | None = None


class AudioInput(_Part):
    format: PcmFormat | None = None
    turn_detection: Annotated[ServerVad | SemanticVad, Field(discriminator="type")] | None = None
    transcription: Transcription | None = None
    noise_reduction: Any = None


class AudioOutput(_Part):
    format: PcmFormat | None = None
    voice: Any = None
    speed: Any = None


class Audio(_Part):
    input: AudioInput | None = None
    output: AudioOutput | None = None


class ParleyOptions(_Part):
    """Its presence asks for the `parley.` messages; the client then reports what it has played."""


class Session(_Part):
    """The fields of the GA session. Those typed `Any` are accepted and not used; `session.updated` says what is."""

    type: Literal["realtime"] = "realtime"
    id: str | None = None
    object: Literal["realtime.session"] | None = None
    model: str | None = None
    instructions: Annotated[str, Field(max_length=8000)] | None = None
    output_modalities: Annotated[list[Literal["audio"]], Field(min_length=1, max_length=1)] | None = None
    audio: Audio | None = None
    tools: Annotated[list[Any], Field(max_length=0)] | None = None
    tool_choice: Any = None
    max_output_tokens: Any = None
    parallel_tool_calls: Any = None
    include: Any = None
    prompt: Any = None
    reasoning: Any = None
    tracing: Any = None
    truncation: Any = None
    expires_at: int | None = None
    parley: ParleyOptions | None = None


ItemStatus = Literal["completed", "incomplete", "in_progress"]
Role = Literal["user", "assistant", "system"]
ContentType = Literal["input_text", "input_audio", "output_text", "output_audio"]


class Content(_Part):
    type: ContentType
    text: Annotated[str, Field(max_length=20_000)] | None = None
    transcript: Annotated[str, Field(max_length=20_000)] | None = None
    audio: None = None


class Item(_Part):
    """One message of the conversation."""

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")] | None = None
    object: Literal["realtime.item"] | None = "realtime.item"
    type: Literal["message"] = "message"
    status: ItemStatus | None = None
    role: Role
    content: Annotated[list[Content], Field(max_length=16)]


class ResponseOptions(_Part):
    instructions: Annotated[str, Field(max_length=8000)] | None = None
    output_modalities: Annotated[list[Literal["audio"]], Field(min_length=1, max_length=1)] | None = None
    conversation: Literal["auto"] | None = None
    metadata: dict[str, str] | None = None
    audio: Any = None
    max_output_tokens: Any = None
    tools: Annotated[list[Any], Field(max_length=0)] | None = None
    tool_choice: Any = None
    parallel_tool_calls: Any = None


class ErrorDetail(_Part):
    type: str
    code: str | None = None
    message: str
    param: str | None = None
    event_id: str | None = None
    """The event that was wrong, where the client had given it an id."""


class StatusError(_Part):
    type: str | None = None
    code: str | None = None
    message: str | None = None


class StatusDetails(_Part):
    type: Literal["completed", "cancelled", "incomplete", "failed"]
    reason: Literal["turn_detected", "client_cancelled"] | None = None
    error: StatusError | None = None


class TokenDetails(_Part):
    audio_tokens: int = 0
    text_tokens: int = 0
    cached_tokens: int = 0


class Usage(_Part):
    """No engine here bills by the token, so these are zero; clients expect the object."""

    total_tokens: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    input_token_details: TokenDetails = Field(default_factory=TokenDetails)
    output_token_details: TokenDetails = Field(default_factory=TokenDetails)


class Duration(_Part):
    type: Literal["duration"] = "duration"
    seconds: float


class Response(_Part):
    id: str
    object: Literal["realtime.response"] = "realtime.response"
    status: Literal["in_progress", "completed", "cancelled", "failed", "incomplete"]
    status_details: StatusDetails | None = None
    output: list[Item] = Field(default_factory=list)
    conversation_id: str | None = None
    output_modalities: list[Literal["audio"]] = ["audio"]
    metadata: dict[str, str] | None = None
    usage: Usage | None = None


class ContentPart(_Part):
    type: Literal["audio"] = "audio"
    transcript: str | None = None


# --- from the client --------------------------------------------------------------------------------------------------


class ClientEvent(_Part):
    event_id: Annotated[str, Field(max_length=512)] | None = None


class _Said(ClientEvent, Generic[T]):
    type: T


class SessionUpdate(_Said[Literal["session.update"]]):
    session: Session


class InputAudioBufferAppend(_Said[Literal["input_audio_buffer.append"]]):
    audio: str
    """Base64 of 16-bit little-endian mono samples at 24 kHz."""


class InputAudioBufferCommit(_Said[Literal["input_audio_buffer.commit"]]): ...


class InputAudioBufferClear(_Said[Literal["input_audio_buffer.clear"]]): ...


class ConversationItemCreate(_Said[Literal["conversation.item.create"]]):
    previous_item_id: str | None = None
    item: Item


class ConversationItemRetrieve(_Said[Literal["conversation.item.retrieve"]]):
    item_id: str


class ConversationItemTruncate(_Said[Literal["conversation.item.truncate"]]):
    item_id: str
    content_index: int = 0
    audio_end_ms: Annotated[int, Field(ge=0)]


class ConversationItemDelete(_Said[Literal["conversation.item.delete"]]):
    item_id: str


class ResponseCreate(_Said[Literal["response.create"]]):
    response: ResponseOptions | None = None


class ResponseCancel(_Said[Literal["response.cancel"]]):
    response_id: str | None = None


class ParleyPlayback(_Said[Literal["parley.playback"]]):
    """How much of a reply has really been played, counted from its start; a few times a second, and at its end."""

    response_id: str
    samples: Annotated[int, Field(ge=0)]
    """At 24 kHz."""


class ParleySoundcardStart(_Said[Literal["parley.soundcard.start"]]): ...


class ParleySoundcardStop(_Said[Literal["parley.soundcard.stop"]]): ...


AnyClientEvent = Annotated[
    SessionUpdate
    | InputAudioBufferAppend
    | InputAudioBufferCommit
    | InputAudioBufferClear
    | ConversationItemCreate
    | ConversationItemRetrieve
    | ConversationItemTruncate
    | ConversationItemDelete
    | ResponseCreate
    | ResponseCancel
    | ParleyPlayback
    | ParleySoundcardStart
    | ParleySoundcardStop,
    Field(discriminator="type"),
]
CLIENT_EVENT: TypeAdapter[AnyClientEvent] = TypeAdapter(AnyClientEvent)


# --- from the server --------------------------------------------------------------------------------------------------


class ServerEvent(_Part):
    event_id: str = Field(default_factory=lambda: f"event_{uuid.uuid4().hex[:20]}")


class _Told(ServerEvent, Generic[T]):
    """Its type is its only parameter, and set by itself."""

    type: T = Field(default="", validate_default=True)

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        field = cls.model_fields["type"]
        if names := get_args(field.annotation):
            field.default = names[0]
            cls.model_rebuild(force=True)


class SessionCreated(_Told[Literal["session.created"]]):
    session: Session


class SessionUpdated(_Told[Literal["session.updated"]]):
    session: Session


class ErrorEvent(_Told[Literal["error"]]):
    error: ErrorDetail


class InputAudioBufferSpeechStarted(_Told[Literal["input_audio_buffer.speech_started"]]):
    audio_start_ms: int
    """On the clock of the sound received in this session."""
    item_id: str


class InputAudioBufferSpeechStopped(_Told[Literal["input_audio_buffer.speech_stopped"]]):
    audio_end_ms: int
    item_id: str


class InputAudioBufferCommitted(_Told[Literal["input_audio_buffer.committed"]]):
    previous_item_id: str | None
    item_id: str


class InputAudioBufferCleared(_Told[Literal["input_audio_buffer.cleared"]]): ...


class _OfPlace(_Told[T]):
    previous_item_id: str | None
    item: Item


class ConversationItemAdded(_OfPlace[Literal["conversation.item.added"]]): ...


class ConversationItemDone(_OfPlace[Literal["conversation.item.done"]]): ...


class ConversationItemRetrieved(_Told[Literal["conversation.item.retrieved"]]):
    item: Item


class ConversationItemTruncated(_Told[Literal["conversation.item.truncated"]]):
    item_id: str
    content_index: int = 0
    audio_end_ms: int


class ConversationItemDeleted(_Told[Literal["conversation.item.deleted"]]):
    item_id: str


class TranscriptionDelta(_Told[Literal["conversation.item.input_audio_transcription.delta"]]):
    item_id: str
    content_index: int = 0
    delta: str


class TranscriptionCompleted(_Told[Literal["conversation.item.input_audio_transcription.completed"]]):
    item_id: str
    content_index: int = 0
    transcript: str
    usage: Duration


class ResponseCreated(_Told[Literal["response.created"]]):
    response: Response


class ResponseDone(_Told[Literal["response.done"]]):
    response: Response


class _OfResponse(_Told[T]):
    response_id: str
    output_index: int = 0


class ResponseOutputItemAdded(_OfResponse[Literal["response.output_item.added"]]):
    item: Item


class ResponseOutputItemDone(_OfResponse[Literal["response.output_item.done"]]):
    item: Item


class _OfContent(_OfResponse[T]):
    item_id: str
    content_index: int = 0


class ResponseContentPartAdded(_OfContent[Literal["response.content_part.added"]]):
    part: ContentPart


class ResponseContentPartDone(_OfContent[Literal["response.content_part.done"]]):
    part: ContentPart


class ResponseOutputAudioDelta(_OfContent[Literal["response.output_audio.delta"]]):
    delta: str
    """Base64 of 16-bit little-endian mono samples at 24 kHz."""


class ResponseOutputAudioDone(_OfContent[Literal["response.output_audio.done"]]): ...


class ResponseOutputAudioTranscriptDelta(_OfContent[Literal["response.output_audio_transcript.delta"]]):
    delta: str


class ResponseOutputAudioTranscriptDone(_OfContent[Literal["response.output_audio_transcript.done"]]):
    transcript: str


# --- from the server, for our page only -------------------------------------------------------------------------------


class ParleyEvent(ServerEvent):
    """Sent only to a client that asked for it."""


class _Parley(_Told[T], ParleyEvent): ...


class ParleyState(_Parley[Literal["parley.state"]]):
    turn: int
    state: State


class ParleyLevel(_Parley[Literal["parley.level"]]):
    """About ten times a second while sound comes in."""

    peak: float
    """Largest absolute sample since the last one, 0 to 1."""
    speech_probability: float


class ParleyTranscript(_Parley[Literal["parley.transcript"]]):
    """All that is understood of the running turn; what follows the first `stable` characters may still change."""

    item_id: str
    text: str
    stable: int


class ParleyPause(_Parley[Literal["parley.pause"]]):
    """Stop playing at once, keep what is queued: this may be an interruption."""

    response_id: str


class ParleyResume(_Parley[Literal["parley.resume"]]):
    """It was none: go on where it stopped."""

    response_id: str


class ParleyReply(_Parley[Literal["parley.reply"]]):
    """A reply is over, played to its end or not: drop what is still queued of it."""

    response_id: str
    item_id: str
    outcome: Outcome
    text: str
    heard: str
    why: str


class ParleySaid(_Part):
    role: Literal["user", "assistant", "system"]
    text: str
    interrupted: bool


class ParleyPast(_Parley[Literal["parley.past"]]):
    """What was said before, in a conversation that goes on; right after `session.created`."""

    said: list[ParleySaid]


class ParleyMemory(_Part):
    id: str
    speaker: str
    text: str
    at: str
    conversation: str
    score: float
    why: str


class ParleyRecalled(_Parley[Literal["parley.recalled"]]):
    turn: int
    items: list[ParleyMemory]


class ParleyTurn(_Parley[Literal["parley.turn"]]):
    """The record of a finished turn: see pipeline/turns/record.py."""

    record: dict[str, Any]


class ParleyNotice(_Parley[Literal["parley.notice"]]):
    severity: Severity
    text: str


class ParleyEngines(_Parley[Literal["parley.engines"]]):
    """How each stage is; on connecting and whenever it changes."""

    engines: dict[str, EngineStatus]


class ParleySoundcard(_Parley[Literal["parley.soundcard"]]):
    """Whether this computer's sound card listens and speaks for this page."""

    running: bool


class ParleySettings(_Parley[Literal["parley.settings"]]):
    """The settings were changed, perhaps in another tab; in the form of `GET /api/settings`."""

    settings: dict[str, Any]
