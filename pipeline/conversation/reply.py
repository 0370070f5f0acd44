"""One reply: its text is split into clauses as it is written, spoken, held back until it may be heard, and tracked
until its last sample is played."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from pipeline.audio import MOUTH_RATE
from pipeline.conversation.events import Event, ReplyAudio, ReplyMade, ReplyStarted, ReplyText
from pipeline.conversation.outbox import Outbox
from pipeline.conversation.request import USUAL, Request
from pipeline.engine import EngineError
from pipeline.llm import Truncated
from pipeline.tools.calls import ToolCall
from pipeline.tts import ContextualSpeaker, Speaker, Spoken, WordTime
from pipeline.tts.clauses import SENTENCE_ENDS, ClauseSplitter, reached
from pipeline.tts.speakable import speakable
from pipeline.turns.record import TurnRecord

AHEAD = 20 * MOUTH_RATE
"""How many samples may be made ahead of playback; the limit keeps an interrupted reply from wasting much."""

CLAUSES_WAITING = 4


@dataclass(slots=True)
class SpokenClause:
    """A clause and its position in the reply's audio."""

    text: str
    """The text as it is read."""
    spoken: str
    """The text as it was given to the voice."""
    first_sample: int
    samples: int = 0
    words: list[WordTime] = field(default_factory=list)

    def heard(self, samples: int) -> str:
        """Return the text up to the word that was reached after `samples` of this clause.

        Uses the voice's own word times if there are any, otherwise the proportion of the audio.
        """
        if samples <= 0:
            return ""
        if self.words:
            share = sum(1 for word in self.words if word.sample < samples) / len(self.words)
        else:
            share = min(1.0, samples / self.samples) if self.samples else 1.0
        return reached(self.text, share)


def heard_text(clauses: Sequence[SpokenClause], samples: int) -> str:
    """Return the text of a reply's first `samples`."""
    said = (clause.heard(min(samples - clause.first_sample, clause.samples)) for clause in clauses)
    return " ".join(text for text in said if text)


class Reply:
    def __init__(
        self,
        record: TurnRecord,
        text: AsyncGenerator[str | ToolCall | Truncated, None],
        speaker: Speaker,
        outbox: Outbox,
        clock: Callable[[], float],
        request: Request = USUAL,
    ) -> None:
        self.record = record
        self.request = request
        self.turn = record.turn
        self.revision = record.revision
        self.clauses: list[SpokenClause] = []
        self.samples = 0
        """Samples made so far."""
        self.played = 0
        self.made = False
        self.failure: EngineError | None = None
        self.calls: tuple[ToolCall, ...] = ()
        """The tool calls it makes; sent after everything else of the reply."""
        self.covers: frozenset[str] = frozenset()
        """The ids of calls whose results this reply is the first to report."""
        self.truncated = False
        self.tokens = 0
        """Pieces of text written so far, heard or not."""
        self._text = text
        self._speaker = speaker
        self._outbox = outbox
        self._clock = clock
        self._released = asyncio.Event()
        self._progressed = asyncio.Event()
        self._held: list[Event] = []

    @property
    def released(self) -> bool:
        return self._released.is_set()

    @property
    def over(self) -> bool:
        """Whether everything that could be made was made and heard."""
        return self.made and self.released and self.played >= self.samples

    @property
    def text(self) -> str:
        joint = " " if self.request.spoken else ""
        return joint.join(clause.text for clause in self.clauses).strip()

    @property
    def heard(self) -> str:
        """The text that was heard; if the reply is not spoken, all text that was sent."""
        if self.request.spoken:
            return heard_text(self.clauses, self.played)
        return self.text if self.released else ""

    def release(self) -> None:
        """Release the reply: what was held back is sent at once."""
        if self.released:
            return
        self._outbox.post(
            ReplyStarted(self.turn, self.revision, self.request.id, self.request.spoken, self.request.kept)
        )
        for event in self._held:
            self._outbox.post(event)
        if any(isinstance(event, ReplyAudio) for event in self._held):
            self.record.mark("first_sent", self._clock())
        self._held.clear()
        self._released.set()

    def reached(self, played: int) -> None:
        """Take the playback progress of the audio end; impossible figures are clamped to what was sent."""
        self.played = max(self.played, min(played, self.samples if self.released else 0))
        if self.played:
            self.record.mark("first_heard", self._clock())
        self._progressed.set()

    async def run(self) -> None:
        """Write and speak until done; an engine's failure is kept in `failure`, and said aloud if possible."""
        if not self.request.spoken:
            await self._show()
        else:
            await self._say()
        await self._released.wait()
        self.made = True
        self.record.mark("reply_made", self._clock())
        failure = None if self.failure is None else str(self.failure)
        calls = self.calls if self.failure is None else ()
        self._outbox.post(ReplyMade(self.turn, self.revision, self.samples, failure, self.truncated, calls))

    async def _show(self) -> None:
        """Send the text as it is written; nothing is spoken."""
        async with aclosing(self._pieces()) as pieces:
            async for piece in pieces:
                self.clauses.append(SpokenClause(piece, "", 0))
                self._send(ReplyText(self.turn, self.revision, piece))

    async def _pieces(self) -> AsyncGenerator[str, None]:
        """Yield the text as it is written; keep the language model's calls, truncation and failure."""
        async with aclosing(self._text) as pieces:
            try:
                async for piece in pieces:
                    if isinstance(piece, Truncated):
                        self.truncated = True
                    elif isinstance(piece, ToolCall):
                        self.calls = (*self.calls, piece)
                    else:
                        self.record.mark("first_token", self._clock())
                        self.tokens += 1
                        yield piece
            except EngineError as error:
                self.failure = error

    async def _say(self) -> None:
        clauses: asyncio.Queue[str | None] = asyncio.Queue(CLAUSES_WAITING)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._write(clauses))
                tasks.create_task(self._speak(clauses))
        except* EngineError as failures:
            self.failure = next(error for error in failures.exceptions if isinstance(error, EngineError))

    async def remember(self) -> None:
        """Tell a voice that uses context how much of the reply, now over, was heard."""
        if isinstance(self._speaker, ContextualSpeaker):
            await self._speaker.reply_heard(self.played)

    async def _write(self, clauses: asyncio.Queue[str | None]) -> None:
        splitter, begun = ClauseSplitter(), False
        async with aclosing(self._pieces()) as pieces:
            async for piece in pieces:
                for clause in splitter.feed(piece):
                    await clauses.put(clause)
                    begun = True
        for clause in splitter.finish():
            if not self.truncated or not begun or clause.endswith(tuple(SENTENCE_ENDS)):
                await clauses.put(clause)
        if self.failure is not None:
            await clauses.put(f"Sorry, I cannot go on: {self.failure}")
        await clauses.put(None)

    async def _speak(self, clauses: asyncio.Queue[str | None]) -> None:
        while (text := await clauses.get()) is not None:
            self.record.mark("first_clause", self._clock())
            clause = SpokenClause(text, speakable(text), self.samples)
            self.clauses.append(clause)
            self._send(ReplyText(self.turn, self.revision, text))
            if clause.spoken:
                async with aclosing(self._speaker.speak(clause.spoken)) as sounds:
                    async for sound in sounds:
                        await self._sound(clause, sound)
            await self._released.wait()  # at most the first clause is made on speculation

    async def _sound(self, clause: SpokenClause, sound: Spoken) -> None:
        clause.words.extend(sound.words)
        if not len(sound.samples):
            return
        self.record.mark("first_sample", self._clock())
        if self.released:
            await self._outbox.room()
            while self.samples - self.played > AHEAD:
                self._progressed.clear()
                await self._progressed.wait()
        event = ReplyAudio(self.turn, self.revision, sound.samples, self.samples)
        clause.samples += len(sound.samples)
        self.samples += len(sound.samples)
        self._send(event)

    def _send(self, event: Event) -> None:
        if not self.released:
            self._held.append(event)
            return
        self._outbox.post(event)
        if isinstance(event, ReplyAudio):
            self.record.mark("first_sent", self._clock())
