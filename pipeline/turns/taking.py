"""Decides whether a pause ends the user's turn, from the voice, the words and this user's habits."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from config import Settings
from pipeline.audio import Samples
from pipeline.engine import EngineError
from pipeline.turns.judges import EndOfTurn, FirstOf, Habits, Meaning, Pause, SilenceLimit, hint
from pipeline.turns.listening import UserTurn

PAUSE_MS = 96.0
"""Silence after which the turn may have ended: the transcript is finished and the turn model is asked. It is three
frames, because the stops within words (a "t", a "k") are shorter."""

ASK_AT_MS = (PAUSE_MS, 480.0, 960.0)
"""Lengths of silence at which the turn model is asked; a longer pause tells it more."""

Finished = Callable[[Samples], Awaitable[float]]


class TurnTaking:
    def __init__(self, settings: Settings, finished: Finished | None, warn: Callable[[str], None]) -> None:
        """`finished` is the turn model, if there is one; `warn` tells the user that it failed."""
        self.habits = Habits()
        self._settings = settings
        self._finished = finished
        self._warn = warn
        self._failed: int | None = None
        """The last turn in which the model failed; it is asked again in the next turn."""

    def configure(self, settings: Settings, finished: Finished | None) -> None:
        self._settings, self._finished = settings, finished

    def by_meaning(self, turn: UserTurn) -> bool:
        return self._settings.turns.meaning and self._finished is not None and self._failed != turn.number

    def verdict(self, turn: UserTurn, silence_ms: float) -> str | None:
        """Return why the turn has ended; None while it has not."""
        return self._judge(turn).verdict(Pause(silence_ms, turn.speech_ms, turn.transcript, turn.finished))

    def worth_preparing(self, turn: UserTurn, silence_ms: float) -> bool:
        """Whether a reply begun now will probably be wanted: the user seems to have finished, or the pause is long."""
        if turn.finished is None:
            return silence_ms >= 2 * PAUSE_MS
        likely = turn.finished + hint(turn.transcript)
        return likely >= 0.5 or silence_ms >= self._settings.turns.longest_ms / 2

    def wants_model(self, turn: UserTurn, silence_ms: float) -> bool:
        return self.by_meaning(turn) and turn.asked < len(ASK_AT_MS) and silence_ms >= ASK_AT_MS[turn.asked]

    async def ask(self, turn: UserTurn) -> bool:
        """Ask the model about this pause; return whether it answered while the pause lasted."""
        turn.asked += 1
        revision = turn.revision
        if self._finished is None:
            return False
        try:
            finished = await self._finished(turn.sound)
        except EngineError as error:
            if self._failed is None:
                limit = self._settings.turns.silence_ms
                self._warn(f"{error} Until it is back, {limit} ms of silence end a turn.")
            self._failed = turn.number
            return False
        self._failed = None
        if turn.revision != revision or not turn.paused:
            return False
        turn.finished = finished
        return True

    def _judge(self, turn: UserTurn) -> EndOfTurn:
        turns = self._settings.turns
        if not self.by_meaning(turn):
            return SilenceLimit(turns.silence_ms + self.habits.extra_ms)
        longest = self.habits.longest(turns.longest_ms)
        return FirstOf([Meaning(turns.shortest_ms + self.habits.extra_ms, longest), SilenceLimit(longest)])
