"""Barge-in: decides whether speech during a reply takes the turn, or is only a cough or an "mm-hmm"."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pipeline.audio import MOUTH_RATE
from pipeline.turns.phrases import COMMAND, OBJECTION, normalized, without_assent

REACTION_HEARD = 1.0 * MOUTH_RATE
REACTION_S = 1.3
UNANSWERED_S = 4.0
"""A user who speaks again within REACTION_S of their last word, and has heard at most REACTION_HEARD samples of the
reply, cannot be reacting to it: they had not finished. If they have heard nothing yet, the limit is UNANSWERED_S."""


def can_react(since_s: float, heard: int) -> bool:
    """Whether speech can be a reaction to the reply. It began `since_s` seconds after the user's last word, when
    `heard` samples of the reply had been heard."""
    return since_s > (REACTION_S if heard else UNANSWERED_S) or heard > REACTION_HEARD


@dataclass(frozen=True, slots=True)
class Intrusion:
    """What is known of speech that began during a reply."""

    speech_ms: float
    silence_ms: float
    transcript: str = ""
    final: bool = False
    """Whether the transcript covers everything that was said."""
    reacting: bool = True
    """Whether this can be a reaction to the reply (see can_react). If not, the user had not finished."""


@dataclass(frozen=True, slots=True)
class Ruling:
    kind: Literal["command", "interruption", "continuation", "backchannel"]
    why: str


@dataclass(frozen=True, slots=True)
class InterruptionJudge:
    """Takes as an interruption a command, words beyond backchannels, or speech too long for noise or assent."""

    min_speech_ms: float = 250.0
    """Shorter bursts are taken for a cough or a door, unless they are a command."""
    words_speech_ms: float = 600.0
    """Two words take this long to say; anything shorter that was transcribed as two was one word, said slowly. Waiting
    costs little, because the reply is silent in the meantime."""
    certain_speech_ms: float = 800.0
    """Longer speech is an interruption, unless everything understood so far is assent."""
    assent_speech_ms: float = 1600.0
    """The same limit for assent: "oh wow, that's amazing" lasts about this long."""
    verdict_silence_ms: float = 200.0

    def ruling(self, intrusion: Intrusion) -> Ruling | None:
        """Return the ruling, or None while it is open; never None once the user is silent and the words are final."""
        spoken = normalized(intrusion.transcript)
        beyond = without_assent(spoken)
        # A user who had not finished may go on with "… at the bus stop"; one who reacts and says "stop" means it.
        command = COMMAND.search(beyond) if intrusion.reacting else COMMAND.match(beyond)
        if command:
            return Ruling("command", f"said “{command[0]}”")
        if not intrusion.reacting and intrusion.speech_ms >= self.min_speech_ms:
            return Ruling("continuation", "the user went on")
        assents = bool(spoken) and not beyond
        if intrusion.speech_ms >= (self.assent_speech_ms if assents else self.certain_speech_ms):
            return Ruling("interruption", f"{intrusion.speech_ms:.0f} ms of speech")
        if " " in beyond and intrusion.speech_ms >= self.words_speech_ms:
            return Ruling("interruption", "words beyond a backchannel")
        if intrusion.silence_ms < self.verdict_silence_ms or not intrusion.final:
            return None
        if OBJECTION.search(beyond) and intrusion.speech_ms >= self.min_speech_ms:
            return Ruling("interruption", "an objection")
        return Ruling("backchannel", f"“{spoken}”" if spoken else f"{intrusion.speech_ms:.0f} ms without words")
