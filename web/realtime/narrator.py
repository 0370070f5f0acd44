"""A conversation's events, told in the protocol's words.

Pure translation: it keeps which items and responses the client knows of, and touches neither socket nor engine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from pipeline.audio import EAR_RATE, MOUTH_RATE
from pipeline.conversation import events
from pipeline.conversation.reply import SpokenClause, heard_text
from web.realtime import events as wire
from web.realtime.pcm import encoded

CANCELLED = "the client cancelled"
"""Why a reply ends that the client itself has stopped."""


@dataclass(slots=True)
class Answer:
    """One reply as the client knows it."""

    turn: int
    revision: int
    response_id: str
    item_id: str
    metadata: dict[str, str] | None = None
    clauses: list[SpokenClause] = field(default_factory=list)
    samples: int = 0
    """Sent so far."""
    open: bool = True
    """`response.done` was not sent yet."""

    @property
    def transcript(self) -> str:
        return " ".join(clause.text for clause in self.clauses)

    def heard(self, samples: int) -> str:
        """The text of the first `samples`, in proportion within each clause."""
        return heard_text(self.clauses, samples)

    def item(self, status: wire.ItemStatus) -> wire.Item:
        content = wire.Content(type="output_audio", transcript=self.transcript)
        return wire.Item(id=self.item_id, status=status, role="assistant", content=[content])


class Narrator:
    def __init__(self, conversation: str, *, parley: bool = False) -> None:
        self.conversation = conversation
        self.before = 0
        """Turns of the conversation before this client's call; its ids of replies differ from those of then."""
        self.parley = parley
        """Whether the client asked for the `parley.` messages."""
        self.manual = False
        """Turns are the client's own: nothing is said of speech that starts and stops."""
        self.sounding = True
        """Whether replies' sound goes to the client; not where the sound card plays it."""
        self.items: dict[str, wire.Item] = {}
        """All that the client knows of, in order."""
        self.answer: Answer | None = None
        """The reply that is being made or played."""
        self.metadata: dict[str, str] | None = None
        """What the client wants to find again in the response that it asked for."""
        self._answers: dict[str, Answer] = {}
        self._turns: dict[str, int] = {}
        self._typed: list[str] = []
        self._told = ""
        """What the client knows of the running turn's words."""
        self._speech = (0, 0)
        """The turn's first sample and the one after its last, at 16 kHz."""

    # -- what the client's messages need to know ----------------------------------------------------------------------

    @property
    def last_item(self) -> str | None:
        return next(reversed(self.items), None)

    def turn_of(self, item_id: str) -> int | None:
        """The turn that an item stands for; None for one that the client only put into the history."""
        return self._turns.get(item_id)

    def answer_of(self, item_id: str) -> Answer | None:
        return self._answers.get(item_id)

    def add(self, item: wire.Item) -> list[wire.ServerEvent]:
        """An item that the client has made."""
        return self._announce(item)

    def typed(self, item: wire.Item) -> None:
        """That item is now the user's turn; its number comes with the conversation's event."""
        self._typed.append(item.id or "")

    def remove(self, item_id: str) -> wire.ConversationItemDeleted:
        del self.items[item_id]
        return wire.ConversationItemDeleted(item_id=item_id)

    # -- what the conversation tells ----------------------------------------------------------------------------------

    def tell(self, event: events.Event) -> list[wire.ServerEvent]:
        told = list(self._tell(event))
        return told if self.parley else [each for each in told if not isinstance(each, wire.ParleyEvent)]

    def _tell(self, event: events.Event) -> Iterator[wire.ServerEvent]:
        match event:
            case events.StateChanged():
                yield wire.ParleyState(turn=event.turn, state=event.state)
            case events.MicrophoneLevel():
                yield wire.ParleyLevel(peak=event.peak, speech_probability=event.speech_probability)
            case events.SpeechStarted():
                self._told, self._speech = "", (event.sample, event.sample)
                if not self.manual:
                    at = 1000 * event.sample // EAR_RATE
                    yield wire.InputAudioBufferSpeechStarted(audio_start_ms=max(0, at), item_id=self._user(event))
            case events.SpeechStopped():
                yield from self._speech_stopped(event)
            case events.PartialTranscript():
                yield from self._delta(event, event.text[: event.stable])
                yield wire.ParleyTranscript(item_id=self._user(event), text=event.text, stable=event.stable)
            case events.UserSaid():
                yield from self._user_said(event)
            case events.Recalled():
                yield wire.ParleyRecalled(
                    turn=event.turn,
                    items=[
                        wire.ParleyMemory(
                            id=item.id,
                            speaker=item.speaker,
                            text=item.text,
                            at=item.at.isoformat(),
                            conversation=item.conversation,
                            score=item.score,
                            why=item.why,
                        )
                        for item in event.recall.items
                    ],
                )
            case events.Notice():
                yield from self.notice(event.severity, event.text)
            case events.TurnFinished():
                yield wire.ParleyTurn(record=event.record.as_dict())
            case _:
                yield from self._of_reply(event)

    def notice(self, severity: events.Severity, text: str) -> list[wire.ServerEvent]:
        """Our page shows every notice; another client is told only of errors, in the protocol's own way."""
        if self.parley:
            return [wire.ParleyNotice(severity=severity, text=text)]
        if severity == "error":
            return [wire.ErrorEvent(error=wire.ErrorDetail(type="server_error", code="engine_error", message=text))]
        return []

    def _user(self, event: events.Event) -> str:
        return f"item_user_{event.turn}"

    def _announce(self, item: wire.Item) -> list[wire.ServerEvent]:
        before = self.last_item
        self.items[item.id or ""] = item
        return [
            wire.ConversationItemAdded(previous_item_id=before, item=item),
            wire.ConversationItemDone(previous_item_id=before, item=item),
        ]

    def _speech_stopped(self, event: events.SpeechStopped) -> Iterator[wire.ServerEvent]:
        id = self._user(event)
        if not self.manual:
            yield wire.InputAudioBufferSpeechStopped(audio_end_ms=1000 * event.sample // EAR_RATE, item_id=id)
        if event.why == "dropped":
            return
        self._speech = (self._speech[0], event.sample)
        self._turns[id] = event.turn
        yield wire.InputAudioBufferCommitted(previous_item_id=self.last_item, item_id=id)
        content = wire.Content(type="input_audio")
        yield from self._announce(wire.Item(id=id, status="completed", role="user", content=[content]))

    def _delta(self, event: events.Event, text: str) -> Iterator[wire.ServerEvent]:
        """Deltas only ever add: a client appends them, and could not take a word back."""
        if len(text) > len(self._told) and text.startswith(self._told):
            yield wire.TranscriptionDelta(item_id=self._user(event), delta=text[len(self._told) :])
            self._told = text

    def _user_said(self, event: events.UserSaid) -> Iterator[wire.ServerEvent]:
        if event.typed:
            if self._typed:
                self._turns[self._typed.pop(0)] = event.turn
            return
        if event.continues is not None and (earlier := f"item_user_{event.continues}") in self.items:
            yield self.remove(earlier)  # its words are in this one
        yield from self._delta(event, event.text)
        id = self._user(event)
        if id in self.items:
            self.items[id].content[0].transcript = event.text
        first, end = self._speech
        usage = wire.Duration(seconds=max(0, end - first) / EAR_RATE)
        yield wire.TranscriptionCompleted(item_id=id, transcript=event.text, usage=usage)

    # -- a reply ------------------------------------------------------------------------------------------------------

    def _of_reply(self, event: events.Event) -> Iterator[wire.ServerEvent]:
        if isinstance(event, events.ReplyStarted):
            yield from self._reply_started(event)
            return
        answer = self.answer
        if answer is None or (answer.turn, answer.revision) != (event.turn, event.revision):
            return
        place = {"response_id": answer.response_id, "item_id": answer.item_id}
        match event:
            case events.ReplyText():
                delta = f" {event.text}" if answer.clauses else event.text
                answer.clauses.append(SpokenClause(event.text, event.text, answer.samples))
                yield wire.ResponseOutputAudioTranscriptDelta(delta=delta, **place)
            case events.ReplyAudio():
                answer.samples += len(event.samples)
                if answer.clauses:
                    answer.clauses[-1].samples += len(event.samples)
                if self.sounding:
                    for payload in encoded(event.samples):
                        yield wire.ResponseOutputAudioDelta(delta=payload, **place)
            case events.ReplyPaused():
                yield wire.ParleyPause(response_id=answer.response_id)
            case events.ReplyResumed():
                yield wire.ParleyResume(response_id=answer.response_id)
            case events.ReplyMade():
                yield from self._close(
                    answer, _details("failed" if event.failure else "completed", event.failure or "")
                )
            case events.ReplyDone():
                yield from self._reply_done(answer, event)

    def _reply_started(self, event: events.ReplyStarted) -> Iterator[wire.ServerEvent]:
        if self.answer is not None:
            yield from self._close(self.answer, wire.StatusDetails(type="cancelled", reason="turn_detected"))
        number = f"{self.before}_{len(self._answers) + 1}" if self.before else f"{len(self._answers) + 1}"
        answer = Answer(event.turn, event.revision, f"resp_{number}", f"item_reply_{number}", self.metadata)
        self.answer, self.metadata = answer, None
        self._answers[answer.item_id] = answer
        self._turns[answer.item_id] = event.turn
        item = wire.Item(id=answer.item_id, status="in_progress", role="assistant", content=[])
        yield wire.ResponseCreated(response=self._response(answer, "in_progress"))
        yield wire.ResponseOutputItemAdded(response_id=answer.response_id, item=item)
        before = self.last_item
        self.items[answer.item_id] = item
        yield wire.ConversationItemAdded(previous_item_id=before, item=item)
        yield wire.ResponseContentPartAdded(
            response_id=answer.response_id, item_id=answer.item_id, part=wire.ContentPart(transcript="")
        )

    def _close(self, answer: Answer, details: wire.StatusDetails) -> Iterator[wire.ServerEvent]:
        """Everything of it was sent, or nothing more of it will be."""
        if not answer.open:
            return
        answer.open = False
        place = {"response_id": answer.response_id, "item_id": answer.item_id}
        item = answer.item("completed" if details.type == "completed" else "incomplete")
        ids = list(self.items)
        before = ids[ids.index(answer.item_id) - 1] if answer.item_id in ids[1:] else None
        if answer.item_id in self.items:
            self.items[answer.item_id] = item
        yield wire.ResponseOutputAudioDone(**place)
        yield wire.ResponseOutputAudioTranscriptDone(transcript=answer.transcript, **place)
        yield wire.ResponseContentPartDone(part=wire.ContentPart(transcript=answer.transcript), **place)
        yield wire.ResponseOutputItemDone(response_id=answer.response_id, item=item)
        yield wire.ConversationItemDone(previous_item_id=before, item=item)
        response = self._response(answer, details.type)
        response.status_details, response.output, response.usage = details, [item], wire.Usage()
        yield wire.ResponseDone(response=response)

    def _reply_done(self, answer: Answer, event: events.ReplyDone) -> Iterator[wire.ServerEvent]:
        yield from self._close(answer, _details(event.outcome, event.why))
        self.answer = None
        if event.outcome == "withdrawn" and answer.item_id in self.items:
            yield self.remove(answer.item_id)
        yield wire.ParleyReply(
            response_id=answer.response_id,
            item_id=answer.item_id,
            outcome=event.outcome,
            text=event.text,
            heard=event.heard,
            why=event.why,
        )

    def _response(self, answer: Answer, status: str) -> wire.Response:
        return wire.Response.model_validate(
            {
                "id": answer.response_id,
                "status": status,
                "conversation_id": self.conversation,
                "metadata": answer.metadata,
            }
        )


def _details(outcome: events.Outcome, why: str) -> wire.StatusDetails:
    match outcome:
        case "completed":
            return wire.StatusDetails(type="completed")
        case "failed":
            error = wire.StatusError(type="server_error", code="engine_error", message=why)
            return wire.StatusDetails(type="failed", error=error)
        case "interrupted" | "withdrawn":
            return wire.StatusDetails(
                type="cancelled", reason="client_cancelled" if why == CANCELLED else "turn_detected"
            )


def milliseconds(samples: int) -> int:
    """Of a reply's sound."""
    return 1000 * samples // MOUTH_RATE


def samples_in(ms: int) -> int:
    """Of a reply's sound."""
    return ms * MOUTH_RATE // 1000
