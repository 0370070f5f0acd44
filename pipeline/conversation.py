"""The conversation: listening, thinking, speaking.

Sound comes in by `hear`, leaves by `events`, and `played` reports what was really heard. Everything between runs in
tasks of this object; nothing blocks the loop. The state is derived from the user's turn and the reply, never kept.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from datetime import datetime
from typing import Any, Literal, Self, TypeVar

from config import Settings
from pipeline.answering import answer, fixed
from pipeline.audio import EAR_RATE, MOUTH_RATE, Samples
from pipeline.ear import Ear
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
from pipeline.interruption import InterruptionJudge, Intrusion, Ruling
from pipeline.listening import Listening, UserTurn
from pipeline.metrics import TurnRecord
from pipeline.outbox import Outbox
from pipeline.recollection import Recollection
from pipeline.reply import Reply
from pipeline.stages import Stages
from pipeline.stt import Transcript
from pipeline.tts import Speaker
from pipeline.turn_taking import PAUSE_MS, TurnTaking
from pipeline.turns import SpeechDetector
from pipeline.vad import FRAME
from rag import Recall

log = logging.getLogger(__name__)

T = TypeVar("T")

Mode = Literal["automatic", "detect", "manual"]
"""automatic: turns are found and answered. detect: found, answered on respond(). manual: commit() and respond()."""

REACTION_HEARD = 1.0 * MOUTH_RATE
REACTION_S = 1.3
UNANSWERED_S = 4.0
"""A user who speaks again within REACTION_S of their last word, having heard less than REACTION_HEARD samples, cannot
be reacting to the reply: they had not finished. Nor is one who has heard nothing yet, within UNANSWERED_S."""

SILENT_END_S = 10.0
"""How long the end of the sound may report nothing while it should be playing."""

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
        self._outbox = Outbox()
        self._ear = Ear(stages.vad(), settings.ears.sensitivity, self._meter)
        self._speaker: Speaker = stages.voice.speaker()
        self._turns = 0
        self._turn: UserTurn | None = None
        self._settling: asyncio.Task[TurnRecord | None] | None = None
        self._reply: Reply | None = None
        self._reply_task: asyncio.Task[None] | None = None
        self._told: State = "listening"
        self._tasks: set[asyncio.Task[Any]] = set()
        self._judge = InterruptionJudge()
        self._taking = TurnTaking(settings, stages.finished, self._warn)
        self._answered: UserTurn | None = None
        """The turn that the current reply answers, while its user might still go on."""
        self._unkept: tuple[TurnRecord, str] | None = None
        """The user's words that are history, but not in memory yet, since the turn may go on."""
        self._recollection = Recollection(stages.memory, settings, name=name, now=now, warn=self._warn)

    # -- its life ---------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self._spawn(self._listen())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cancel("the conversation was closed")
        if self._turn is not None:
            self._drop_turn()
        self._keep_user()
        await self._recollection.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._speaker.close()
        self._outbox.close()

    def configure(self, settings: Settings, *, mode: Mode | None = None, stages: Stages | None = None) -> None:
        """Take effect from the next turn on; what is being said is not disturbed."""
        self._settings = settings
        self._ear.detector.sensitivity = settings.ears.sensitivity
        if mode is not None:
            self._mode = mode
        if stages is not None:
            if stages.voice is not self._stages.voice:
                self._spawn(self._speaker.close())
                self._speaker = stages.voice.speaker()
            self._stages = stages
        self._recollection.configure(self._stages.memory, settings)
        self._taking.configure(settings, self._stages.finished)

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
        if not self._ear.hear(samples):
            self._warn("This computer cannot keep up with the microphone; some sound was not heard.")

    async def caught_up(self) -> None:
        """Wait until everything given to hear() has been listened to."""
        await self._ear.caught_up()

    async def say(self, text: str) -> None:
        """A turn that the user typed."""
        self.cancel("the user typed")
        record = self._new_record()
        self._outbox.post(UserSaid(record.turn, record.revision, text, typed=True))
        self._user_said(record, text)
        self._keep_user()
        record.mark("speech_ended", self._clock())
        self._start_reply(record, self._answer(record), release=True)

    async def respond(self, persona: str | None = None) -> None:
        """Reply now, to what was said last."""
        settled = await asyncio.shield(self._settling) if self._settling is not None else None
        self.cancel("a new reply was asked for")
        record = settled or self._new_record()
        self._start_reply(record, self._answer(record, persona=persona), release=True)

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
        if self._reply.played > REACTION_HEARD:
            self._keep_user()
        if self._reply.over:
            self._finish_reply(self._reply, *self._outcome(self._reply))

    # -- what goes out ----------------------------------------------------------------------------------------------

    def events(self) -> AsyncIterator[Event]:
        """For one consumer, which holds up the reply's sound when it does not read."""
        return aiter(self._outbox)

    # -- listening --------------------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        async for frame in self._ear.frames():
            self._frame(frame)

    def _frame(self, frame: Samples) -> None:
        talking = self._ear.talking
        turn = self._turn
        if turn is None:
            self._ear.hold(frame, self._settings.turns.pre_roll_ms)
            if talking or self._mode == "manual":
                self._begin_turn()
            return
        turn.feed(frame, speech=self._ear.speech, now=self._ear.samples)
        if turn.speech_ms >= 1000 * self._settings.turns.max_speech_s:
            self._end_turn(turn, f"{self._settings.turns.max_speech_s:.0f} s without an end")
        elif self._mode == "manual":
            pass
        elif self._reply is not None and self._reply.turn != turn.number:
            self._judge_intrusion(turn, self._reply)
        elif not talking:
            self._judge_pause(turn)
        elif turn.paused:
            self._resume_turn(turn)

    def _meter(self, peak: float, speech_probability: float) -> None:
        number, revision = (self._turn.number, self._turn.revision) if self._turn else (self._turns, 0)
        self._outbox.post(MicrophoneLevel(number, revision, peak, speech_probability))

    def _begin_turn(self) -> None:
        record, before = self._new_record(), self._ear.pre_roll()
        started = self._ear.samples - FRAME * len(before)
        turn = self._turn = UserTurn(record, started, Listening(self._stages.ears.listen(), self._on_partial))
        for frame in before:
            turn.feed(frame, speech=False, now=self._ear.samples)
        turn.onset = turn.speech_end = self._ear.samples
        turn.speech_samples = SpeechDetector.ONSET * FRAME
        record.mark("speech_started", self._clock())
        self._outbox.post(SpeechStarted(turn.number, turn.revision, started))
        if self._reply is not None and self._mode != "manual":
            self._outbox.post(ReplyPaused(self._reply.turn, self._reply.revision))

    def _on_partial(self, partial: Transcript) -> None:
        if (turn := self._turn) is not None:
            turn.transcript = partial.text
            whole = turn.words(partial.text)
            self._outbox.post(PartialTranscript(turn.number, turn.revision, whole, partial.stable))
            self._recollection.look_ahead(whole)

    # -- whose turn is it? ------------------------------------------------------------------------------------------

    def _judge_pause(self, turn: UserTurn) -> None:
        silence = turn.silence_ms(self._ear.samples)
        if silence < PAUSE_MS:
            return
        if not turn.paused:
            self._pause(turn)
        if self._taking.wants_model(turn, silence):
            self._spawn(self._ask_model(turn))
        if self._taking.worth_preparing(turn, silence):
            self._prepare(turn)
        if (why := self._taking.verdict(turn, silence)) is not None:
            self._end_turn(turn, why)

    async def _ask_model(self, turn: UserTurn) -> None:
        answered = await self._taking.ask(turn)
        if answered and turn is self._turn and (self._reply is None or self._reply.turn == turn.number):
            self._judge_pause(turn)  # now, not at the next frame

    def _pause(self, turn: UserTurn) -> None:
        """Perhaps the end: finish the transcript."""
        turn.paused = True
        now = self._clock()
        turn.record.marks["speech_ended"] = now - turn.silence_ms(self._ear.samples) / 1000
        turn.record.marks["soft_end"] = now
        turn.finish()

    def _prepare(self, turn: UserTurn) -> None:
        """Make the reply on speculation, held back until the turn has ended."""
        if (
            self._mode == "automatic"
            and self._reply is None
            and turn.record.speculations < self._settings.turns.speculations
        ):
            turn.record.speculations += 1
            self._start_reply(turn.record, self._answer(turn.record, turn), release=False)

    def _resume_turn(self, turn: UserTurn) -> None:
        """Speech goes on: the same turn in a new revision, what was prepared is thrown away."""
        self._taking.habits.went_on(turn.silence_ms(self._ear.samples))
        if (reply := self._reply) is not None and reply.turn == turn.number:
            turn.record.wasted_tokens += reply.tokens
            self._discard(reply)
        turn.goes_on()
        kept = ("speech_started",)
        turn.record.marks = {name: at for name, at in turn.record.marks.items() if name in kept}

    def _judge_intrusion(self, turn: UserTurn, reply: Reply) -> None:
        """Speech while a reply is there: a real interruption, or a cough or "mm-hmm" to be talked over?"""
        silence = turn.silence_ms(self._ear.samples)
        if self._ear.talking:
            turn.final = None
        elif silence >= PAUSE_MS:
            turn.finish()
        final = turn.final is not None and turn.final.done() and turn.final.exception() is None
        if final and turn.final is not None:
            turn.transcript = turn.final.result().text
        failed = turn.final is not None and turn.final.done() and not final
        ruling = self._judge.ruling(Intrusion(turn.speech_ms, silence, turn.transcript, final or failed))
        if ruling is None:
            return
        if ruling.kind == "backchannel":
            reply.record.notes.append(f"talked on: {ruling.why}")
            self._drop_turn()
            if not reply.released and self._settling is None:
                reply.release()
            self._outbox.post(ReplyResumed(reply.turn, reply.revision))
        elif self._went_on(turn, reply, ruling):
            self._withdraw(turn, reply)
        else:
            self._finish_reply(reply, "interrupted", f"the user interrupted: {ruling.why}")

    def _went_on(self, turn: UserTurn, reply: Reply, ruling: Ruling) -> bool:
        """Whether this is no interruption, but the rest of a turn that was taken for finished."""
        earlier = self._answered
        if ruling.kind == "command" or earlier is None or earlier.number != reply.turn:
            return False
        if earlier.speech_ms >= 1000 * self._settings.turns.max_speech_s:
            return False  # it was cut for its length, and must not grow without end
        since = (turn.onset - earlier.speech_end) / EAR_RATE
        return since <= (REACTION_S if reply.played else UNANSWERED_S) and reply.played <= REACTION_HEARD

    def _withdraw(self, turn: UserTurn, reply: Reply) -> None:
        """The reply came too early and never was; the turn goes on as one, in the words of both parts."""
        assert self._answered is not None
        earlier = self._answered
        self._taking.habits.cut_in()
        turn.continues = earlier.number
        turn.prefix = earlier.record.user
        turn.blocks = [*earlier.blocks, *turn.blocks]
        for entry in self.history.entries:
            if entry.turn == earlier.number:
                self.history.delete(entry.id)
        self._unkept = None
        reply.record.wasted_tokens += reply.tokens
        self._finish_reply(reply, "withdrawn", "the user went on")

    def _end_turn(self, turn: UserTurn, why: str) -> None:
        if self._reply is not None and self._reply.turn != turn.number:
            self._finish_reply(self._reply, "interrupted", f"the user's turn: {why}")
        if not turn.paused:
            self._pause(turn)
        self._prepare(turn)
        turn.record.mark("decided", self._clock())
        turn.record.end_of_turn = why
        self._outbox.post(SpeechStopped(turn.number, turn.revision, turn.speech_end, why))
        self._turn = None
        self._ear.rest()
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
            if turn.continues is not None:  # the part that had been said before stands alone again
                self.history.add("user", turn.prefix, turn.continues)
                self._recollection.keep("user", turn.prefix)

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
        said = turn.words(heard)
        self._outbox.post(UserSaid(record.turn, record.revision, said, continues=turn.continues))
        reply = self._reply if self._reply is not None and self._reply.record is record else None
        if not said:
            if reply is not None:
                self._discard(reply)
            self._not_understood(turn)
            return None
        self._user_said(record, said)
        self._answered = turn
        self._spawn(self._speaker.heard(heard, turn.sound))
        if self._mode != "automatic":
            self._keep_user()
        elif reply is None:
            self._start_reply(record, self._answer(record), release=self._turn is None)
        elif self._turn is None:  # else someone is speaking again, and the ruling lets it out
            reply.release()
        self._tell_state()
        return record

    def _not_understood(self, turn: UserTurn) -> None:
        """Ask again, once; after that a sentence on the page is enough."""
        record = turn.record
        asked = any(entry.role == "assistant" and entry.text == ASK_AGAIN for entry in self.history.entries[-1:])
        if self._mode == "automatic" and turn.speech_ms >= WORTH_ASKING_MS and not asked and not record.why:
            record.revision += 1
            self._start_reply(record, fixed(ASK_AGAIN), release=True)
            return
        record.outcome = "not understood"
        self._notice("info", "Something was heard, but no words were understood.")
        self._close_record(record)
        self._tell_state()

    # -- thinking and speaking --------------------------------------------------------------------------------------

    def _user_said(self, record: TurnRecord, text: str) -> None:
        self._keep_user()
        record.user = text
        self.history.add("user", text, record.turn)
        self._unkept = (record, text)

    def _keep_user(self) -> None:
        """The user's turn is certainly over: it may be remembered."""
        if self._unkept is not None:
            self._recollection.keep("user", self._unkept[1])
            self._unkept = None

    def _answer(
        self, record: TurnRecord, turn: UserTurn | None = None, *, persona: str | None = None
    ) -> AsyncGenerator[str, None]:
        def recalled(recall: Recall) -> None:
            record.mark("recalled", self._clock())
            self._outbox.post(Recalled(record.turn, record.revision, recall))

        return answer(
            self._stages.mind,
            self._recollection,
            persona or self._settings.mind.persona,
            self.history.messages,
            self._now,
            turn=turn,
            on_transcript=lambda: record.mark("transcript_final", self._clock()),
            on_recall=recalled,
        )

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
        while reply is self._reply:  # an end that sleeps or breaks must not leave the turn open for ever
            before = reply.played
            await asyncio.sleep((reply.samples - before) / MOUTH_RATE + SILENT_END_S)
            if reply is self._reply and reply.played == before and self._turn is None:
                self._finish_reply(reply, "interrupted", "the headset reported no more playback")

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
        if outcome != "withdrawn":
            self._keep_user()
        if outcome == "completed":
            self._taking.habits.went_well()
        if heard and outcome != "withdrawn":
            self.history.add("assistant", heard, reply.turn, interrupted=outcome == "interrupted")
            self._recollection.keep("assistant", heard)
        self._outbox.post(ReplyDone(reply.turn, reply.revision, outcome, reply.text, heard, why))
        self._close_record(record)
        self._tell_state()

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

    def _warn(self, text: str) -> None:
        self._notice("warning", text)

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
