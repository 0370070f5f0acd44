"""The settings of a training: every number, and where it comes from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

from .lora import LoraShape

__all__ = ["Settings", "differences"]

LEARNING_RATE = {"lora": 2e-4, "full": 2e-5}
"""Learning rates of published trainings of CSM: Unsloth's notebook for LoRA, keanteng's for all weights."""


@dataclass(frozen=True)
class Settings:
    """batch: clips computed at a time, on each GPU. accumulation: such batches before the weights change.
    learning_rate: None means what worked for others, 2e-4 (LoRA) or 2e-5 (full).
    warmup: steps in which the learning rate rises to that; then it falls along `schedule` to 0 at the last step.
    clip: the maximum norm of the whole gradient.
    depth_share: share of the frames whose later codes are trained on; 1/16 with hours of sound, up to 1 with minutes.
    reference_share: share of the clips that follow another clip of the same voice, as in later use.
    """

    mode: Literal["lora", "full"] = "lora"
    rank: int = 32
    alpha: float = 32.0
    dropout: float = 0.0
    extras: tuple[str, ...] = ()
    steps: int = 300
    batch: int = 2
    accumulation: int = 4
    learning_rate: float | None = None
    schedule: Literal["cosine", "linear"] = "cosine"
    warmup: int = 10
    weight_decay: float = 0.01
    clip: float = 1.0
    depth_share: float = 1 / 16
    reference_share: float = 0.5
    precision: Literal["bf16", "fp32"] = "bf16"
    activation_checkpointing: bool = False
    seed: int = 0
    save_every: int = 50
    keep: int = 2
    evaluate_every: int = 25
    speak_every: int = 0

    def __post_init__(self) -> None:
        least = {"steps": 1, "batch": 1, "accumulation": 1, "warmup": 0, "save_every": 1, "keep": 1, "speak_every": 0}
        for name, number in (least | {"evaluate_every": 1}).items():
            if getattr(self, name) < number:
                raise ValueError(f"{name} is {number} or more, not {getattr(self, name)}.")
        for name in ("depth_share", "reference_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a share from 0 to 1, not {getattr(self, name)}.")
        if not (0 < self.peak_rate < 1 and self.clip > 0):
            raise ValueError("The learning rate is above 0 and below 1, and clip is above 0.")
        if self.mode not in LEARNING_RATE:
            raise ValueError(f"mode is lora or full, not {self.mode!r}.")
        self.lora  # noqa: B018 - this checks the rules of LoraShape, too

    @property
    def lora(self) -> LoraShape:
        return LoraShape(self.rank, self.alpha, self.dropout, self.extras)

    @property
    def peak_rate(self) -> float:
        return LEARNING_RATE[self.mode] if self.learning_rate is None else self.learning_rate

    def rate(self, step: int) -> float:
        """The learning rate of step 0, 1, …"""
        if step < self.warmup:
            return self.peak_rate * (step + 1) / self.warmup
        gone = (step - self.warmup) / max(self.steps - self.warmup, 1)
        falling = 1 - gone if self.schedule == "linear" else (1 + math.cos(math.pi * gone)) / 2
        return self.peak_rate * falling

    def described(self) -> dict[str, object]:
        """The settings as a dictionary for JSON."""
        return asdict(self) | {"extras": list(self.extras)}


FREE = {"save_every", "keep", "evaluate_every", "speak_every"}
"""Settings that may change when a training is resumed, because they do not affect the result."""


def differences(one: Mapping[str, object], other: Mapping[str, object]) -> list[str]:
    """The settings in which two trainings differ, as "name: 1 → 2"."""
    names = sorted((one.keys() | other.keys()) - FREE)
    return [f"{name}: {one.get(name)} → {other.get(name)}" for name in names if one.get(name) != other.get(name)]
