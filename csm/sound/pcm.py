"""Sound as 16-bit samples, which is what pipes, wires and files take."""

from __future__ import annotations

import torch
from torch import Tensor


def to_pcm16(samples: Tensor) -> bytes:
    """Little-endian; rounded to the nearest, and what is louder than 1 is cut there. `samples`: any shape, float."""
    rounded = (samples.detach().float().clamp(-1, 1) * 32767).round().to(torch.int16)
    return rounded.cpu().numpy().astype("<i2").tobytes()
