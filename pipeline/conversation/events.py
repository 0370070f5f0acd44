"""Every message that a conversation sends to its end of the sound and to the page.

Each carries the turn it belongs to and the turn's revision: a turn whose speech goes on after all gets a new
revision, and what was made for the old one is dropped in one place (conversation.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pipeline.audio import Samples
from pipeline.tools.calls import ToolCall
from pipeline.turns.record import TurnRecord
from rag import Recall

State = Literal["listening", "thinking", "speaking"]
Outcome = Literal["completed", "interrupted", "withdrawn", "failed"]
"""withdrawn: the user had not finished after all; the turn goes on as one, and the reply never was."""
Severity = Literal["info", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Event:
    turn: int
    revision: int


@dataclass(frozen=True, slots=True)
class StateChanged(Event):
    state: State


@dataclass(frozen=True, slots=True)
class MicrophoneLevel(Event):
    """About ten times a second, for meters."""

    peak: float
    """Largest absolute sample since the last event, 0 to 1."""
    speech_probability: float


@dataclass(frozen=True, slots=True)
class SpeechStarted(Event):
    sample: int
    """On the conversation's clock: 16 kHz samples received, pre-roll included."""


@dataclass(frozen=True, slots=True)
class SpeechStopped(Event):
    """The turn has ended (not merely paused)."""

    sample: int
    """The last sample of speech."""
    why: str


@dataclass(frozen=True, slots=True)
class PartialTranscript(Event):
    text: str
    stable: int


@dataclass(frozen=True, slots=True)
class UserSaid(Event):
    """The user's turn, final; empty text when speech was heard but not understood."""

    text: str
    typed: bool = False
    continues: int | None = None
    """The earlier turn that this one takes up: its words are the first of `text`, and it is no turn of its own."""


@dataclass(frozen=True, slots=True)
class SpeakerTold(Event):
    """Whose voice a turn was, as the memory knows them, where people are told apart."""

    speaker: str


@dataclass(frozen=True, slots=True)
class MemoryRecalled(Event):
    recall: Recall


@dataclass(frozen=True, slots=True)
class ReplyStarted(Event):
    request: str = ""
    """The id of the request that it answers; empty where it follows from the turn by itself."""
    spoken: bool = True
    """False: text alone will come, piece by piece as it is written."""
    kept: bool = True
    """False: it only fills a silence, or asks for a yes; whatever comes takes its place."""


@dataclass(frozen=True, slots=True)
class ReplyText(Event):
    """Text that is about to be spoken: a clause, in reading form. Of a reply that is not spoken: any piece."""

    text: str


@dataclass(frozen=True, slots=True)
class ReplyAudio(Event):
    """The next samples of the reply, 24 kHz. Arrives faster than it is played; the end keeps the rest."""

    samples: Samples
    first_sample: int
    """Where these samples stand within the reply."""


@dataclass(frozen=True, slots=True)
class ReplyPaused(Event):
    """Stop playing now, keep what is queued: this may be an interruption."""


@dataclass(frozen=True, slots=True)
class ReplyResumed(Event):
    """It was not an interruption: continue where playback stopped."""


@dataclass(frozen=True, slots=True)
class ReplyMade(Event):
    """All of the reply's audio has been sent; it is still being played."""

    samples: int
    failure: str | None = None
    """Why it is not whole: an engine failed on the way."""
    truncated: bool = False
    """Whether it had to end at its greatest length."""
    calls: tuple[ToolCall, ...] = ()
    """What the language model asks to have done, after what it said."""


@dataclass(frozen=True, slots=True)
class ReplyDone(Event):
    """The reply is over: played to its end, interrupted or failed. An end drops what it has not played."""

    outcome: Outcome
    text: str
    """All that was going to be said."""
    heard: str
    """What was really heard; this is history."""
    why: str
    request: str = ""
    """As in ReplyStarted."""


ToolState = Literal["asking", "running", "done", "failed", "refused"]
"""refused: the user did not allow it."""


@dataclass(frozen=True, slots=True)
class ToolUsed(Event):
    """How a call of an owner's tool stands, whenever that changes."""

    call: ToolCall
    state: ToolState
    result: str = ""
    """What came of it, or why nothing did."""
    seconds: float = 0.0
    """It ran so long."""


@dataclass(frozen=True, slots=True)
class CallGivenUp(Event):
    """A client's tool has not answered in time: the language model is told this in its place."""

    call_id: str
    result: str


@dataclass(frozen=True, slots=True)
class TurnFinished(Event):
    record: TurnRecord


@dataclass(frozen=True, slots=True)
class Notice(Event):
    """Something the user must know, in one sentence."""

    severity: Severity
    text: str
