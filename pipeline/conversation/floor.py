"""Decides whose turn it is: what the user's speech means for the reply that is being made or heard."""

from __future__ import annotations

from collections.abc import Callable

from config import Settings
from pipeline.audio import EAR_RATE
from pipeline.conversation.chronicle import Chronicle
from pipeline.conversation.company import Company
from pipeline.conversation.errands import Errands
from pipeline.conversation.events import ReplyResumed
from pipeline.conversation.reply import Reply
from pipeline.conversation.reply_side import ReplySide
from pipeline.conversation.scope import ConversationScope
from pipeline.conversation.settling import Settling
from pipeline.conversation.user_side import Ended, Paused, SpokeOver, TurnChange, UserSide, WentOn
from pipeline.tools.consent import consent
from pipeline.turns.interruption import InterruptionJudge, Ruling, can_react
from pipeline.turns.listening import UserTurn


class FloorControl:
    def __init__(
        self,
        settings: Settings,
        scope: ConversationScope,
        user: UserSide,
        replies: ReplySide,
        settling: Settling,
        errands: Errands,
        company: Company,
        chronicle: Chronicle,
        *,
        prepare: Callable[[UserTurn], None],
        changed: Callable[[], None],
    ) -> None:
        """
        Args:
            prepare: makes the reply to a turn that may go on; the reply is held back until the turn has ended.
            changed: is called when the conversation's state may have changed.
        """
        self._settings = settings
        self._scope = scope
        self._user = user
        self._replies = replies
        self._settling = settling
        self._errands = errands
        self._company = company
        self._chronicle = chronicle
        self._prepare_reply = prepare
        self._changed = changed
        self._interruptions = InterruptionJudge()
        self._ended_turn: UserTurn | None = None
        """The last turn that ended. If a reply answers it, the user might still go on."""

    def configure(self, settings: Settings) -> None:
        self._settings = settings

    @property
    def quiet(self) -> bool:
        """Whether a reply would talk over nobody."""
        return self._user.turn is None or self._user.mode == "manual"

    async def listen(self) -> None:
        """Follow the user's turn frame by frame, and act on each change."""
        async for frame in self._user.ear.frames():
            self._follow(self._user.take(frame, self._replies.current))

    def commit(self) -> None:
        """End the user's turn with what was heard so far."""
        self._follow(self._user.end("committed"))

    def clear(self) -> None:
        """Forget what was heard of a turn that has not ended."""
        if (turn := self._user.drop()) is not None:
            self._dropped(turn)

    def cancel(self, why: str) -> None:
        """Stop the reply that is being made or played, or that would be made for words not understood yet."""
        reply, turn = self._replies.current, self._user.turn
        if reply is not None and turn is not None and reply.turn == turn.number:
            self._replies.waste(reply)  # its turn still goes on, so it is too early to finish the record
        elif reply is not None:
            self._replies.cancel(why)
        elif self._settling.pending and self._ended_turn is not None and not self._ended_turn.record.outcome:
            self._scope.close_record(self._ended_turn.record, "interrupted", why)

    def _follow(self, change: TurnChange | None) -> None:
        match change:
            case Paused(turn, ask, prepare):
                self._company.listen(turn)
                if ask:
                    self._scope.spawn(self._ask_model(turn))
                if prepare:
                    self._prepare(turn)
            case WentOn(turn):
                if (reply := self._replies.of(turn.record)) is not None:
                    self._replies.waste(reply)
            case Ended(turn):
                self._ended(turn)
            case SpokeOver(turn, reply):
                intrusion = self._user.overheard(turn, reacting=self._reacting(turn, reply))
                if not self._user.interrupts:
                    return
                if (ruling := self._interruptions.ruling(intrusion)) is not None:
                    self._enforce(ruling, turn, reply)

    async def _ask_model(self, turn: UserTurn) -> None:
        if await self._user.taking.ask(turn):
            self._follow(self._user.look_again(turn, self._replies.current))

    def _prepare(self, turn: UserTurn) -> None:
        """Make a speculative reply, held back until the turn has ended."""
        if self._errands.question is not None:
            return  # the turn may be the yes or no, which gets no reply
        allowed = self._settings.turns.speculations
        if self._user.mode == "automatic" and self._replies.current is None and turn.record.speculations < allowed:
            turn.record.speculations += 1
            self._prepare_reply(turn)

    def _ended(self, turn: UserTurn) -> None:
        if self._replies.current is not None and self._replies.of(turn.record) is None:
            self._replies.cancel(f"the user's turn: {turn.record.end_of_turn}")
        self._company.listen(turn)
        self._prepare(turn)
        self._ended_turn = turn
        self._settling.begin(turn)
        self._changed()

    def _dropped(self, turn: UserTurn) -> None:
        """Undo a turn that was only noise, or that the client cleared."""
        reply = self._replies.current
        if reply is not None and reply.turn == turn.number:
            self._replies.waste(reply)
        elif reply is not None and not self._settling.pending:
            reply.release()  # it had waited for the speaker to finish
        self._changed()
        if turn.continues is not None and turn.prefix:  # the earlier part stands alone again
            self._chronicle.put_back(turn.prefix, turn.continues)

    def _reacting(self, turn: UserTurn, reply: Reply) -> bool:
        """Whether the user can be reacting to the reply; if not, the turn that was taken for finished goes on."""
        earlier = self._ended_turn
        if earlier is None or earlier.number != reply.turn or self._settling.pending:
            return True
        if earlier.speech_ms >= 1000 * self._settings.turns.max_speech_s:
            return True  # it was cut for its length and must not grow without limit
        return can_react((turn.onset - earlier.speech_end) / EAR_RATE, reply.played)

    def _enforce(self, ruling: Ruling, turn: UserTurn, reply: Reply) -> None:
        """Carry out the ruling on speech over a reply."""
        asked = self._errands.question is not None and not reply.request.kept
        if asked and consent(turn.transcript) is not None:
            self._replies.cancel("the user answered")  # over any other reply, a "yes" only means "go on"
        elif ruling.kind == "backchannel":
            reply.record.notes.append(f"talked on: {ruling.why}")
            self.clear()
            self._scope.outbox.post(ReplyResumed(reply.turn, reply.revision))
        elif ruling.kind == "continuation" and self._ended_turn is not None:
            self._withdraw(turn, reply, self._ended_turn)
        else:
            self._replies.cancel(f"the user interrupted: {ruling.why}")

    def _withdraw(self, turn: UserTurn, reply: Reply, earlier: UserTurn) -> None:
        """Withdraw a reply that came too early; the turn goes on as one, with the words of both parts."""
        self._errands.drop(earlier.number)
        self._user.taking.habits.cut_in()
        turn.take_up(earlier)
        self._chronicle.take_back(earlier.number)
        reply.record.wasted_tokens += reply.tokens
        self._replies.finish(reply, "withdrawn", "the user went on")
