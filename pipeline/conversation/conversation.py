"""The conversation: listening, thinking, speaking.

Sound comes in through `hear` and leaves through `events`; `played` reports what was really heard. Everything between
runs in tasks of this object; nothing blocks the loop. The user's side finds turns (user_side.py), the reply's side
makes at most one reply at a time (reply_side.py), and floor.py decides whose turn it is. This module takes the input,
and turns the words of a turn into a reply and history. The state is derived from both sides, never stored.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import replace
from datetime import datetime
from typing import Self

from config import Settings
from pipeline.audio import EAR_RATE, Samples
from pipeline.cleanup import uninterrupted
from pipeline.conversation.answering import fixed
from pipeline.conversation.aside import aside
from pipeline.conversation.chronicle import Chronicle
from pipeline.conversation.company import Company
from pipeline.conversation.events import (
    Event,
    Outcome,
    ReplyDone,
    State,
    StateChanged,
    UserSaid,
)
from pipeline.conversation.floor import FloorControl
from pipeline.conversation.history import FIRST, History, Past
from pipeline.conversation.mind_side import MindSide
from pipeline.conversation.own_accord import OwnAccord
from pipeline.conversation.recollection import Recollection
from pipeline.conversation.recording import Recording
from pipeline.conversation.reply import Reply
from pipeline.conversation.reply_side import ReplySide
from pipeline.conversation.request import USUAL, Request
from pipeline.conversation.scope import ConversationScope
from pipeline.conversation.settling import Settling
from pipeline.conversation.stages import Stages
from pipeline.conversation.user_side import Mode, UserSide
from pipeline.llm import UsesTools
from pipeline.tools.toolbox import Empty, Toolbox
from pipeline.turns.interruption import REACTION_HEARD
from pipeline.turns.listening import UserTurn
from pipeline.turns.record import TurnRecord

__all__ = ["ASK_AGAIN", "Conversation", "Mode"]

ASK_AGAIN = "Sorry, I didn't catch that. Could you say it again?"
WORTH_ASKING_MS = 400
"""Less speech than this, without a recognised word, counts as noise and is ignored."""

CLOSED = "the conversation was closed"
CLOSING_S = 2.0
"""How long a closing conversation waits for the last words to be understood."""


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
        recording: Recording | None = None,
        past: Past = FIRST,
        toolbox: Toolbox | None = None,
        now: Callable[[], datetime] = local_now,
    ) -> None:
        """`name` identifies the conversation in memory and records; `now` is the wall clock; `past` is what it resumes.

        `recording` gets what is heard of both sides; the replies' sound reaches it through the events, which the caller
        must pass to its `follow`. `toolbox` has the owner's tools.
        """
        self.name = name
        self.history = History(past)
        self._stages = stages
        self._settings = settings
        self._usual = USUAL
        self._recording = recording
        self._scope = ConversationScope(name, now, on_record, turns=past.turns)
        self._recollection = Recollection(stages.memory, settings, name=name, now=now, warn=self._scope.warn)
        self._company = Company(stages.speakers, settings, self._scope, self.history, self._say_aside)
        self._chronicle = Chronicle(self.history, self._recollection, self._company)
        self._replies = ReplySide(
            stages.voice,
            self._scope,
            user_talks=lambda: self._user.turn is not None,
            made=self._reply_made,
            done=self._reply_done,
            changed=self._tell_state,
        )
        self._user = UserSide(stages, settings, mode, self._scope, on_partial=self._look_ahead)
        self._settling = Settling(self._scope, self._understood)
        self._listening: asyncio.Task[None] | None = None
        self._misheard = 0
        """How often in a row the user was asked to say it again."""
        self._told: State = "listening"
        self._own = OwnAccord(
            self._scope,
            self.history,
            toolbox or Empty(),
            self._replies,
            silent=lambda: self._silent,
            automatic=lambda: self._user.mode == "automatic",
            respond=lambda request: self._start(self._scope.new_record(), request, release=True),
            changed=self._tell_state,
        )
        self._errands = self._own.errands
        self._mind = MindSide(
            stages.mind,
            settings,
            self._scope,
            self.history,
            self._recollection,
            self._replies,
            self._own,
            self._company,
        )
        self._floor = FloorControl(
            settings,
            self._scope,
            self._user,
            self._replies,
            self._settling,
            self._errands,
            self._company,
            self._chronicle,
            prepare=lambda turn: self._start(turn.record, self._usual, turn=turn, release=False),
            changed=self._tell_state,
        )
        self._ending = False

    # -- lifecycle --------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self._listening = self._scope.spawn(self._floor.listen())
        self._mind.read_ahead(self._usual)
        return self

    async def __aexit__(self, *_: object) -> None:
        await uninterrupted(self._end())

    async def _end(self) -> None:
        self._ending = True
        if self._listening is not None:
            self._listening.cancel()
        self.cancel(CLOSED)
        self.clear()
        if self._settling.last is not None:
            await asyncio.wait([self._settling.last], timeout=CLOSING_S)
            self.cancel(CLOSED)  # the reply to those last words
        self._errands.close()
        self._chronicle.keep_user()
        await self._recollection.close()
        await self._scope.end()
        await self._replies.speaker.close()
        self._scope.outbox.close()

    def configure(
        self,
        settings: Settings,
        *,
        mode: Mode | None = None,
        stages: Stages | None = None,
        usual: Request | None = None,
        interruptible: bool = True,
    ) -> None:
        """Change the settings from the next turn on; what is being said is not disturbed.

        `usual` describes the replies that follow from a turn by themselves. If replies are not `interruptible`, speech
        over one is the next turn.
        """
        self._settings = settings
        self._usual = usual or self._usual
        self._user.interrupts = interruptible
        self._stages = stages or self._stages
        self._replies.configure(self._stages.voice)
        self._mind.configure(self._stages.mind, settings)
        self._recollection.configure(self._stages.memory, settings)
        self._company.configure(self._stages.speakers, settings)
        self._user.configure(settings, self._stages, mode or self._user.mode)
        self._floor.configure(settings)

    @property
    def past(self) -> Past:
        """What a conversation needs to resume this one."""
        return Past(self.history.entries, self._scope.turns)

    @property
    def state(self) -> State:
        reply = self._replies.current
        if reply is not None and reply.released and reply.samples:
            return "speaking"
        if self._settling.pending or (reply is not None and reply.released) or self._errands.running:
            return "thinking"
        return "listening"

    # -- input ------------------------------------------------------------------------------------------------------

    def hear(self, samples: Samples) -> None:
        """Take 16 kHz samples of any length. Never blocks; if processing cannot keep up, drops sound and warns."""
        if self._recording is not None:
            self._recording.hear(samples)
        if not self._user.ear.hear(samples):
            self._scope.warn("This computer cannot keep up with the microphone, so some sound was lost.")

    async def caught_up(self) -> None:
        """Wait until everything given to hear() has been processed."""
        await self._user.ear.caught_up()

    async def say(self, text: str, request: Request | None = None) -> None:
        """Take a turn that the user typed. It is answered at once, or when the current speaker has finished.

        If cancelled while it waits for the words of earlier turns, it adds no turn.
        """
        self.cancel("the user typed")
        await self._settling.done()
        self.cancel("the user typed")
        record = self._scope.new_record()
        self._scope.outbox.post(UserSaid(record.turn, record.revision, text, typed=True))
        if self._own.answered(record, text):
            asked = "" if request is None else request.id
            self._scope.outbox.post(ReplyDone(record.turn, record.revision, "completed", "", "", "", asked))
            return
        self._user_said(record, text)
        self._chronicle.keep_user()
        record.mark("speech_ended", self._scope.clock())
        self._start(record, request or self._usual, release=self._floor.quiet)

    async def respond(self, request: Request | None = None) -> None:
        """Reply now to what was said last. If cancelled while it waits for those words, it changes nothing."""
        record = await self._settling.done()
        self.cancel("a new reply was asked for")
        self._start(record or self._scope.new_record(), request or self._usual, release=True)

    @property
    def calls_tools(self) -> bool:
        """Whether the language model may call tools, as far as that is known."""
        mind = self._stages.mind
        return not isinstance(mind, UsesTools) or mind.uses_tools

    def announce(self, text: str) -> None:
        """Say a sentence unprompted, as soon as nobody speaks."""
        self._own.announce(text, self._usual)
        self._tell_state()

    def settled_call(self, call_id: str) -> None:
        """Note that the client has put the result of a call into the history."""
        self._errands.settled(call_id)

    def allow(self, call_id: str, allowed: bool) -> bool:
        """Pass on the user's yes or no to a call; return False if no call with this id waits for one."""
        return self._own.allow(call_id, allowed)

    def call_off(self) -> None:
        """Stop waiting for the owner's tools that are running."""
        self._errands.call_off()
        self._tell_state()

    async def understood(self, samples: Samples) -> str:
        """Transcribe a 16 kHz recording that is not a turn. Raises EngineError."""
        hearing = self._stages.ears.listen()
        try:
            for start in range(0, len(samples), EAR_RATE):
                await hearing.feed(samples[start : start + EAR_RATE])
            return (await hearing.finish()).text
        finally:
            await uninterrupted(hearing.close())

    async def settled(self) -> None:
        """Wait until everything that was said is in the history."""
        await self._settling.done()

    def aside(self, request: Request) -> AsyncGenerator[Event, None]:
        """Yield the events of a reply outside the conversation, up to ReplyMade."""
        return aside(self._mind.aside(request), self._stages.voice.speaker(), request)

    def commit(self) -> None:
        """End the user's turn with what was heard so far."""
        self._floor.commit()

    def clear(self) -> None:
        """Forget what was heard of a turn that has not ended."""
        self._floor.clear()

    def cancel(self, why: str) -> None:
        """Stop the reply that is being made or played, or that would be made for words not understood yet."""
        self._floor.cancel(why)

    def played(self, samples: int) -> None:
        """Report how many samples of the current reply have really been heard so far (24 kHz)."""
        if (reply := self._replies.current) is None:
            return
        self._replies.played(samples)
        if self._recording is not None:
            self._recording.played(reply.played)
        if reply is self._replies.current and reply.played > REACTION_HEARD:
            self._chronicle.keep_user()
        self._tell_state()  # the state becomes "speaking" at the first sound heard, not when the whole reply is made

    # -- output -----------------------------------------------------------------------------------------------------

    def events(self) -> AsyncIterator[Event]:
        """Return the events, for one consumer. If it stops reading, the reply's audio waits."""
        return aiter(self._scope.outbox)

    # -- from a turn to its reply -----------------------------------------------------------------------------------

    def _understood(self, turn: UserTurn, words: str, trouble: str) -> bool:
        """Process the final words of a turn, so that its reply may be heard. Return whether an answer is still due."""
        record, said = turn.record, turn.words(words)
        self._scope.outbox.post(UserSaid(record.turn, record.revision, said, continues=turn.continues))
        if said and self._own.answered(record, said):
            pass
        elif said and self._company.asked(turn, said):
            self._answered_aside(record, said)
        elif said:
            self._user_said(record, said)
            self._scope.spawn(self._replies.speaker.user_said(words, turn.own_sound))
            self._settle_reply(record)
        else:
            self._not_understood(turn, trouble)
        self._tell_state()
        return bool(said) and not record.outcome

    def _answered_aside(self, record: TurnRecord, said: str) -> None:
        """Close a turn that was answered without the language model and the memory."""
        if (reply := self._replies.of(record)) is not None:
            self._replies.waste(reply)
        record.user = said
        if not record.outcome:
            self._scope.close_record(record, "completed", "about a voice")

    def _say_aside(self, text: str) -> None:
        self._own.announce(text, replace(self._usual, kept=False))
        self._tell_state()

    def _look_ahead(self, words: str) -> None:
        self._recollection.look_ahead(words, self._company.last)

    def _settle_reply(self, record: TurnRecord) -> None:
        if self._user.mode != "automatic":
            self._chronicle.keep_user()
        elif (reply := self._replies.of(record)) is not None:
            if (
                self._floor.quiet and not self._settling.pending
            ):  # otherwise someone is speaking again, and the ruling on that releases it
                reply.release()
        elif record.outcome:
            pass  # cancelled before it was understood
        elif self._replies.current is not None or self._settling.pending:
            self._scope.close_record(record, "interrupted", "the user went on before it was answered")
        else:
            self._start(record, self._usual, release=self._floor.quiet)

    def _not_understood(self, turn: UserTurn, trouble: str) -> None:
        """Ask the user to repeat it, once; after that a notice on the page is enough."""
        record = turn.record
        if (reply := self._replies.of(record)) is not None:
            self._replies.discard(reply)
        if record.outcome:
            return
        worth_asking = turn.speech_ms >= WORTH_ASKING_MS and self._user.mode == "automatic" and not self._misheard
        if worth_asking and self._floor.quiet and self._replies.current is None and not self._settling.pending:
            self._misheard += 1
            self._replies.start(record, fixed(ASK_AGAIN), release=True)
            return
        if not trouble:
            self._scope.notice("info", "Parley heard something, but did not understand any words.")
        self._scope.close_record(record, "not understood", trouble)

    def _start(self, record: TurnRecord, request: Request, *, turn: UserTurn | None = None, release: bool) -> None:
        after = self._settling.last if turn is not None else None
        text = self._mind.answer(record, request, turn, after)
        self._replies.start(record, text, release=release, request=request)

    @property
    def _silent(self) -> bool:
        """Whether nobody speaks and nothing is about to be said."""
        return self._floor.quiet and self._replies.current is None and not self._settling.pending and not self._ending

    # -- into the history -------------------------------------------------------------------------------------------

    def _user_said(self, record: TurnRecord, text: str) -> None:
        self._misheard = self._own.rounds = 0
        record.user = text
        self._chronicle.user_said(text, record.turn)

    def _reply_made(self, reply: Reply) -> None:
        if reply.calls:
            self._chronicle.called(reply)
            self._own.rounds += any(call.own for call in reply.calls)
            request, quiet = reply.request, not reply.text
            self._errands.begin(reply.calls, reply.turn, reply.revision, request, quiet=quiet)

    def _reply_done(self, reply: Reply, outcome: Outcome) -> None:
        """Put what was heard of a reply into the history, unless the reply was withdrawn."""
        if outcome == "withdrawn":
            return
        self._errands.told(reply.covers)
        self._chronicle.keep_user()
        if outcome == "completed":
            self._user.taking.habits.went_well()
        self._chronicle.heard(reply, interrupted=outcome == "interrupted")
        if not self._errands.open:
            self._mind.read_ahead(self._usual)

    def _tell_state(self) -> None:
        """Report the state if it changed. What waits to be said comes later, after all consequences of the change."""
        asyncio.get_running_loop().call_soon(self._own.say_next)
        if (state := self.state) != self._told:
            self._told = state
            self._scope.outbox.post(StateChanged(self._scope.turns, 0, state))
