"""Puts what was said and heard into the history, and into the memory once it is final."""

from __future__ import annotations

from functools import partial

from pipeline.conversation.company import Company
from pipeline.conversation.history import History
from pipeline.conversation.recollection import Recollection
from pipeline.conversation.reply import Reply


class Chronicle:
    def __init__(self, history: History, recollection: Recollection, company: Company) -> None:
        self._history = history
        self._recollection = recollection
        self._company = company
        self._unkept: tuple[str, int] | None = None
        """Words, and their turn, that are in the history but not in memory yet, because the turn may go on."""

    def user_said(self, text: str, turn: int) -> None:
        self.keep_user()
        self._history.add("user", text, turn, speaker=self._company.speaker(turn))
        self._unkept = text, turn

    def keep_user(self) -> None:
        """Remember the user's last turn, which is certainly over."""
        if self._unkept is not None:
            (text, turn), self._unkept = self._unkept, None
            self._recollection.keep(partial(self._company.kept_as, turn), text)

    def take_back(self, turn: int) -> None:
        """Remove the words of a turn that goes on after all."""
        for entry in self._history.entries:
            if entry.turn == turn:
                self._history.delete(entry.id)
        self._unkept = None

    def put_back(self, text: str, turn: int) -> None:
        """Restore the words of a turn that does not go on after all."""
        self._history.put_back("user", text, turn, speaker=self._company.speaker(turn))
        self._recollection.keep(partial(self._company.kept_as, turn), text)

    def called(self, reply: Reply) -> None:
        """Add a reply's tool calls at once, because a result may come before all of the reply was heard."""
        self._history.add("assistant", "", reply.turn, calls=reply.calls)

    def heard(self, reply: Reply, *, interrupted: bool) -> None:
        """Add what was heard of a reply, before the calls it made."""
        if reply.heard and reply.request.kept:
            of_turn = (place for place, entry in enumerate(self._history.entries) if entry.turn == reply.turn)
            calls = next((place for place in of_turn if self._history.entries[place].calls), None)
            self._history.add("assistant", reply.heard, reply.turn, interrupted=interrupted, place=calls)
            self._recollection.keep(partial(self._company.reply_kept_as, reply.turn), reply.heard)
