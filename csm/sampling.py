"""Choose a code from logits without transferring anything from the device to the host."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Chooser", "draw_noise", "sample"]


def draw_noise(shape: tuple[int, ...], generator: torch.Generator | None = None, out: Tensor | None = None) -> Tensor:
    """Draw from Exp(1), float32, in `shape` or into `out`: one draw for each logit to be sampled."""
    noise = torch.empty(shape, device=generator.device if generator else None) if out is None else out
    if noise.device.type != "cpu":
        return noise.exponential_(generator=generator)
    # Bit for bit what `exponential_` draws on a CPU, but faster: `exponential_` takes one logarithm at a time.
    uniform = torch.empty(noise.shape, dtype=torch.float64).uniform_(generator=generator)
    return noise.copy_(uniform.neg_().log1p_()).neg_()


def sample(
    logits: Tensor,
    temperature: float | Tensor,
    topk: int | Tensor,
    noise: Tensor | None = None,
    widest: int | None = None,
) -> Tensor:
    """Sample softmax(logits / temperature) over the `topk` largest logits [b, codes] → codes [b].

    With noise E ~ Exp(1) of the logits' shape, argmax(p / E) is distributed as p. Taking the logarithm and multiplying
    by the temperature leaves argmax(logits − temperature · log E), the Gumbel-max trick: no softmax, no division, and a
    temperature of 0 (a number, or a tensor [b, 1] on the device) is greedy. Sampling without noise is greedy, too.

    topk may also be a tensor int64 [b, 1] on the device; `widest` is then an upper bound of its values (default: their
    maximum, which is read from the device).
    """
    logits = logits.float()
    if noise is None:
        return logits.argmax(dim=-1)
    if isinstance(topk, Tensor):
        most = min(int(topk.max()) if widest is None else widest, logits.shape[-1])
        least = logits.topk(most, dim=-1).values.gather(-1, topk.clamp(max=most) - 1)
        logits = logits.masked_fill(logits < least, -torch.inf)
    elif topk < logits.shape[-1]:
        least = logits.topk(topk, dim=-1).values[..., -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    return (logits - temperature * noise.log()).argmax(dim=-1)


@dataclass(frozen=True, eq=False)
class Chooser:
    """`sample` for each codebook of a frame, each with its part of the noise [b, codebooks, codes]."""

    temperature: float | Tensor
    topk: int | Tensor
    noise: Tensor | None = None
    widest: int | None = None

    def __call__(self, logits: Tensor, codebook: int) -> Tensor:
        noise = None if self.noise is None else self.noise[:, codebook]
        return sample(logits, self.temperature, self.topk, noise, self.widest)
