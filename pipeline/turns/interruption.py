"""Speech during a reply: does the user want the turn, or only cough, or say "mm-hmm"?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pipeline.audio import MOUTH_RATE
from pipeline.turns.phrases import COMMAND, OBJECTION, normalized, without_assent

REACTION_HEARD = 1.0 * MOUTH_RATE
REACTION_S = 1.3
UNANSWERED_S = 4.0
"""A user who speaks again within REACTION_S of their last word, having heard less than REACTION_HEARD samples, cannot
be reacting to the reply: they had not finished. Nor is one who has heard nothing yet, within UNANSWERED_S."""


def can_react(since_s: float, heard: int) -> bool:
    """Whether speech that began so long after the user's last word, `heard` samples into the reply, can be about it."""
    return since_s > (REACTION_S if heard else UNANSWERED_S) or heard > REACTION_HEARD


@dataclass(frozen=True, slots=True)
class Intrusion:
    """What is known of speech that began while a reply was there."""

    speech_ms: float
    silence_ms: float
    transcript: str = ""
    final: bool = False
    """The transcript is of all that was said."""
    reacting: bool = True
    """Enough of the reply was heard, and long enough ago, to be reacted to. Else the user had not finished."""


@dataclass(frozen=True, slots=True)
class Ruling:
    kind: Literal["command", "interruption", "continuation", "backchannel"]
    why: str


@dataclass(frozen=True, slots=True)
class InterruptionJudge:
    """An interruption is a command, or words beyond backchannels, or speech too long to be either noise or assent."""

    min_speech_ms: float = 250.0
    """Shorter bursts are a cough or a door unless they are a command."""
    words_speech_ms: float = 600.0
    """Two words take this long; what is shorter and was taken for two was one, said slowly. The reply is silent in the
    meantime, so that it costs little to be sure."""
    certain_speech_ms: float = 800.0
    """More is an interruption whatever was understood …"""
    assent_speech_ms: float = 1600.0
    """… unless all that was understood so far is assent: "oh wow, that's amazing" lasts about this long."""
    verdict_silence_ms: float = 200.0

    def ruling(self, intrusion: Intrusion) -> Ruling | None:
        """None while it cannot be said yet; always a ruling once the intruder is silent and the words are final."""
        spoken = normalized(intrusion.transcript)
        beyond = without_assent(spoken)
        # Who had not finished may well go on with "… at the bus stop"; who reacts and says "stop" means it.
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
