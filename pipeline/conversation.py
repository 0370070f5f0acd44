"""The conversation: listening, thinking, speaking.

Sound comes in by `hear`, leaves by `events`, and `played` reports what was really heard. Everything between runs in
tasks of this object; nothing blocks the loop. The state is derived from the user's turn and the reply, never kept.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import aclosing
from datetime import datetime
from typing import Any, Literal, Self, TypeVar

import numpy as np

from config import Settings
from pipeline.audio import EAR_RATE, Samples
from pipeline.engine import EngineError
from pipeline.events import (
    Event,
    MicrophoneLevel,
    Notice,
    Outcome,
    PartialTranscript,
    Recalled,
    ReplyDone,
    ReplyPaused,
    ReplyResumed,
    Severity,
    SpeechStarted,
    SpeechStopped,
    State,
    StateChanged,
    TurnFinished,
    UserSaid,
)
from pipeline.history import History
from pipeline.listening import Listening, UserTurn
from pipeline.llm import Message, Prompt
from pipeline.metrics import TurnRecord
from pipeline.outbox import Outbox
from pipeline.reply import Reply
from pipeline.stages import Stages
from pipeline.stt import Transcript
from pipeline.tts import Speaker
from pipeline.turns import FRAME_MS, EndOfTurn, InterruptionJudge, Intrusion, Pause, SilenceLimit, SpeechDetector
from pipeline.vad import FRAME
from rag import Recall

log = logging.getLogger(__name__)

T = TypeVar("T")

Mode = Literal["automatic", "detect", "manual"]
"""automatic: turns are found and answered. detect: found, answered on respond(). manual: commit() and respond()."""

BACKLOG = 120 * EAR_RATE
"""Samples that may wait to be heard; a file is fed at once, a microphone never comes near."""

LEVEL_EVERY = 3
"""Frames between two reports to the meters: about ten a second."""

ASK_AGAIN = "Sorry, I didn't catch that. Could you say it again?"
WORTH_ASKING_MS = 400
"""Less speech than this without a word in it was a noise, and is passed over."""


def local_now() -> datetime:
    return datetime.now().astimezone()


class Conversation:
    def __init__(
        self,
        stages: Stages,
        settings: Settings,
        *,
        name: str,
        mode: Mode = "automatic",
        on_record: Callable[[TurnRecord], None] | None = None,
        now: Callable[[], datetime] = local_now,
    ) -> None:
        """`name` identifies the conversation in memory and records; `now` is the wall clock."""
        self.name = name
        self.history = History()
        self._stages = stages
        self._settings = settings
        self._mode = mode
        self._on_record = on_record
        self._now = now
        self._clock = asyncio.get_running_loop().time
        self._began = self._clock()
        self._outbox = Outbox()
        self._inbox: asyncio.Queue[Samples] = asyncio.Queue()
        self._backlog = 0
        self._samples = 0
        self._rest: Samples = np.zeros(0, np.float32)
        self._vad = stages.vad()
        self._detector = SpeechDetector(settings.ears.sensitivity)
        self._speaker: Speaker = stages.voice.speaker()
        self._pre_roll: deque[Samples] = deque()
        self._levels: list[tuple[float, float]] = []
        self._turns = 0
        self._turn: UserTurn | None = None
        self._settling: asyncio.Task[TurnRecord | None] | None = None
        self._reply: Reply | None = None
        self._reply_task: asyncio.Task[None] | None = None
        self._told: State = "listening"
        self._tasks: set[asyncio.Task[Any]] = set()
        self._kept: asyncio.Task[None] | None = None
        """The newest of a chain: each waits for the one before it."""

    # -- its life ---------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self._spawn(self._listen())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cancel("the conversation was closed")
        if self._turn is not None:
            self._drop_turn()
        if self._kept is not None:  # what was said is kept before we go
            await asyncio.gather(self._kept, return_exceptions=True)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._speaker.close()
        self._outbox.close()

    def configure(self, settings: Settings, *, mode: Mode | None = None, stages: Stages | None = None) -> None:
        """Take effect from the next turn on; what is being said is not disturbed."""
        self._settings = settings
        self._detector.sensitivity = settings.ears.sensitivity
        if mode is not None:
            self._mode = mode
        if stages is not None:
            if stages.voice is not self._stages.voice:
                self._spawn(self._speaker.close())
                self._speaker = stages.voice.speaker()
            self._stages = stages

    @property
    def state(self) -> State:
        if self._reply is not None and self._reply.released and self._reply.samples:
            return "speaking"
        if self._settling is not None or (self._reply is not None and self._reply.released):
            return "thinking"
        return "listening"

    # -- what comes in ----------------------------------------------------------------------------------------------

    def hear(self, samples: Samples) -> None:
        """Take 16 kHz samples of any length. Never blocks; sound that nobody can keep up with is dropped, and told."""
        if self._backlog + len(samples) > BACKLOG:
            self._notice("warning", "This computer cannot keep up with the microphone; some sound was not heard.")
            return
        self._backlog += len(samples)
        self._inbox.put_nowait(samples)

    async def caught_up(self) -> None:
        """Wait until everything given to hear() has been listened to."""
        await self._inbox.join()

    async def say(self, text: str) -> None:
        """A turn that the user typed."""
        self.cancel("the user typed")
        record = self._new_record()
        self._outbox.post(UserSaid(record.turn, record.revision, text, typed=True))
        self._user_said(record, text)
        record.mark("speech_ended", self._clock())
        self._start_reply(record, self._answer(record, text=None), release=True)

    async def respond(self, persona: str | None = None) -> None:
        """Reply now, to what was said last."""
        settled = await asyncio.shield(self._settling) if self._settling is not None else None
        self.cancel("a new reply was asked for")
        record = settled or self._new_record()
        self._start_reply(record, self._answer(record, text=None, persona=persona), release=True)

    def commit(self) -> None:
        """What was heard so far is the user's turn."""
        if self._turn is not None:
            self._end_turn(self._turn, "committed")

    def clear(self) -> None:
        """Forget what was heard of a turn that has not ended."""
        if self._turn is not None:
            self._drop_turn()

    def cancel(self, why: str) -> None:
        """Stop the reply that is being made or played."""
        if self._reply is not None:
            self._finish_reply(self._reply, "interrupted", why)

    def played(self, samples: int) -> None:
        """How many samples of the current reply have really been heard so far (24 kHz)."""
        if self._reply is None:
            return
        self._reply.reached(samples)
        if self._reply.over:
            self._finish_reply(self._reply, *self._outcome(self._reply))

    # -- what goes out ----------------------------------------------------------------------------------------------

    def events(self) -> AsyncIterator[Event]:
        """For one consumer, which holds up the reply's sound when it does not read."""
        return aiter(self._outbox)

    # -- listening --------------------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        while True:
            block = await self._inbox.get()
            self._backlog -= len(block)
            sound = np.concatenate([self._rest, block])
            whole = len(sound) - len(sound) % FRAME
            for start in range(0, whole, FRAME):
                self._frame(sound[start : start + FRAME])
                if start % (32 * FRAME) == 0:
                    await asyncio.sleep(0)  # a long block must not hold up the loop
            self._rest = sound[whole:]
            self._inbox.task_done()

    def _frame(self, frame: Samples) -> None:
        self._samples += FRAME
        probability = self._vad.probability(frame)
        self._detector.update(probability)
        self._meter(frame, probability)
        talking = self._detector.speaking
        turn = self._turn
        if turn is None:
            self._pre_roll.append(frame)
            while len(self._pre_roll) * FRAME_MS > self._settings.turns.pre_roll_ms:
                self._pre_roll.popleft()
            if talking or self._mode == "manual":
                self._begin_turn()
            return
        turn.feed(frame, speech=talking and self._detector.silence_frames == 0, now=self._samples)
        if turn.speech_ms >= 1000 * self._settings.turns.max_speech_s:
            self._end_turn(turn, f"{self._settings.turns.max_speech_s:.0f} s without an end")
        elif self._mode == "manual":
            pass
        elif self._reply is not None and self._reply.turn != turn.number:
            self._judge_intrusion(turn, self._reply)
        elif talking:
            if turn.soft_ended:
                self._resume_turn(turn)
        else:
            self._judge_pause(turn)

    def _meter(self, frame: Samples, probability: float) -> None:
        self._levels.append((float(np.abs(frame).max()), probability))
        if len(self._levels) == LEVEL_EVERY:
            peak, likely = (max(values) for values in zip(*self._levels, strict=True))
            self._levels.clear()
            number, revision = (self._turn.number, self._turn.revision) if self._turn else (self._turns, 0)
            self._outbox.post(MicrophoneLevel(number, revision, min(peak, 1.0), likely))

    def _begin_turn(self) -> None:
        record = self._new_record()
        started = self._samples - FRAME * len(self._pre_roll)
        listening = Listening(self._stages.ears.listen(), self._on_partial)
        turn = self._turn = UserTurn(record, started, listening)
        for frame in self._pre_roll:
            turn.feed(frame, speech=False, now=self._samples)
        turn.speech_end = self._samples
        turn.speech_samples = SpeechDetector.ONSET * FRAME
        self._pre_roll.clear()
        record.mark("speech_started", self._clock())
        self._outbox.post(SpeechStarted(turn.number, turn.revision, started))
        if self._reply is not None:
            self._outbox.post(ReplyPaused(self._reply.turn, self._reply.revision))

    def _on_partial(self, partial: Transcript) -> None:
        if (turn := self._turn) is not None:
            turn.transcript = partial.text
            self._outbox.post(PartialTranscript(turn.number, turn.revision, partial.text, partial.stable))

    def _judge_intrusion(self, turn: UserTurn, reply: Reply) -> None:
        """Speech while a reply is there: a real interruption, or a cough or "mm-hmm" to be talked over?"""
        final = turn.final is not None and turn.final.done()
        if self._detector.speaking:
            turn.final = None
        elif turn.silence_ms(self._samples) >= self._settings.turns.soft_silence_ms / 2:
            turn.finish()
        if final and turn.final is not None and turn.final.exception() is None:
            turn.transcript = turn.final.result().text
        ruling = InterruptionJudge().ruling(
            Intrusion(turn.speech_ms, turn.silence_ms(self._samples), turn.transcript, final)
        )
        if ruling is None:
            return
        if ruling.kind == "interruption":
            self._finish_reply(reply, "interrupted", f"the user interrupted: {ruling.why}")
            return
        reply.record.notes.append(f"talked on: {ruling.why}")
        self._drop_turn()
        if not reply.released and self._settling is None:
            reply.release()
        self._outbox.post(ReplyResumed(reply.turn, reply.revision))

    def _judge_pause(self, turn: UserTurn) -> None:
        pause = Pause(turn.silence_ms(self._samples), turn.speech_ms, turn.transcript)
        if not turn.soft_ended and pause.silence_ms >= self._settings.turns.soft_silence_ms:
            self._soft_end(turn)
        if (why := self._end_of_turn().verdict(pause)) is not None:
            self._end_turn(turn, why)

    def _end_of_turn(self) -> EndOfTurn:
        return SilenceLimit(self._settings.turns.silence_ms)

    def _soft_end(self, turn: UserTurn) -> None:
        """Perhaps the end: finish the transcript and prepare a reply, held back until the turn is decided."""
        turn.soft_ended = True
        now = self._clock()
        turn.record.marks["speech_ended"] = now - turn.silence_ms(self._samples) / 1000
        turn.record.marks["soft_end"] = now
        turn.finish()
        if self._mode == "automatic" and self._reply is None:
            turn.record.speculations += 1
            self._start_reply(turn.record, self._answer(turn.record, text=turn.finish()), release=False)

    def _resume_turn(self, turn: UserTurn) -> None:
        """Speech goes on: the same turn in a new revision, what was prepared is thrown away."""
        if (reply := self._reply) is not None and reply.turn == turn.number:
            turn.record.wasted_tokens += reply.tokens
            self._discard(reply)
        turn.goes_on()
        kept = ("speech_started",)
        turn.record.marks = {name: at for name, at in turn.record.marks.items() if name in kept}

    def _end_turn(self, turn: UserTurn, why: str) -> None:
        if not turn.soft_ended:
            self._soft_end(turn)
        turn.record.mark("decided", self._clock())
        turn.record.end_of_turn = why
        self._outbox.post(SpeechStopped(turn.number, turn.revision, turn.speech_end, why))
        self._turn = None
        self._vad.reset()
        self._settling = self._spawn(self._settle(turn))
        self._tell_state()

    def _drop_turn(self) -> None:
        turn, self._turn = self._turn, None
        if turn is not None:
            if turn.final is not None:
                turn.final.cancel()
            self._track(turn.listening.close())
            if self._reply is not None and self._reply.turn == turn.number:
                self._discard(self._reply)
            self._outbox.post(SpeechStopped(turn.number, turn.revision, turn.speech_end, "dropped"))

    async def _settle(self, turn: UserTurn) -> TurnRecord | None:
        """The turn has ended: its words become history, and the reply that was prepared for them is let out."""
        record = turn.record
        heard = ""
        try:
            heard = (await turn.finish()).text
        except EngineError as error:
            record.why = str(error)
            self._notice("error", f"Your words were not understood: {error}")
        finally:
            self._track(turn.listening.close())
            if self._settling is asyncio.current_task():
                self._settling = None
        record.mark("transcript_final", self._clock())
        self._outbox.post(UserSaid(record.turn, record.revision, heard))
        reply = self._reply if self._reply is not None and self._reply.record is record else None
        if not heard:
            if reply is not None:
                self._discard(reply)
            self._not_understood(turn)
            return None
        self._user_said(record, heard)
        self._spawn(self._speaker.heard(heard, turn.sound))
        if reply is not None and self._turn is None:  # else someone is speaking again, and the ruling lets it out
            reply.release()
        self._tell_state()
        return record

    def _not_understood(self, turn: UserTurn) -> None:
        """Ask again, once; after that a sentence on the page is enough."""
        record = turn.record
        asked = any(entry.role == "assistant" and entry.text == ASK_AGAIN for entry in self.history.entries[-1:])
        if self._mode == "automatic" and turn.speech_ms >= WORTH_ASKING_MS and not asked and not record.why:
            record.revision += 1
            self._start_reply(record, _just(ASK_AGAIN), release=True)
            return
        record.outcome = "not understood"
        self._notice("info", "Something was heard, but no words were understood.")
        self._close_record(record)
        self._tell_state()

    # -- thinking and speaking --------------------------------------------------------------------------------------

    def _user_said(self, record: TurnRecord, text: str) -> None:
        record.user = text
        self.history.add("user", text, record.turn)
        self._keep("user", text)

    async def _answer(
        self, record: TurnRecord, *, text: asyncio.Task[Transcript] | None, persona: str | None = None
    ) -> AsyncGenerator[str, None]:
        """The reply's text. `text` is the user's turn while it is not history yet."""
        history = self.history.messages
        if text is not None:
            said = (await asyncio.shield(text)).text
            record.mark("transcript_final", self._clock())
            if not said:
                return
            history = (*history, Message("user", said))
        recalled = await self._recall(record, history[-1].text if history else "")
        prompt = Prompt(persona or self._settings.mind.persona, history, recalled, self._now())
        async with aclosing(self._stages.mind.reply(prompt)) as pieces:
            async for piece in pieces:
                yield piece

    async def _recall(self, record: TurnRecord, query: str) -> Recall | None:
        if self._stages.memory is None or not self._settings.memory.enabled or not query:
            return None
        try:
            if self._kept is not None:  # a finished turn is in memory before the next one begins
                await asyncio.shield(self._kept)
            recalled = await self._stages.memory.recall(
                query,
                budget_chars=self._settings.memory.budget_chars,
                now=self._now(),
                exclude_conversation=self.name,
            )
        except EngineError as error:
            self._notice("warning", f"Nothing could be recalled for this turn: {error}")
            return None
        record.mark("recalled", self._clock())
        self._outbox.post(Recalled(record.turn, record.revision, recalled))
        return recalled

    def _start_reply(self, record: TurnRecord, text: AsyncGenerator[str, None], *, release: bool) -> None:
        reply = self._reply = Reply(record, text, self._speaker, self._outbox, self._clock)
        self._reply_task = self._spawn(self._run(reply))
        if release:
            reply.release()
        self._tell_state()

    async def _run(self, reply: Reply) -> None:
        await reply.run()
        if reply.failure is not None:
            self._notice("error", str(reply.failure))
        if reply is self._reply and reply.over:
            self._finish_reply(reply, *self._outcome(reply))
        self._tell_state()

    def _outcome(self, reply: Reply) -> tuple[Outcome, str]:
        if reply.failure is not None:
            return "failed", str(reply.failure)
        return "completed", "all of it was heard" if reply.samples else "nothing to say"

    def _discard(self, reply: Reply) -> None:
        """Stop making it; nothing more of it leaves the outbox. The only place where a reply is cancelled."""
        if reply is not self._reply:
            return
        self._reply = None
        self._outbox.cancel_before(reply.turn, reply.revision + 1)
        if self._reply_task is not None and self._reply_task is not asyncio.current_task():
            self._reply_task.cancel()
        self._reply_task = None

    def _finish_reply(self, reply: Reply, outcome: Outcome, why: str) -> None:
        """The reply is over, one way or the other: what was heard of it is history."""
        self._discard(reply)
        record, heard = reply.record, reply.heard
        record.mark("reply_done", self._clock())
        record.reply, record.heard, record.outcome, record.why = reply.text, heard, outcome, why
        if heard:
            self.history.add("assistant", heard, reply.turn, interrupted=outcome == "interrupted")
            self._keep("assistant", heard)
        self._outbox.post(ReplyDone(reply.turn, reply.revision, outcome, reply.text, heard, why))
        self._close_record(record)
        self._tell_state()

    def _keep(self, speaker: str, text: str) -> None:
        if self._stages.memory is not None and self._settings.memory.enabled:
            remembering = self._stages.memory.remember(speaker, text, at=self._now(), conversation=self.name)
            self._kept = self._spawn(self._remember(remembering, after=self._kept))

    async def _remember(self, remembering: Coroutine[Any, Any, str], after: asyncio.Task[None] | None) -> None:
        if after is not None:
            await asyncio.gather(after, return_exceptions=True)
        try:
            await remembering
        except EngineError as error:
            self._notice("warning", f"This turn will not be remembered: {error}")

    # -- bookkeeping ------------------------------------------------------------------------------------------------

    def _new_record(self) -> TurnRecord:
        self._turns += 1
        return TurnRecord(self.name, self._turns, at=self._now().isoformat(timespec="milliseconds"))

    def _close_record(self, record: TurnRecord) -> None:
        self._outbox.post(TurnFinished(record.turn, record.revision, record))
        if self._on_record is not None:
            self._on_record(record)

    def _notice(self, severity: Severity, text: str) -> None:
        self._outbox.post(Notice(self._turns, 0, severity, text))

    def _tell_state(self) -> None:
        if (state := self.state) != self._told:
            self._told = state
            self._outbox.post(StateChanged(self._turns, 0, state))

    def _spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        return self._track(asyncio.create_task(work))

    def _track(self, task: asyncio.Task[T]) -> asyncio.Task[T]:
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a task of the conversation failed", exc_info=error)
            self._notice("error", "Something went wrong inside Parley; the log says what. The conversation goes on.")


async def _just(text: str) -> AsyncGenerator[str, None]:
    yield text
