"""One reply as the client sees it, from `response.created` to `response.done`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from pipeline.audio import Samples
from pipeline.conversation.reply import SpokenClause, heard_text
from pipeline.tools.calls import ToolCall
from web.realtime import events as wire
from web.realtime import parts
from web.realtime.items import Items
from web.realtime.pcm import FromMouth


@dataclass(slots=True)
class Answer:
    number: str
    """Its number among the conversation's replies."""
    conversation: str | None
    """None: the reply is outside the conversation, and its items are not added to it."""
    items: Items
    """The conversation's items."""
    mouth: FromMouth
    metadata: parts.Metadata | None = None
    spoken: bool = True
    kept: bool = True
    """False: the reply only fills a silence, and any requested reply replaces it."""
    of: tuple[int, int] | None = None
    """Turn and revision; None until the conversation has started the reply."""
    clauses: list[SpokenClause] = field(default_factory=list)
    samples: int = 0
    """Samples taken from the mouth so far."""
    open: bool = True
    """`response.done` has not been sent yet."""
    output: list[parts.Item] = field(default_factory=list)
    _begun: bool = False
    """Whether the client has been told of the message."""

    @property
    def response_id(self) -> str:
        return f"resp_{self.number}"

    @property
    def item_id(self) -> str:
        return f"item_reply_{self.number}"

    @property
    def transcript(self) -> str:
        return (" " if self.spoken else "").join(clause.text for clause in self.clauses)

    def heard(self, samples: int) -> str:
        """The text of the first `samples`, in proportion within each clause."""
        return heard_text(self.clauses, samples)

    def message(self, status: parts.ItemStatus, text: str | None = None) -> parts.Message:
        """Return the message with the full text of the reply, or with `text`, the part that was heard."""
        text = self.transcript if text is None else text
        content = parts.Content(type="output_text", text=text)
        if self.spoken:
            content = parts.Content(type="output_audio", transcript=text)
        return parts.Message(id=self.item_id, status=status, role="assistant", content=[content])

    def response(self, status: parts.ResponseStatus) -> parts.Response:
        return parts.Response(
            id=self.response_id,
            status=status,
            conversation_id=self.conversation,
            output_modalities=["audio"] if self.spoken else ["text"],
            metadata=self.metadata,
        )

    def text(self, text: str) -> Iterator[wire.ServerEvent]:
        yield from self._begin()
        if not self.spoken:
            self.clauses.append(SpokenClause(text, "", 0))
            yield wire.ResponseOutputTextDelta(delta=text, response_id=self.response_id, item_id=self.item_id)
            return
        delta = f" {text}" if self.clauses else text
        self.clauses.append(SpokenClause(text, text, self.samples))
        yield wire.ResponseOutputAudioTranscriptDelta(delta=delta, response_id=self.response_id, item_id=self.item_id)

    def sound(self, samples: Samples, *, sounding: bool) -> Iterator[wire.ServerEvent]:
        """Add samples. `sounding`: whether they are sent to the client."""
        self.samples += len(samples)
        if self.clauses:
            self.clauses[-1].samples += len(samples)
        if sounding:
            yield from self._deltas(self.mouth.feed(samples))

    def close(
        self, details: parts.StatusDetails, usage: parts.Usage, calls: Sequence[ToolCall] = (), *, sounding: bool = True
    ) -> Iterator[wire.ServerEvent]:
        """End the reply, because everything has been sent or nothing more will be."""
        if not self.open:
            return
        self.open = False
        if self._begun:
            yield from self._finish("completed" if details.type == "completed" else "incomplete", sounding=sounding)
        for number, call in enumerate(calls, start=1):
            yield from self._call(number, call)
        response = self.response(details.type)
        response.status_details, response.output, response.usage = details, self.output, usage
        yield wire.ResponseDone(response=response)

    def _begin(self) -> Iterator[wire.ServerEvent]:
        if self._begun:
            return
        self._begun = True
        message = parts.Message(id=self.item_id, status="in_progress", role="assistant", content=[])
        yield wire.ResponseOutputItemAdded(response_id=self.response_id, item=message)
        yield from self._added(message)
        part = parts.ContentPart(transcript="") if self.spoken else parts.ContentPart(type="text", text="")
        yield wire.ResponseContentPartAdded(response_id=self.response_id, item_id=self.item_id, part=part)

    def _finish(self, status: parts.ItemStatus, *, sounding: bool) -> Iterator[wire.ServerEvent]:
        place = {"response_id": self.response_id, "item_id": self.item_id}
        message = self.message(status)
        if self.spoken:
            rest = self.mouth.flush()
            if sounding and status == "completed":
                yield from self._deltas(rest)
            yield wire.ResponseOutputAudioDone(**place)
            yield wire.ResponseOutputAudioTranscriptDone(transcript=self.transcript, **place)
            part = parts.ContentPart(transcript=self.transcript)
        else:
            yield wire.ResponseOutputTextDone(text=self.transcript, **place)
            part = parts.ContentPart(type="text", text=self.transcript)
        yield wire.ResponseContentPartDone(part=part, **place)
        yield from self._done(message)

    def _call(self, number: int, call: ToolCall) -> Iterator[wire.ServerEvent]:
        """Announce a call as an item, then by its arguments: clients read either, and expect this order."""
        item_id = f"item_call_{self.number}_{number}"
        begun = parts.FunctionCall(id=item_id, status="in_progress", call_id=call.id, name=call.name, arguments="")
        index = len(self.output)
        place = {"response_id": self.response_id, "item_id": item_id, "call_id": call.id}
        yield wire.ResponseOutputItemAdded(response_id=self.response_id, output_index=index, item=begun)
        yield from self._added(begun)
        yield wire.ResponseFunctionCallArgumentsDelta(delta=call.arguments, output_index=index, **place)
        yield wire.ResponseFunctionCallArgumentsDone(
            name=call.name, arguments=call.arguments, output_index=index, **place
        )
        yield from self._done(begun.model_copy(update={"status": "completed", "arguments": call.arguments}))

    def _added(self, item: parts.Item) -> Iterator[wire.ServerEvent]:
        if self.conversation is not None:
            before = self.items.add(item)
            yield wire.ConversationItemAdded(previous_item_id=before, item=item)

    def _done(self, item: parts.Item) -> Iterator[wire.ServerEvent]:
        yield wire.ResponseOutputItemDone(response_id=self.response_id, output_index=len(self.output), item=item)
        self.output.append(item)
        if self.conversation is not None:
            before = self.items.before(item.id or "")
            self.items.replace(item)
            yield wire.ConversationItemDone(previous_item_id=before, item=item)

    def _deltas(self, payloads: Iterator[str]) -> Iterator[wire.ServerEvent]:
        for payload in payloads:
            yield wire.ResponseOutputAudioDelta(delta=payload, response_id=self.response_id, item_id=self.item_id)
