"""Sound as 16-bit samples, which pipes, sockets and files need."""

from __future__ import annotations

import torch
from torch import Tensor


def to_pcm16(samples: Tensor) -> bytes:
    """Convert float samples of any shape to little-endian bytes: clipped to ±1 and rounded to the nearest."""
    rounded = (samples.detach().float().clamp(-1, 1) * 32767).round().to(torch.int16)
    return rounded.cpu().numpy().astype("<i2").tobytes()
