"""Translates a conversation's events into the protocol's.

Pure translation: it tracks which items and responses the client knows of, and touches neither socket nor engine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.audio import EAR_RATE, MOUTH_RATE
from pipeline.conversation import events
from pipeline.tools.calls import ToolCall
from pipeline.tools.wording import arguments, brief
from web.realtime import events as wire
from web.realtime import parts
from web.realtime.answer import Answer
from web.realtime.items import Items
from web.realtime.pcm import FromMouth
from web.realtime.usage import usage

CANCELLED = "the client cancelled"
"""The reason given for a reply that the client itself has stopped."""
CANCELLED_BY_CLIENT = parts.StatusDetails(type="cancelled", reason="client_cancelled")


@dataclass(slots=True)
class _Said:
    """What the client has been told of a turn's words."""

    told: str
    first: int
    """`first` and `end` are the turn's first sample and the one after its last, at 16 kHz."""
    end: int


class Narrator:
    def __init__(self, conversation: str, *, parley: bool = False) -> None:
        self.conversation = conversation
        self.before = 0
        """Turns of the conversation before this client's call; they distinguish the ids of new replies."""
        self.parley = parley
        """Whether the client asked for the `parley.` messages."""
        self.manual = False
        """Whether the client marks turns itself: then it is not told when speech starts and stops."""
        self.sounding = True
        """Whether the replies' sound goes to the client; False while the sound card plays it."""
        self.items = Items()
        """All items that the client knows of."""
        self.instructions = ""
        """The session's instructions, which count towards the prompt of each reply."""
        self.mouth = FromMouth()
        """Encodes the replies' sound for the client."""
        self.answer: Answer | None = None
        """The reply that is being generated or played."""
        self.asked: Answer | None = None
        """A reply that the client has requested, until the conversation starts it."""
        self.calls: set[str] = set()
        """Ids of the unanswered calls that the client was told of or has added itself."""
        self._answers: dict[str, Answer] = {}
        self._made = 0
        self._turns: dict[str, int] = {}
        self._typed: list[str] = []
        self._said: dict[int, _Said] = {}
        """Turns whose transcript is not final: one may begin before the previous one has been transcribed."""
        self._seconds: dict[str, float] = {}
        """The length of the user's items in seconds."""

    # -- what the client's messages need to know ----------------------------------------------------------------------

    def turn_of(self, item_id: str) -> int | None:
        """Return the turn of an item; None if the client only added it to the history."""
        return self._turns.get(item_id)

    def answer_of(self, item_id: str) -> Answer | None:
        """Return the reply of an item, even if it was withdrawn."""
        return self._answers.get(item_id)

    def add(self, item: parts.Item, after: str | None = None) -> list[wire.ServerEvent]:
        """Add an item that the client has created."""
        return self._announce(item, after)

    def typed(self, item: parts.Item) -> None:
        """Note that this item is now the user's turn; its number comes with the conversation's event."""
        self._typed.append(item.id or "")

    def untyped(self, item: parts.Item) -> None:
        """Note that this item did not become a turn after all."""
        self._typed.remove(item.id or "")

    def remove(self, item_id: str) -> wire.ConversationItemDeleted:
        self.items.remove(item_id)
        return wire.ConversationItemDeleted(item_id=item_id)

    def ask(self, metadata: parts.Metadata | None, *, spoken: bool, apart: bool = False) -> Answer:
        """Register a reply that the client requests; one `apart` is generated outside the conversation."""
        self._made += 1
        number = f"{self.before}_{self._made}" if self.before else f"{self._made}"
        answer = Answer(
            number,
            None if apart else self.conversation,
            self.items,
            FromMouth(self.mouth.encoding),
            metadata,
            spoken,
        )
        if not apart:
            self._answers[answer.item_id] = answer
            self.asked = answer
        return answer

    def close(self, answer: Answer, details: parts.StatusDetails) -> list[wire.ServerEvent]:
        """End a reply that will not be generated any further."""
        if answer is self.asked:
            self.asked = None
        return list(self._close(answer, details))

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
                self._said[event.turn] = _Said("", event.sample, event.sample)
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
            case events.SpeakerTold():
                yield wire.ParleySpeaker(item_id=self._user(event), speaker=event.speaker)
            case events.MemoryRecalled():
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
            case events.ToolUsed():
                yield _tool(event)
            case events.CallGivenUp():
                self.calls.discard(event.call_id)
                output = parts.FunctionCallOutput(
                    id=f"item_output_{event.call_id}", status="completed", call_id=event.call_id, output=event.result
                )
                yield from self._announce(output)
            case events.Notice():
                yield from self.notice(event.severity, event.text)
            case events.TurnFinished():
                yield wire.ParleyTurn(record=event.record.as_dict())
            case _:
                yield from self._of_reply(event)

    def notice(self, severity: events.Severity, text: str) -> list[wire.ServerEvent]:
        """Our page shows every notice; any other client is told only of errors, as the protocol's `error` event."""
        if self.parley:
            return [wire.ParleyNotice(severity=severity, text=text)]
        if severity == "error":
            return [wire.ErrorEvent(error=parts.ErrorDetail(type="server_error", code="engine_error", message=text))]
        return []

    def _user(self, event: events.Event) -> str:
        return f"item_user_{event.turn}"

    def _announce(self, item: parts.Item, after: str | None = None) -> list[wire.ServerEvent]:
        before = self.items.add(item, after)
        return [
            wire.ConversationItemAdded(previous_item_id=before, item=item),
            wire.ConversationItemDone(previous_item_id=before, item=item),
        ]

    def _speech_stopped(self, event: events.SpeechStopped) -> Iterator[wire.ServerEvent]:
        id = self._user(event)
        if not self.manual:
            yield wire.InputAudioBufferSpeechStopped(audio_end_ms=1000 * event.sample // EAR_RATE, item_id=id)
        if event.why == "dropped":
            self._said.pop(event.turn, None)
            return
        if (said := self._said.get(event.turn)) is not None:
            said.end = event.sample
        self._turns[id] = event.turn
        yield wire.InputAudioBufferCommitted(previous_item_id=self.items.last, item_id=id)
        content = parts.Content(type="input_audio")
        yield from self._announce(parts.Message(id=id, status="completed", role="user", content=[content]))

    def _delta(self, event: events.Event, text: str) -> Iterator[wire.ServerEvent]:
        """Send a delta only if it extends what was sent: a client appends deltas and could not take a word back."""
        said = self._said.setdefault(event.turn, _Said("", 0, 0))
        if len(text) > len(said.told) and text.startswith(said.told):
            yield wire.TranscriptionDelta(item_id=self._user(event), delta=text[len(said.told) :])
            said.told = text

    def _user_said(self, event: events.UserSaid) -> Iterator[wire.ServerEvent]:
        if event.typed:
            if self._typed:
                self._turns[self._typed.pop(0)] = event.turn
            return
        if event.continues is not None and (earlier := f"item_user_{event.continues}") in self.items:
            yield self.remove(earlier)  # this item contains its words
        yield from self._delta(event, event.text)
        id, said = self._user(event), self._said.pop(event.turn)
        seconds = max(0, said.end - said.first) / EAR_RATE
        self._seconds[id] = seconds
        content = parts.Content(type="input_audio", transcript=event.text)
        self.items.replace(parts.Message(id=id, status="completed", role="user", content=[content]))
        yield wire.TranscriptionCompleted(item_id=id, transcript=event.text, usage=parts.Duration(seconds=seconds))

    # -- a reply ------------------------------------------------------------------------------------------------------

    def _of_reply(self, event: events.Event) -> Iterator[wire.ServerEvent]:
        if isinstance(event, events.ReplyStarted):
            yield from self._reply_started(event)
            return
        asked = self.asked
        if isinstance(event, events.ReplyDone) and asked is not None and event.request == asked.response_id:
            yield from self.close(asked, _details(event.outcome, event.why))  # it ended before it had been started
            return
        answer = self.answer
        if answer is None or answer.of != (event.turn, event.revision):
            return
        match event:
            case events.ReplyText():
                yield from answer.text(event.text)
            case events.ReplyAudio():
                yield from answer.sound(event.samples, sounding=self.sounding)
            case events.ReplyPaused():
                yield wire.ParleyPause(response_id=answer.response_id)
            case events.ReplyResumed():
                yield wire.ParleyResume(response_id=answer.response_id)
            case events.ReplyMade():
                calls = tuple(call for call in event.calls if not call.own)
                self.calls |= {call.id for call in calls}
                yield from self._close(answer, _made(event), calls)
            case events.ReplyDone():
                yield from self._reply_done(answer, event)

    def tell_aside(self, answer: Answer, event: events.Event) -> list[wire.ServerEvent]:
        """Translate an event of a reply outside the conversation."""
        match event:
            case events.ReplyText():
                return list(answer.text(event.text))
            case events.ReplyAudio():
                return list(answer.sound(event.samples, sounding=True))
            case events.ReplyMade():
                return list(self._close(answer, _made(event), event.calls))
        return []

    def _reply_started(self, event: events.ReplyStarted) -> Iterator[wire.ServerEvent]:
        if self.answer is not None:
            yield from self._close(self.answer, parts.StatusDetails(type="cancelled", reason="turn_detected"))
        if self.asked is not None and self.asked.response_id == event.request:
            answer, self.asked = self.asked, None
        else:
            asked = self.asked
            answer, self.asked = self.ask(None, spoken=event.spoken), asked
            yield wire.ResponseCreated(response=answer.response("in_progress"))
        answer.of = event.turn, event.revision
        answer.kept = event.kept
        self.answer = answer
        self._turns[answer.item_id] = event.turn

    def _close(
        self, answer: Answer, details: parts.StatusDetails, calls: tuple[ToolCall, ...] = ()
    ) -> Iterator[wire.ServerEvent]:
        if answer.open:
            counted = usage(self.instructions, self.items, self._seconds, answer)
            yield from answer.close(details, counted, calls, sounding=self.sounding)

    def _reply_done(self, answer: Answer, event: events.ReplyDone) -> Iterator[wire.ServerEvent]:
        yield from self._close(answer, _details(event.outcome, event.why))
        self.answer = None
        if event.outcome == "withdrawn":
            for item in answer.output:
                if (id := item.id or "") in self.items:
                    yield self.remove(id)
        elif event.outcome == "interrupted" and answer.spoken:
            self.items.replace(answer.message("incomplete", event.heard))
        yield wire.ParleyReply(
            response_id=answer.response_id,
            item_id=answer.item_id,
            outcome=event.outcome,
            text=event.text,
            heard=event.heard,
            why=event.why,
        )


def _tool(event: events.ToolUsed) -> wire.ParleyTool:
    return wire.ParleyTool(
        call_id=event.call.id,
        name=event.call.name,
        arguments=arguments(event.call),
        state=event.state,
        result=brief(event.result),
        seconds=round(event.seconds, 1),
    )


def _made(event: events.ReplyMade) -> parts.StatusDetails:
    if event.failure is not None:
        return _details("failed", event.failure)
    if event.truncated:
        return parts.StatusDetails(type="incomplete", reason="max_output_tokens")
    return _details("completed", "")


def _details(outcome: events.Outcome, why: str) -> parts.StatusDetails:
    match outcome:
        case "completed":
            return parts.StatusDetails(type="completed")
        case "failed":
            error = parts.StatusError(type="server_error", code="engine_error", message=why)
            return parts.StatusDetails(type="failed", error=error)
        case "interrupted" | "withdrawn":
            return (
                CANCELLED_BY_CLIENT
                if why == CANCELLED
                else parts.StatusDetails(type="cancelled", reason="turn_detected")
            )


def milliseconds(samples: int) -> int:
    """Convert samples of a reply to milliseconds, rounded up as a client may do."""
    return -(-1000 * samples // MOUTH_RATE)


def samples_in(ms: int) -> int:
    """Convert milliseconds of a reply to samples."""
    return ms * MOUTH_RATE // 1000
