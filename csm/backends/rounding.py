"""Rounding weights to few bits, in groups that share a scale."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["BLOCK", "GROUP", "restore", "round_weight"]

BLOCK, GROUP = 16, 64
"""Outputs that lie side by side, and inputs that share a scale, as in cpu_matrix.h. PyTorch's int4 also uses 64."""


def round_weight(weight: Tensor, bits: int, group: int = GROUP) -> tuple[Tensor, Tensor]:
    """Weight [outputs, inputs] → signed codes int8 [outputs, groups, group], scales bfloat16 [outputs, groups].

    The last group is padded with zeros. With 4 bits the largest magnitude of a group becomes −8, with a negative scale
    if necessary, so that all 16 values are used. It is clipped slightly if that reduces the squared error.
    """
    groups = -(-weight.shape[1] // group)
    most = 2 ** (bits - 1)
    shares = (1.0, 0.92, 0.84, 0.76) if bits == 4 else (1.0,)
    codes = torch.empty(weight.shape[0], groups, group, dtype=torch.int8)
    scales = torch.empty(weight.shape[0], groups, dtype=torch.bfloat16)
    for start in range(0, len(weight), 256):  # few enough to stay in the processor's cache
        rows = slice(start, start + 256)
        part = F.pad(weight[rows].float(), (0, groups * group - weight.shape[1])).view(-1, groups, group)
        largest = part.gather(2, part.abs().argmax(dim=2, keepdim=True))
        full = -largest / most if bits == 4 else largest.abs() / (most - 1)
        best = torch.full_like(full, torch.inf)
        for share in shares:
            scale = (full * share).bfloat16()
            divisor = scale.float().where(scale != 0, 1)
            rounded = (part / divisor).round().clamp(-most if bits == 4 else 1 - most, most - 1)
            error = (rounded * divisor - part).square().sum(dim=2, keepdim=True)
            better = error < best
            best = error.where(better, best)
            first = share == shares[0]
            codes[rows] = rounded.to(torch.int8).where(better | first, codes[rows])
            scales[rows] = scale[..., 0].where((better | first)[..., 0], scales[rows])
    return codes, scales


def restore(codes: Tensor, scales: Tensor, inputs: int) -> Tensor:
    """The weight, float32 [outputs, inputs], that codes and scales of `round_weight` represent."""
    return (codes * scales.float()[..., None]).flatten(1)[:, :inputs]
