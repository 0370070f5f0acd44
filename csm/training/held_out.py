"""The loss on held-out clips, always on the same frames: it shows overfitting."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from ..model import Csm
from .loss import Batch, Counts, Example, frame_losses, pick_depth
from .order import generator_of
from .ranks import Ranks

__all__ = ["HeldOut", "held_out_loss"]

SHARE = 0.25
"""The share of the frames whose later codes are evaluated."""


@dataclass(frozen=True)
class HeldOut:
    """Mean losses, in nats per code."""

    code0: float
    depth: float

    @property
    def loss(self) -> float:
        return self.code0 + self.depth


@torch.no_grad()
def held_out_loss(
    model: Csm,
    examples: Sequence[Example],
    seed: int = 0,
    ranks: Ranks | None = None,
    precision: AbstractContextManager[Any] | None = None,
) -> HeldOut | None:
    """Return the loss, or None if nothing is held out. Each rank computes its share; all get the same result."""
    ranks = ranks or Ranks()
    model.eval()
    code0, depth, counts = 0.0, 0.0, Counts()
    with precision or nullcontext():
        for number in range(ranks.rank, len(examples), ranks.world):
            picked = pick_depth(examples[number].frames, SHARE, generator_of(seed, number))
            batch = Batch.of([examples[number]], [picked])
            losses = frame_losses(model, batch.to(model.device))
            code0, depth = code0 + float(losses.code0), depth + float(losses.depth)
            counts += batch.counts
    code0, depth, code0_count, depth_count = ranks.sum([code0, depth, counts.code0, counts.depth])
    return HeldOut(code0 / code0_count, depth / depth_count) if code0_count else None
