"""The user's turns: from frames of sound to turns that begin, pause, go on and end; and whether speech over a reply
takes the turn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from config import Settings
from pipeline.audio import Samples
from pipeline.conversation.desk import Desk
from pipeline.conversation.events import MicrophoneLevel, PartialTranscript, ReplyPaused, SpeechStarted, SpeechStopped
from pipeline.conversation.reply import Reply
from pipeline.conversation.stages import Stages
from pipeline.stt import Transcript
from pipeline.turns.ear import Ear
from pipeline.turns.interruption import InterruptionJudge, Intrusion, Ruling
from pipeline.turns.judges import SpeechDetector
from pipeline.turns.listening import Listening, UserTurn
from pipeline.turns.taking import PAUSE_MS, TurnTaking
from pipeline.turns.vad import FRAME

Mode = Literal["automatic", "detect", "manual"]
"""automatic: turns are found and answered. detect: found, answered on respond(). manual: commit() and respond()."""


@dataclass(frozen=True, slots=True)
class Consequences:
    """What the conversation does about the user's turns."""

    partial: Callable[[str], None]
    """All of the turn's words so far."""
    prepare: Callable[[UserTurn], None]
    """It has probably ended."""
    goes_on: Callable[[UserTurn], None]
    """It had not: what was prepared is void."""
    ended: Callable[[UserTurn], None]
    dropped: Callable[[UserTurn], None]
    """It was none: a noise, or the client cleared it."""
    reacting: Callable[[UserTurn, Reply], bool]
    """Whether speech during a reply can be a reaction to it."""
    ruled: Callable[[UserTurn, Reply, Ruling], None]
    """What speech during a reply is."""


class UserSide:
    def __init__(
        self,
        stages: Stages,
        settings: Settings,
        mode: Mode,
        desk: Desk,
        *,
        reply: Callable[[], Reply | None],
        then: Consequences,
    ) -> None:
        """`reply` gives the reply that is being made or played."""
        self.turn: UserTurn | None = None
        """What the user is saying now."""
        self.ear = Ear(stages.vad(), settings.ears.sensitivity, self._meter)
        self.taking = TurnTaking(settings, stages.finished, desk.warn)
        self.mode = mode
        self._stages = stages
        self._settings = settings
        self._desk = desk
        self._reply = reply
        self._judge = InterruptionJudge()
        self._then = then

    def configure(self, settings: Settings, stages: Stages, mode: Mode) -> None:
        self._settings, self._stages, self.mode = settings, stages, mode
        self.ear.detector.sensitivity = settings.ears.sensitivity
        self.taking.configure(settings, stages.finished)

    async def listen(self) -> None:
        """Frame after frame, until cancelled."""
        async for frame in self.ear.frames():
            self._frame(frame)

    def end(self, why: str) -> None:
        """The turn, if there is one, is over."""
        turn = self.turn
        if turn is None:
            return
        if not turn.paused:
            self._pause(turn)
        turn.record.mark("decided", self._desk.clock())
        turn.record.end_of_turn = why
        self.turn = None
        self.ear.rest()
        self._desk.outbox.post(SpeechStopped(turn.number, turn.revision, turn.speech_end, why))
        self._then.ended(turn)

    def drop(self) -> None:
        """The turn, if there is one, is forgotten."""
        turn = self.turn
        if turn is None:
            return
        self.turn = None
        turn.void()
        self._desk.track(turn.listening.close())
        self._desk.outbox.post(SpeechStopped(turn.number, turn.revision, turn.speech_end, "dropped"))
        self._then.dropped(turn)

    def _frame(self, frame: Samples) -> None:
        turn, reply = self.turn, self._reply()
        if turn is None:
            self.ear.hold(frame, self._settings.turns.pre_roll_ms)
            if self.ear.speech or self.mode == "manual":  # and not the hang-over of a turn that was cut short
                self._begin()
            return
        turn.feed(frame, speech=self.ear.speech, now=self.ear.samples)
        if turn.speech_ms >= 1000 * self._settings.turns.max_speech_s:
            self.end(f"{self._settings.turns.max_speech_s:.0f} s without an end")
        elif self.mode == "manual":
            pass
        elif reply is not None and reply.turn != turn.number:
            self._judge_intrusion(turn, reply)
        elif not self.ear.talking:
            self._judge_pause(turn)
        elif turn.paused:
            self._goes_on(turn)

    def _begin(self) -> None:
        record, before = self._desk.new_record(), self.ear.pre_roll()
        started = self.ear.samples - FRAME * len(before)
        turn = self.turn = UserTurn(record, started, Listening(self._stages.ears.listen(), self._partial))
        for frame in before:
            turn.feed(frame, speech=False, now=self.ear.samples)
        turn.onset = turn.speech_end = self.ear.samples
        turn.speech_samples = SpeechDetector.ONSET * FRAME
        record.mark("speech_started", self._desk.clock())
        self._desk.outbox.post(SpeechStarted(turn.number, turn.revision, started))
        if (reply := self._reply()) is not None and self.mode != "manual":
            self._desk.outbox.post(ReplyPaused(reply.turn, reply.revision))

    def _partial(self, partial: Transcript) -> None:
        if (turn := self.turn) is not None:
            turn.transcript = partial.text
            whole = turn.words(partial.text)
            self._desk.outbox.post(PartialTranscript(turn.number, turn.revision, whole, partial.stable))
            self._then.partial(whole)

    def _judge_pause(self, turn: UserTurn) -> None:
        silence = turn.silence_ms(self.ear.samples)
        if silence < PAUSE_MS:
            return
        if not turn.paused:
            self._pause(turn)
        if self.taking.wants_model(turn, silence):
            self._desk.spawn(self._ask_model(turn))
        if self.taking.worth_preparing(turn, silence):
            self._then.prepare(turn)
        if (why := self.taking.verdict(turn, silence)) is not None:
            self.end(why)

    async def _ask_model(self, turn: UserTurn) -> None:
        answered = await self.taking.ask(turn)
        reply = self._reply()
        if answered and turn is self.turn and (reply is None or reply.turn == turn.number):
            self._judge_pause(turn)  # now, not at the next frame

    def _pause(self, turn: UserTurn) -> None:
        """Perhaps the end: finish the transcript."""
        turn.paused = True
        now = self._desk.clock()
        turn.record.marks["speech_ended"] = now - turn.silence_ms(self.ear.samples) / 1000
        turn.record.marks["soft_end"] = now
        turn.finish()

    def _goes_on(self, turn: UserTurn) -> None:
        """Speech again: the same turn in a new revision."""
        self.taking.habits.went_on(turn.silence_ms(self.ear.samples))
        self._then.goes_on(turn)
        turn.goes_on()
        kept = ("speech_started",)
        turn.record.marks = {name: at for name, at in turn.record.marks.items() if name in kept}

    def _judge_intrusion(self, turn: UserTurn, reply: Reply) -> None:
        """Speech while a reply is there: a real interruption, or a cough or "mm-hmm" to be talked over?"""
        silence = turn.silence_ms(self.ear.samples)
        if self.ear.talking:
            turn.void()
        elif silence >= PAUSE_MS:
            turn.finish()
        final = turn.final is not None and turn.final.done()
        if turn.final is not None and final and turn.final.exception() is None:
            turn.transcript = turn.final.result().text
        reacting = self._then.reacting(turn, reply)
        ruling = self._judge.ruling(Intrusion(turn.speech_ms, silence, turn.transcript, final, reacting))
        if ruling is not None:
            self._then.ruled(turn, reply, ruling)

    def _meter(self, peak: float, speech_probability: float) -> None:
        number, revision = (self.turn.number, self.turn.revision) if self.turn else (self._desk.turns, 0)
        self._desk.outbox.post(MicrophoneLevel(number, revision, peak, speech_probability))
