"""Who is talking: finds whose voice each turn was, and learns or forgets voices on request.

A turn's voice is identified in the background, from the moment the turn may have ended. Only the memory waits for the
result; a reply made before it is known assumes that the previous speaker spoke.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from config import Settings
from pipeline.conversation.events import SpeakerTold
from pipeline.conversation.history import History
from pipeline.conversation.scope import ConversationScope
from pipeline.conversation.stages import Speakers
from pipeline.engine import EngineError
from pipeline.llm import USER
from pipeline.llm.builtin.words import as_name
from pipeline.speakers.encoder import Direction
from pipeline.speakers.people import ENOUGH_S, GUEST, RESERVED, SAME, Heard, Person, joined, who
from pipeline.turns.listening import UserTurn

STRANGERS = 50
"""Utterances of unknown voices that a conversation keeps, to learn a voice from if its owner asks."""
TURNS = 50
"""Turns whose voice is remembered: those whose words may still have to be stored."""

GREETING = 12
"""Most characters that a greeting may add around "This is Anna"."""

_REMEMBER = re.compile(r"\b(?:remember|learn) my voice\b", re.IGNORECASE)
_FORGET = re.compile(r"\bforget my voice\b", re.IGNORECASE)
_NAME = r"(?P<name>[^\W\d_][\w'-]*(?: [^\W\d_][\w'-]*)??)(?: speaking| here)?(?=[,.!]|$| and\b| please\b| remember\b)"
_INTRODUCED = re.compile(rf"\b(?:this is|my name is|my name's) {_NAME}", re.IGNORECASE)
_WITH_A_NAME = re.compile(rf"\b(?:this is|my name is|my name's|i am|i'm|it is|it's) {_NAME}", re.IGNORECASE)
"""Introductions that count only if a voice is to be remembered: "I am tired" gives no name."""


@dataclass(slots=True)
class _Learning:
    """A voice to learn, of which not enough was heard yet."""

    name: str
    heard: list[Heard] = field(default_factory=list)
    told: bool = False
    """Whether the speaker was told to say more."""


class Company:
    def __init__(
        self,
        speakers: Speakers | None,
        settings: Settings,
        scope: ConversationScope,
        history: History,
        announce: Callable[[str], None],
    ) -> None:
        """`announce` says a sentence as soon as nobody is speaking."""
        self._speakers = speakers
        self._settings = settings
        self._scope = scope
        self._history = history
        self._announce = announce
        self._telling: dict[int, asyncio.Task[str]] = {}
        """The tasks that find who spoke, by turn."""
        self._revision = (0, 0)
        """The newest turn whose voice was looked at, and its revision."""
        self._last: Person | None = None
        """Whose voice was heard last; None for a guest."""
        self._latest: Heard | None = None
        self._strangers: deque[Heard] = deque(maxlen=STRANGERS)
        self._introduced = ""
        """The name by which somebody was last introduced."""
        self._learning: _Learning | None = None
        self._warned = False

    def configure(self, speakers: Speakers | None, settings: Settings) -> None:
        self._speakers, self._settings = speakers, settings

    def listen(self, turn: UserTurn) -> None:
        """Start to identify the voice of a turn that may have ended, once for each revision."""
        revision = turn.number, turn.revision
        if self._speakers is None or revision == self._revision:
            return
        self._revision = revision
        if (before := self._telling.pop(turn.number, None)) is not None:
            before.cancel()
        while len(self._telling) >= TURNS:
            del self._telling[next(iter(self._telling))]
        work = self._tell(self._speakers, turn.number, turn, turn.speech_ms / 1000)
        self._telling[turn.number] = self._scope.spawn(work)

    def speaker(self, number: int) -> str:
        """Return who spoke in a turn, by their name in the memory, as far as that is known now."""
        telling = self._telling.get(number)
        if telling is None:
            return USER  # typed, or voices are not told apart
        if telling.done() and not telling.cancelled() and telling.exception() is None:
            return telling.result()
        return USER if self._last is None else self._last.speaker

    @property
    def last(self) -> str:
        """Who spoke last, and may be speaking now."""
        return self.speaker(next(reversed(self._telling), 0))

    async def kept_as(self, number: int) -> str | None:
        """Return the name under which a turn is remembered; None if it is not remembered."""
        while (telling := self._telling.get(number)) is not None and not telling.done():
            await asyncio.wait([telling])  # a cancelled task has a successor
        if telling is None:
            return USER
        speaker = GUEST if telling.cancelled() or telling.exception() is not None else telling.result()
        return None if speaker == GUEST and not self._settings.memory.guests else speaker

    async def reply_kept_as(self, number: int) -> str | None:
        """Do the same for the reply to a turn, since it may repeat the turn's words."""
        return None if await self.kept_as(number) is None else "assistant"

    def asked(self, turn: UserTurn, said: str) -> bool:
        """Whether a turn was about learning or forgetting a voice; if so, it is answered here."""
        if self._speakers is None:
            return False
        said = said.replace("’", "'")
        wanted = _REMEMBER.search(said) is not None
        given = (_WITH_A_NAME if wanted else _INTRODUCED).search(said)
        named = given is not None and (wanted or given["name"][0].isupper())  # "This is great" gives no name
        if given is not None and named and given["name"].casefold() not in RESERVED:
            self._introduced = as_name(given["name"])
        if _FORGET.search(said):
            self._scope.spawn(self._forget(self._speakers, turn.number))
        elif wanted:
            self._scope.spawn(self._learn(self._speakers, turn.number, self._introduced))
        elif given is not None and named and self._alone(given) and self.speaker(turn.number) == GUEST:
            self._announce(f"Hello, {self._introduced}. If you want me to know your voice, say: remember my voice.")
        else:
            return False
        return True

    @staticmethod
    def _alone(given: re.Match[str]) -> bool:
        """Whether nothing was said beside the name but a greeting."""
        return len(given.string) - len(given[0]) <= GREETING

    async def _tell(self, speakers: Speakers, number: int, turn: UserTurn, seconds: float) -> str:
        try:
            direction = await speakers.direction(turn.sound)
        except EngineError as error:
            self._warn(f"Parley cannot tell whose voice this is, so what is said is not remembered: {error}")
            return GUEST
        known = speakers.known()
        if direction is None:
            return USER if not known else GUEST
        heard = self._latest = Heard(direction, seconds)
        person = self._last = who(heard, known, self._last)
        speaker = person.speaker if person is not None else GUEST if known else USER
        self._history.attribute(number, speaker)
        if known:
            self._scope.outbox.post(SpeakerTold(number, turn.revision, speaker))
        if person is None:
            self._strangers.append(heard)
            if known and not self._settings.memory.guests and self._learning is None:
                self._warn("Parley does not know this voice, so what it says is not remembered.")
            if self._learning is not None and _alike(heard, joined(self._learning.heard)):
                self._learning.heard.append(heard)
                await self._go_on_learning(speakers, self._learning)
        return speaker

    async def _learn(self, speakers: Speakers, number: int, name: str) -> None:
        """Learn the voice of this turn, from all that it said in this conversation."""
        await self.kept_as(number)
        if self._latest is None:
            return
        if self._last is not None:
            self._announce(f"I already know your voice, {self._last.name}.")
            return
        if not name:
            self._announce("Gladly. What is your name? Say: this is, and your name. Then say: remember my voice.")
            return
        namesake = next((each for each in speakers.known() if each.name.casefold() == name.casefold()), None)
        if namesake is not None and not _alike(self._latest, namesake.direction):
            self._announce(f"I already know another voice as {name}. Tell me a different name for yours.")
            return
        voice = self._latest.direction
        heard = [each for each in self._strangers if _alike(each, voice)]
        self._learning = _Learning(name, heard or [self._latest])
        await self._go_on_learning(speakers, self._learning)

    async def _go_on_learning(self, speakers: Speakers, learning: _Learning) -> None:
        if sum(each.seconds for each in learning.heard) < ENOUGH_S:
            if not learning.told:
                learning.told = True
                self._announce(f"Gladly, {learning.name}. Talk a little more, so that I can learn your voice.")
            return
        self._learning, self._introduced = None, ""
        today = self._scope.now().date()
        try:
            self._last = await speakers.learn(learning.name, learning.heard, today)
        except OSError as error:
            self._announce("I cannot remember your voice, because I cannot write to the disk.")
            self._scope.warn(f"A voice could not be kept ({error.strerror}): free some space.")
            return
        self._strangers.clear()
        self._announce(f"Thank you, {learning.name}. I know your voice now.")

    async def _forget(self, speakers: Speakers, number: int) -> None:
        await self.kept_as(number)
        self._learning, self._introduced = None, ""
        self._strangers.clear()
        if (person := self._last) is None:
            self._announce("I do not know your voice.")
            return
        self._last = None
        try:
            await speakers.forget(person.name)
        except OSError as error:
            self._scope.warn(f"A voice could not be deleted ({error.strerror}): delete people.json in the data folder.")
            return
        self._announce(f"I have forgotten your voice, {person.name}.")

    def _warn(self, text: str) -> None:
        """Warn the user, once per conversation."""
        if not self._warned:
            self._warned = True
            self._scope.notice("info", text)


def _alike(heard: Heard, direction: Direction) -> bool:
    return float(heard.direction @ direction) >= SAME
