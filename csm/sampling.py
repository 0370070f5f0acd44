"""Choosing a code from logits, without a word from the device to the host."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Chooser", "draw_noise", "sample"]


def draw_noise(shape: tuple[int, ...], generator: torch.Generator | None = None, out: Tensor | None = None) -> Tensor:
    """Draws from Exp(1), float32, in `shape` or into `out`: one draw for each logit that will be judged."""
    noise = torch.empty(shape, device=generator.device if generator else None) if out is None else out
    return noise.exponential_(generator=generator)


def sample(logits: Tensor, temperature: float | Tensor, topk: int, noise: Tensor | None = None) -> Tensor:
    """Samples softmax(logits / temperature) over the `topk` largest logits [b, codes] → codes [b].

    With noise E ~ Exp(1) of the logits' shape, argmax(p / E) is distributed as p. Taking the logarithm and multiplying
    by the temperature leaves argmax(logits − temperature · log E), the Gumbel-max trick: no softmax, no division, and a
    temperature of 0 (a number, or a tensor [b, 1] on the device) is greedy. Without noise it is greedy, too.
    """
    logits = logits.float()
    if noise is None:
        return logits.argmax(dim=-1)
    if topk < logits.shape[-1]:
        least = logits.topk(topk, dim=-1).values[..., -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    return (logits - temperature * noise.log()).argmax(dim=-1)


@dataclass(frozen=True, eq=False)
class Chooser:
    """`sample` for each codebook of a frame in turn, with its part of the noise [b, codebooks, codes]."""

    temperature: float | Tensor
    topk: int
    noise: Tensor | None = None

    def __call__(self, logits: Tensor, codebook: int) -> Tensor:
        return sample(logits, self.temperature, self.topk, None if self.noise is None else self.noise[:, codebook])
