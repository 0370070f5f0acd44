"""One check: what it is called, what it needs, and how it looks at the patient."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from config.settings import Settings
from pipeline.audio import Samples
from pipeline.doctor.finding import Verdict
from pipeline.engines.running import Engines
from pipeline.engines.slot import Part
from pipeline.engines.trial import Clock

PATIENCE_S = 120.0
"""After which an engine that gives no sign of life is given up."""
LOADING_S = 900.0
"""The same while a model is loaded: the first time, its weights are packed and its kernels built, which took 217 s for
CSM in 4 bits on 4 cores."""


@dataclass(slots=True)
class Patient:
    """What the checks share."""

    engines: Engines
    settings: Settings
    data: Path
    clock: Clock
    talking: Callable[[], bool]
    """Whether a conversation is going on, which is not to be disturbed."""
    suits: bool = True
    """Whether the computer can run what is chosen."""
    understands: bool = False
    """Whether the ears have understood a person's voice."""
    spoken: Samples | None = None
    """What the voice said, 16 kHz."""
    factor: float | None = None
    """The real-time factor of the voice as it is chosen."""

    @property
    def english(self) -> bool:
        """Whether ears and voice are set to the language of the sentences that they are tried with."""
        voice = self.settings.voice.name if self.settings.voice.engine == "espeak" else ""
        return self.settings.ears.language in ("en", "auto") and (not voice or voice.startswith("en"))


class Tell(Protocol):
    def __call__(self, text: str, patience_s: float = PATIENCE_S, *, passing: bool = False) -> None:
        """Give a sign of life (finding.Working), and say for how long there may be none."""


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    title: str
    look: Callable[[Patient, Tell], Awaitable[Verdict]]
    """May raise EngineError, AudioFileError or SoundCardError: their sentence is the verdict."""
    needs: Part | None = None
    """Without this part of the engines it is not tried."""
