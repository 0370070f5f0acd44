"""One reply: text as it is written, made into clauses, spoken, held back until it may be heard, and followed
until its last sample was played."""

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
"""How many samples may be made ahead of what was played: an interrupted reply then wastes little."""

CLAUSES_WAITING = 4


@dataclass(slots=True)
class SpokenClause:
    """A clause and where it lies in the reply's sound."""

    text: str
    """As it is read."""
    spoken: str
    """As the voice was given it."""
    first_sample: int
    samples: int = 0
    words: list[WordTime] = field(default_factory=list)

    def heard(self, samples: int) -> str:
        """The text up to the word that was reached after `samples` of this clause.

        From the voice's own word times where it gives them, otherwise in proportion to the sound.
        """
        if samples <= 0:
            return ""
        if self.words:
            share = sum(1 for word in self.words if word.sample < samples) / len(self.words)
        else:
            share = min(1.0, samples / self.samples) if self.samples else 1.0
        return reached(self.text, share)


def heard_text(clauses: Sequence[SpokenClause], samples: int) -> str:
    """The text of a reply's first `samples`."""
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
        """Made so far."""
        self.played = 0
        self.made = False
        self.failure: EngineError | None = None
        self.calls: tuple[ToolCall, ...] = ()
        """What it asks to have done; told when all else of it was sent."""
        self.covers: frozenset[str] = frozenset()
        """Results of tools that it is the first to be made from."""
        self.truncated = False
        self.tokens = 0
        """Pieces of text that were written, heard or not."""
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
        """Everything that could be made was made, and heard."""
        return self.made and self.released and self.played >= self.samples

    @property
    def text(self) -> str:
        joint = " " if self.request.spoken else ""
        return joint.join(clause.text for clause in self.clauses).strip()

    @property
    def heard(self) -> str:
        """What is only read is read as it comes."""
        if self.request.spoken:
            return heard_text(self.clauses, self.played)
        return self.text if self.released else ""

    def release(self) -> None:
        """Let it out: what was held back leaves at once."""
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
        """The end of the sound reports its progress; impossible figures are brought within what was sent."""
        self.played = max(self.played, min(played, self.samples if self.released else 0))
        if self.played:
            self.record.mark("first_heard", self._clock())
        self._progressed.set()

    async def run(self) -> None:
        """Write and speak until done; an engine's failure is kept in `failure`, and said aloud where possible."""
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
        """The text as it is written. What comes of a language model beside it is kept, its failure too."""
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
        """It is over: a voice that keeps what it said keeps what was heard of it."""
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
            await self._released.wait()  # no more than the first clause is made on speculation

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
