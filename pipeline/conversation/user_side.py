"""The user's side: finds in frames of sound where turns begin, pause, go on and end, or are spoken over a reply."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from config import Settings
from pipeline.audio import Samples
from pipeline.conversation.events import MicrophoneLevel, PartialTranscript, ReplyPaused, SpeechStarted, SpeechStopped
from pipeline.conversation.reply import Reply
from pipeline.conversation.scope import ConversationScope
from pipeline.conversation.stages import Stages
from pipeline.stt import Transcript
from pipeline.turns.ear import Ear
from pipeline.turns.interruption import Intrusion
from pipeline.turns.judges import SpeechDetector
from pipeline.turns.listening import Listening, UserTurn
from pipeline.turns.taking import PAUSE_MS, TurnTaking
from pipeline.turns.vad import FRAME

Mode = Literal["automatic", "detect", "manual"]
"""automatic: turns are detected and answered. detect: turns are detected, and answered on respond().
manual: the caller uses commit() and respond()."""


@dataclass(frozen=True, slots=True)
class Paused:
    """The turn may have ended."""

    turn: UserTurn
    ask: bool
    """Whether to ask the turn model."""
    prepare: bool
    """Whether the turn has probably ended, so that a reply begun now will be wanted."""


@dataclass(frozen=True, slots=True)
class WentOn:
    """The turn had not ended after all, so what was prepared for it is void."""

    turn: UserTurn


@dataclass(frozen=True, slots=True)
class Ended:
    turn: UserTurn


@dataclass(frozen=True, slots=True)
class SpokeOver:
    """Someone speaks, or has just spoken, during a reply."""

    turn: UserTurn
    reply: Reply


TurnChange = Paused | WentOn | Ended | SpokeOver
"""What a frame of sound changes about the user's turn. The conversation acts on it."""


class UserSide:
    def __init__(
        self,
        stages: Stages,
        settings: Settings,
        mode: Mode,
        scope: ConversationScope,
        *,
        on_partial: Callable[[str], None],
    ) -> None:
        """`on_partial` is called with all words of the turn so far, whenever there are more."""
        self.turn: UserTurn | None = None
        """What the user is saying now."""
        self.ear = Ear(stages.vad(), settings.ears.sensitivity, self._meter)
        self.taking = TurnTaking(settings, stages.finished, scope.warn)
        self.mode = mode
        self.interrupts = True
        """Whether a reply pauses when someone speaks over it."""
        self._stages = stages
        self._settings = settings
        self._scope = scope
        self._on_partial = on_partial

    def configure(self, settings: Settings, stages: Stages, mode: Mode) -> None:
        self._settings, self._stages, self.mode = settings, stages, mode
        self.ear.detector.sensitivity = settings.ears.sensitivity
        self.taking.configure(settings, stages.finished)

    def take(self, frame: Samples, reply: Reply | None) -> TurnChange | None:
        """Process the next frame of sound; `reply` is the one being made or played."""
        turn = self.turn
        if turn is None:
            self.ear.hold(frame, self._settings.turns.pre_roll_ms)
            if self.ear.speech or self.mode == "manual":  # not the hang-over of a turn that was cut short
                self._begin(reply)
            return None
        turn.feed(frame, speech=self.ear.speech, now=self.ear.samples)
        if turn.speech_ms >= 1000 * self._settings.turns.max_speech_s:
            return self._end(turn, f"{self._settings.turns.max_speech_s:.0f} s without an end")
        if self.mode == "manual":
            return None
        if reply is not None and reply.turn != turn.number:
            return SpokeOver(turn, reply)
        if not self.ear.talking:
            return self._pause(turn)
        return self._go_on(turn) if turn.paused else None

    def look_again(self, turn: UserTurn, reply: Reply | None) -> TurnChange | None:
        """Judge the pause again after the turn model has answered, without waiting for the next frame."""
        if turn is not self.turn or (reply is not None and reply.turn != turn.number):
            return None
        return self._pause(turn)

    def overheard(self, turn: UserTurn, *, reacting: bool) -> Intrusion:
        """Return what is known of speech over a reply; every silence finishes its transcript."""
        silence = turn.silence_ms(self.ear.samples)
        if self.ear.talking:
            turn.void()
        elif silence >= PAUSE_MS:
            turn.finish()
        final = turn.final is not None and turn.final.done()
        return Intrusion(turn.speech_ms, silence, turn.transcript, final, reacting)

    def end(self, why: str) -> Ended | None:
        """End the current turn, if there is one."""
        return None if self.turn is None else self._end(self.turn, why)

    def drop(self) -> UserTurn | None:
        """Forget the current turn, if there is one, and return it."""
        turn, self.turn = self.turn, None
        if turn is not None:
            turn.void()
            self._scope.clean_up(turn.listening.close())
            self._scope.outbox.post(SpeechStopped(turn.number, turn.revision, turn.speech_end, "dropped"))
        return turn

    def _begin(self, reply: Reply | None) -> None:
        record, before = self._scope.new_record(), self.ear.pre_roll()
        started = self.ear.samples - FRAME * len(before)
        turn = self.turn = UserTurn(record, started, Listening(self._stages.ears.listen(), self._partial))
        for frame in before:
            turn.feed(frame, speech=False, now=self.ear.samples)
        turn.onset = turn.speech_end = self.ear.samples
        turn.speech_samples = SpeechDetector.ONSET * FRAME
        record.mark("speech_started", self._scope.clock())
        self._scope.outbox.post(SpeechStarted(turn.number, turn.revision, started))
        if reply is not None and self.mode != "manual" and self.interrupts:
            self._scope.outbox.post(ReplyPaused(reply.turn, reply.revision))

    def _partial(self, partial: Transcript) -> None:
        if (turn := self.turn) is not None:
            turn.partial = partial.text
            whole = turn.words(partial.text)
            self._scope.outbox.post(PartialTranscript(turn.number, turn.revision, whole, partial.stable))
            self._on_partial(whole)

    def _pause(self, turn: UserTurn) -> TurnChange | None:
        silence = turn.silence_ms(self.ear.samples)
        if silence < PAUSE_MS:
            return None
        if not turn.paused:
            self._finish(turn)
        if (why := self.taking.verdict(turn, silence)) is not None:
            return self._end(turn, why)
        return Paused(turn, self.taking.wants_model(turn, silence), self.taking.worth_preparing(turn, silence))

    def _finish(self, turn: UserTurn) -> None:
        """Finish the transcript, since the turn may have ended."""
        turn.paused = True
        now = self._scope.clock()
        turn.record.marks["speech_ended"] = now - turn.silence_ms(self.ear.samples) / 1000
        turn.record.marks["soft_end"] = now
        turn.finish()

    def _end(self, turn: UserTurn, why: str) -> Ended:
        if not turn.paused:
            self._finish(turn)
        turn.record.mark("decided", self._scope.clock())
        turn.record.end_of_turn = why
        self.turn = None
        self.ear.rest()
        self._scope.outbox.post(SpeechStopped(turn.number, turn.revision, turn.speech_end, why))
        return Ended(turn)

    def _go_on(self, turn: UserTurn) -> WentOn:
        """Continue the same turn in a new revision, since speech resumed."""
        self.taking.habits.went_on(turn.silence_ms(self.ear.samples))
        turn.goes_on()
        kept = ("speech_started",)
        turn.record.marks = {name: at for name, at in turn.record.marks.items() if name in kept}
        return WentOn(turn)

    def _meter(self, peak: float, speech_probability: float) -> None:
        number, revision = (self.turn.number, self.turn.revision) if self.turn else (self._scope.turns, 0)
        self._scope.outbox.post(MicrophoneLevel(number, revision, peak, speech_probability))
