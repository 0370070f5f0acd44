"""Speech during a reply: does the user want the turn, or only cough, or say "mm-hmm"?"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from pipeline.audio import MOUTH_RATE

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


BACKCHANNELS = frozenset(
    "mm mhm hm hmm mmhmm uh huh uhhuh um ah oh yeah yes yep yup right okay ok sure aha wow cool nice great true".split()
)
"""Words by which a listener says "go on"; alone they do not take the turn (Yngve 1970 named them backchannels)."""

OBJECTIONS = frozenset("no what why who how when where hello hey but sorry actually listen never nope".split())
"""Words that take the turn all alone. Any other single word is as likely an "mm-hmm" that was misheard."""

COMMANDS = ("stop", "wait", "pause", "hold on", "hang on", "shut up", "be quiet", "quiet", "enough")


@dataclass(frozen=True, slots=True)
class InterruptionJudge:
    """An interruption is a command, or words beyond backchannels, or speech too long to be either noise or assent."""

    min_speech_ms: float = 250.0
    """Shorter bursts are a cough or a door unless they are a command."""
    words_speech_ms: float = 600.0
    """Two words take this long; what is shorter and was taken for two was one, said slowly. The reply is silent in the
    meantime, so that it costs little to be sure."""
    certain_speech_ms: float = 800.0
    """The longest backchannels last about this; more is an interruption whatever was understood."""
    verdict_silence_ms: float = 200.0

    def ruling(self, intrusion: Intrusion) -> Ruling | None:
        """None while it cannot be said yet; always a ruling once the intruder is silent and the words are final."""
        words = re.findall(r"[a-z']+", intrusion.transcript.lower().replace("-", ""))
        spoken = " ".join(words)
        for command in COMMANDS:
            if f"{spoken} ".startswith(f"{command} "):
                return Ruling("command", f"said “{command}”")
        if not intrusion.reacting and intrusion.speech_ms >= self.min_speech_ms:
            return Ruling("continuation", "the user went on")
        if intrusion.speech_ms >= self.certain_speech_ms:
            return Ruling("interruption", f"{intrusion.speech_ms:.0f} ms of speech")
        beyond = [word for word in words if word not in BACKCHANNELS]
        if len(beyond) >= 2 and intrusion.speech_ms >= self.words_speech_ms:
            return Ruling("interruption", "words beyond a backchannel")
        if intrusion.silence_ms < self.verdict_silence_ms or not intrusion.final:
            return None
        if OBJECTIONS.intersection(words) and intrusion.speech_ms >= self.min_speech_ms:
            return Ruling("interruption", "an objection")
        return Ruling("backchannel", f"“{spoken}”" if words else f"{intrusion.speech_ms:.0f} ms without words")
