"""Every message that a conversation sends to the audio end and to the page.

Each carries its turn and the turn's revision. If a turn's speech goes on after all, the turn gets a new revision,
and what was made for the old one is dropped in one place (outbox.py).
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
"""withdrawn: the user had not finished after all; the turn goes on as one, and the reply does not count."""
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
    """Sent about ten times a second, for meters."""

    peak: float
    """The largest absolute sample since the last event, 0 to 1."""
    speech_probability: float


@dataclass(frozen=True, slots=True)
class SpeechStarted(Event):
    sample: int
    """The turn's start on the conversation's clock, in 16 kHz samples received; includes the pre-roll."""


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
    """The final words of the user's turn; empty text if speech was heard but not understood."""

    text: str
    typed: bool = False
    continues: int | None = None
    """The earlier turn that this one continues: `text` begins with its words, and it no longer counts as a turn."""


@dataclass(frozen=True, slots=True)
class SpeakerTold(Event):
    """Whose voice a turn was, by their name in the memory; sent only if voices are told apart."""

    speaker: str


@dataclass(frozen=True, slots=True)
class MemoryRecalled(Event):
    recall: Recall


@dataclass(frozen=True, slots=True)
class ReplyStarted(Event):
    request: str = ""
    """The id of the request that it answers; empty if it follows from the turn by itself."""
    spoken: bool = True
    """False: only text will come, piece by piece as it is written."""
    kept: bool = True
    """False: it only fills a silence or asks for consent; whatever comes next replaces it."""


@dataclass(frozen=True, slots=True)
class ReplyText(Event):
    """Text that is about to be spoken: a clause, in reading form. If the reply is not spoken, any piece of text."""

    text: str


@dataclass(frozen=True, slots=True)
class ReplyAudio(Event):
    """The next samples of the reply, 24 kHz. They arrive faster than they are played; the audio end keeps the rest."""

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
    """Why the reply is incomplete: the error of the engine that failed."""
    truncated: bool = False
    """Whether it was cut off at the maximum length."""
    calls: tuple[ToolCall, ...] = ()
    """The tool calls of the language model after what it said."""


@dataclass(frozen=True, slots=True)
class ReplyDone(Event):
    """The reply is over: played to its end, interrupted or failed. The audio end drops what it has not played."""

    outcome: Outcome
    text: str
    """All that was going to be said."""
    heard: str
    """What was really heard; this enters the history."""
    why: str
    request: str = ""
    """As in ReplyStarted."""


ToolState = Literal["asking", "running", "done", "failed", "refused"]
"""refused: the user did not allow it."""


@dataclass(frozen=True, slots=True)
class ToolUsed(Event):
    """The state of a call to an owner's tool, sent whenever it changes."""

    call: ToolCall
    state: ToolState
    result: str = ""
    """The result, or why there is none."""
    seconds: float = 0.0
    """How long it ran."""


@dataclass(frozen=True, slots=True)
class CallGivenUp(Event):
    """A client's tool has not answered in time; the language model gets `result` instead."""

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
