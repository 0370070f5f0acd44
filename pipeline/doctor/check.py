"""One check: its name, what it needs, and how it examines the patient."""

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
"""Seconds after which an engine without a sign of life is given up."""
LOADING_S = 900.0
"""The same while a model is loading: the first time, its weights are packed and its kernels built, which took 217 s for
CSM in 4 bits on 4 cores."""


@dataclass(slots=True)
class Patient:
    """What the checks share."""

    engines: Engines
    settings: Settings
    data: Path
    clock: Clock
    talking: Callable[[], bool]
    """Whether there is a conversation, which must not be disturbed."""
    suits: bool = True
    """Whether the computer can run the chosen engines."""
    understands: bool = False
    """Whether the ears understood a person's voice."""
    spoken: Samples | None = None
    """What the voice said, at 16 kHz."""
    factor: float | None = None
    """The real-time factor of the chosen voice."""

    @property
    def english(self) -> bool:
        """Whether ears and voice are set to the language of the test sentences."""
        voice = self.settings.voice.name if self.settings.voice.engine == "espeak" else ""
        return self.settings.ears.language in ("en", "auto") and (not voice or voice.startswith("en"))


class Tell(Protocol):
    def __call__(self, text: str, patience_s: float = PATIENCE_S, *, passing: bool = False) -> None:
        """Give a sign of life (finding.Working), and say how long the next one may take."""


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    title: str
    look: Callable[[Patient, Tell], Awaitable[Verdict]]
    """May raise EngineError, AudioFileError or SoundCardError; its sentence becomes the verdict."""
    needs: Part | None = None
    """The part of the engines without which the check is skipped."""
