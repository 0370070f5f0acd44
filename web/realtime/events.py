"""Every message of `/v1/realtime`: the GA names of OpenAI's Realtime API, and the `parley.` family of our page.

Messages from a client are checked strictly: an unknown field is refused by name, so nothing is silently ignored.
Messages from the server can be parsed by the stock SDK. parts.py defines the objects inside them.
"""

from __future__ import annotations

import uuid
from typing import Annotated, Any, Generic, Literal, TypeVar, get_args

from pydantic import Field, TypeAdapter

from pipeline.conversation.events import Outcome, Severity, State, ToolState
from pipeline.engine import EngineStatus
from web.realtime.parts import (
    ContentPart,
    Duration,
    ErrorDetail,
    Item,
    Response,
    ResponseOptions,
    Session,
    StatusError,
    WireModel,
)

T = TypeVar("T")
"""The Literal of an event's type, written only in its class statement."""

# --- from the client --------------------------------------------------------------------------------------------------


class ClientEvent(WireModel):
    event_id: Annotated[str, Field(max_length=512)] | None = None


class _Said(ClientEvent, Generic[T]):
    type: T


class SessionUpdate(_Said[Literal["session.update"]]):
    session: Session


class InputAudioBufferAppend(_Said[Literal["input_audio_buffer.append"]]):
    audio: str
    """Base64 of sound in the session's input format."""


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


class OutputAudioBufferClear(_Said[Literal["output_audio_buffer.clear"]]):
    """Stop the playback; in a WebRTC call only."""


class ParleyPlayback(_Said[Literal["parley.playback"]]):
    """How much of a reply has really been played, counted from its start. Sent a few times a second, and at its end."""

    response_id: str
    samples: Annotated[int, Field(ge=0)]
    """At 24 kHz."""


class ParleyToolAnswer(_Said[Literal["parley.tool.answer"]]):
    """The user's yes or no to a call whose state is `asking`."""

    call_id: str
    allow: bool


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
    | OutputAudioBufferClear
    | ParleyPlayback
    | ParleyToolAnswer
    | ParleySoundcardStart
    | ParleySoundcardStop,
    Field(discriminator="type"),
]
CLIENT_EVENT: TypeAdapter[AnyClientEvent] = TypeAdapter(AnyClientEvent)


# --- from the server --------------------------------------------------------------------------------------------------


class ServerEvent(WireModel):
    event_id: str = Field(default_factory=lambda: f"event_{uuid.uuid4().hex[:20]}")


class _Told(ServerEvent, Generic[T]):
    """A server event whose `type` is its only type parameter and is filled in automatically."""

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

    told_empty = frozenset({"previous_item_id"})


class InputAudioBufferCleared(_Told[Literal["input_audio_buffer.cleared"]]): ...


class _OfPlace(_Told[T]):
    previous_item_id: str | None
    item: Item

    told_empty = frozenset({"previous_item_id"})


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


class TranscriptionFailed(_Told[Literal["conversation.item.input_audio_transcription.failed"]]):
    item_id: str
    content_index: int = 0
    error: StatusError


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


class ResponseOutputTextDelta(_OfContent[Literal["response.output_text.delta"]]):
    delta: str


class ResponseOutputTextDone(_OfContent[Literal["response.output_text.done"]]):
    text: str


class _OfCall(_OfResponse[T]):
    item_id: str
    call_id: str


class ResponseFunctionCallArgumentsDelta(_OfCall[Literal["response.function_call_arguments.delta"]]):
    delta: str


class ResponseFunctionCallArgumentsDone(_OfCall[Literal["response.function_call_arguments.done"]]):
    name: str
    arguments: str


class _OfPlaying(_Told[T]):
    response_id: str


class OutputAudioBufferStarted(_OfPlaying[Literal["output_audio_buffer.started"]]):
    """In a WebRTC call: the first sound of a reply has been sent."""


class OutputAudioBufferStopped(_OfPlaying[Literal["output_audio_buffer.stopped"]]):
    """The last sound of a reply has been sent."""


class OutputAudioBufferCleared(_OfPlaying[Literal["output_audio_buffer.cleared"]]):
    """A reply was stopped, and the rest of it will not be sent."""


# --- from the server, for our page only -------------------------------------------------------------------------------


class ParleyEvent(ServerEvent):
    """Sent only to a client that asked for it."""


class _Parley(_Told[T], ParleyEvent): ...


class ParleyState(_Parley[Literal["parley.state"]]):
    turn: int
    state: State


class ParleyLevel(_Parley[Literal["parley.level"]]):
    """Sent about ten times a second while sound arrives."""

    peak: float
    """The largest absolute sample since the last event, 0 to 1."""
    speech_probability: float


class ParleyTranscript(_Parley[Literal["parley.transcript"]]):
    """The transcript of the current turn so far; the text after the first `stable` characters may still change."""

    item_id: str
    text: str
    stable: int


class ParleySpeaker(_Parley[Literal["parley.speaker"]]):
    """Whose voice a turn was, if speakers are told apart: `user` is the memory's owner, `guest` an unknown voice."""

    item_id: str
    speaker: str


class ParleyPause(_Parley[Literal["parley.pause"]]):
    """Stop playing at once but keep what is queued: this may be a barge-in."""

    response_id: str


class ParleyResume(_Parley[Literal["parley.resume"]]):
    """It was not a barge-in: continue where playback stopped."""

    response_id: str


class ParleyReply(_Parley[Literal["parley.reply"]]):
    """A reply is over, whether or not it was played to its end: drop whatever of it is still queued."""

    response_id: str
    item_id: str
    outcome: Outcome
    text: str
    heard: str
    why: str


class ParleySaid(WireModel):
    role: Literal["user", "assistant", "system"]
    text: str
    interrupted: bool


class ParleyPast(_Parley[Literal["parley.past"]]):
    """What was said earlier in a continued conversation; sent right after `session.created`."""

    said: list[ParleySaid]


class ParleyMemory(WireModel):
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


class ParleyTool(_Parley[Literal["parley.tool"]]):
    """The state of a call to an owner's tool, sent whenever it changes: `asking` waits for parley.tool.answer or a
    spoken answer."""

    call_id: str
    name: str
    arguments: str
    """Shortened, for display."""
    state: ToolState
    result: str
    """Shortened; or the reason why there is no result."""
    seconds: float


class ParleyTurn(_Parley[Literal["parley.turn"]]):
    """The record of a finished turn; see pipeline/turns/record.py."""

    record: dict[str, Any]


class ParleyNotice(_Parley[Literal["parley.notice"]]):
    severity: Severity
    text: str


class ParleyEngines(_Parley[Literal["parley.engines"]]):
    """The state of each stage, sent on connecting and whenever it changes."""

    engines: dict[str, EngineStatus]


class ParleySoundcard(_Parley[Literal["parley.soundcard"]]):
    """Whether this computer's sound card listens and speaks for this page."""

    running: bool


class ParleySettings(_Parley[Literal["parley.settings"]]):
    """The settings were changed, perhaps in another tab; in the format of `GET /api/settings`."""

    settings: dict[str, Any]
