"""Speech to text: the Protocol. One file an engine beside this one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from pipeline.audio import Samples
from pipeline.engine import Engine


@dataclass(frozen=True, slots=True)
class Transcript:
    text: str
    """All that was understood so far, in natural spelling, stripped; empty when nothing was understood."""
    stable: int = 0
    """How many leading characters of `text` will hardly change any more; all of it in a final transcript."""


class Hearing(Protocol):
    """One turn of one speaker being listened to."""

    async def feed(self, samples: Samples) -> Transcript | None:
        """Take 16 kHz samples; give the new partial transcript when it has changed."""

    async def finish(self) -> Transcript:
        """Everything fed so far, final. Speech may go on: feed() and finish() again continue the same turn."""

    async def close(self) -> None:
        """The turn is over or dropped; free what it held. Safe to call twice."""


class SpeechToText(Engine, Protocol):
    def listen(self) -> Hearing: ...
