"""The rows that the model reads: one column for each codebook of a frame of sound, and a last one for a text token.

Rows are int64 [n, codebooks + 1]. An unused column holds ABSENT, so that rows need no separate mask.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["ABSENT", "common", "frame_rows", "sound_rows", "text_rows"]

ABSENT = -1
"""Marks a column that is not read. It is neither a code nor a token."""


def text_rows(ids: Sequence[int], codebooks: int) -> Tensor:
    """Token ids → rows [len(ids), codebooks + 1]."""
    rows = torch.full((len(ids), codebooks + 1), ABSENT)
    rows[:, -1] = torch.tensor(ids)
    return rows


def frame_rows(frames: Tensor) -> Tensor:
    """Codes [n, codebooks] → rows [n, codebooks + 1]."""
    return torch.nn.functional.pad(frames, (0, 1), value=ABSENT)


def sound_rows(frames: Tensor) -> Tensor:
    """The codes of a whole recording [n, codebooks] → its rows and the row of zeros that ends it."""
    return frame_rows(torch.nn.functional.pad(frames, (0, 0, 0, 1)))


def common(one: Tensor, other: Tensor) -> int:
    """How many rows two sequences have in common at their start."""
    shorter = min(len(one), len(other))
    differing = (one[:shorter] != other[:shorter]).any(dim=1).nonzero()
    return int(differing[0]) if len(differing) else shorter
