"""Convert recordings to what the codec needs: mono, 24 kHz, float32."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..codec.protocol import SAMPLE_RATE
from ..errors import InvalidAudio

__all__ = ["SAMPLE_RATE", "as_mono"]

SILENCE = 1e-4
"""A recording that never rises above this (−80 dB) holds no voice."""


def as_mono(audio: Tensor | np.ndarray | None, sample_rate: int) -> Tensor:
    """`audio` ([samples], [channels, samples] or [samples, channels]; float, or int of any width) at `sample_rate` Hz →
    float32 [samples] at 24 kHz, on the host.

    Raises InvalidAudio if it is empty, silent, not finite, or not a recording.
    """
    if not isinstance(audio, torch.Tensor | np.ndarray):
        raise InvalidAudio(f"A recording is a tensor of samples, not {type(audio).__name__}.")
    samples = torch.as_tensor(audio).detach().cpu()
    if sample_rate <= 0:
        raise InvalidAudio(f"A recording's sample rate must be a number of samples per second, not {sample_rate}.")
    if samples.ndim not in (1, 2) or samples.is_complex():
        raise InvalidAudio(f"A recording has the shape [samples] or [channels, samples], not {list(samples.shape)}.")
    if samples.numel() == 0:
        raise InvalidAudio("The recording is empty (0 s).")
    scale = 1.0 if samples.is_floating_point() else 1.0 / (torch.iinfo(samples.dtype).max + 1)
    samples = samples.to(torch.float32) * scale
    if samples.ndim == 2:
        # There are fewer channels than samples, whichever comes first in the shape.
        samples = samples.mean(dim=0 if samples.shape[0] <= samples.shape[1] else 1)
    if not samples.isfinite().all():
        raise InvalidAudio("The recording contains values that are not numbers (NaN or infinity).")
    if samples.abs().max() < SILENCE:
        raise InvalidAudio("The recording is silent.")
    if sample_rate != SAMPLE_RATE:
        import soxr

        samples = torch.from_numpy(soxr.resample(samples.numpy(), sample_rate, SAMPLE_RATE))
    return samples.contiguous()
