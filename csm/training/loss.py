"""The training objective: predict each frame of the target from everything before it.

Two models share the work. The backbone's hidden state at row t predicts code 0 of row t + 1. The depth decoder reads
that same hidden state, then the codes of row t + 1 one by one, and predicts each from those before it. So

    loss = L0 + mean(L1 … L31)

with L0 over all frames of the target and the row of zeros that ends it, and the others over a random share of them: the
depth decoder is the most expensive part of a step, and neighbouring frames teach it much the same (Sesame trains it on
a sixteenth; "Crossing the uncanny valley of conversational voice", 2025). The end is always included: a model that does
not learn it never stops speaking. transformers' `CsmForConditionalGeneration(labels=…)` computes the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..model import Csm
from ..rows import ABSENT

__all__ = ["Batch", "Counts", "Example", "Losses", "frame_losses", "pick_depth"]


@dataclass(frozen=True, eq=False)
class Example:
    """Rows [n, codebooks + 1] (csm.rows) of a context and a target. The last `frames` rows are the target's sound and
    its end, which are trained on. All other rows are only context."""

    rows: Tensor
    frames: int

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class Counts:
    """The number of terms in a sum of losses. A mean over several batches divides their sums by all counts."""

    code0: int = 0
    depth: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.code0 + other.code0, self.depth + other.depth)


@dataclass(frozen=True, eq=False)
class Batch:
    """A padded batch of examples.

    rows: int64 [b, n, codebooks + 1], padded on the right with rows of ABSENT.
    learnt: bool [b, n], the rows whose code 0 is trained on.
    depth: bool [b, n], those of them whose other codes are trained on, too.
    """

    rows: Tensor
    learnt: Tensor
    depth: Tensor

    @classmethod
    def of(cls, examples: Sequence[Example], picked: Sequence[Tensor]) -> Batch:
        """picked: for each example bool [frames], the frames on which the depth decoder is trained (`pick_depth`)."""
        longest = max(len(example) for example in examples)
        rows = torch.full((len(examples), longest, examples[0].rows.shape[1]), ABSENT)
        learnt, depth = torch.zeros(2, len(examples), longest, dtype=torch.bool)
        for index, (example, frames) in enumerate(zip(examples, picked, strict=True)):
            sound = slice(len(example) - example.frames, len(example))
            rows[index, : len(example)] = example.rows
            learnt[index, sound] = True
            depth[index, sound] = frames
        return cls(rows, learnt, depth)

    @property
    def counts(self) -> Counts:
        later_codes = self.rows.shape[2] - 2
        return Counts(int(self.learnt.sum()), int(self.depth.sum()) * later_codes)

    def to(self, device: torch.device) -> Batch:
        return Batch(*(part.to(device, non_blocking=True) for part in (self.rows, self.learnt, self.depth)))


@dataclass(frozen=True, eq=False)
class Losses:
    """Sums of cross-entropies in nats, float32 scalars."""

    code0: Tensor
    depth: Tensor

    def mean(self, counts: Counts) -> Tensor:
        """L0 + mean(L1 … L31). `counts` are those of everything in one training step, of which this may be only a part:
        the parts then add up to the whole step's loss, however it was cut."""
        return self.code0 / max(counts.code0, 1) + self.depth / max(counts.depth, 1)


def pick_depth(frames: int, share: float, generator: torch.Generator) -> Tensor:
    """The target's frames on which the depth decoder is trained: bool [frames], a random share and always the last,
    which is the end."""
    picked = torch.rand(frames, generator=generator) < share
    picked[-1] = True
    return picked


def frame_losses(model: Csm, batch: Batch) -> Losses:
    """The losses of a batch, summed."""
    hidden = model.hidden_states(batch.rows.clamp(min=0), batch.rows >= 0)
    codes = batch.rows[..., :-1]
    # A row is predicted from the hidden state of the row before it: its own state has already read the frame.
    code0 = model.codebook0_head(hidden[:, :-1][batch.learnt[:, 1:]])
    loss0 = F.cross_entropy(code0.float(), codes[batch.learnt][:, 0], reduction="sum")
    frames = codes[batch.depth]
    depth = model.depth_logits(hidden[:, :-1][batch.depth[:, 1:]], frames)[:, 1:]
    loss = F.cross_entropy(depth.float().flatten(0, 1), frames[:, 1:].flatten(), reduction="sum")
    return Losses(loss0, loss)
