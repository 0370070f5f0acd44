"""LoRA during training: two small matrices beside each chosen matrix, and only these are trained.

Hu et al. 2021 (arXiv 2106.09685), with peft's conventions: A is initialised at random and B with zeros, so that
training starts from the base model; their product is scaled by α / r. A and B are float32 even if the base is bfloat16,
because their updates are too small for its eight bits of precision.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..checkpoint.adapters import Adapter
from ..model import Csm

__all__ = ["EXTRAS", "LoraLinear", "LoraShape", "attach", "lora_modules"]

EXTRAS = ("projection", "codebook0_head", "audio_head")
"""What can be trained besides the seven matrices of each layer: the first two by LoRA, the last as a whole."""


@dataclass(frozen=True)
class LoraShape:
    """r and α; `extras` are from EXTRAS. Published training uses 32 and 32 (Unsloth) on all seven matrices."""

    rank: int = 32
    alpha: float = 32.0
    dropout: float = 0.0
    extras: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.rank < 1 or not self.alpha > 0 or not 0 <= self.dropout < 1:
            raise ValueError(f"rank is 1 or more, alpha above 0, dropout 0 to below 1; got {self}.")
        if odd := set(self.extras) - set(EXTRAS):
            raise ValueError(f"extras may be {', '.join(EXTRAS)}, not {', '.join(sorted(odd))}.")


class LoraLinear(nn.Module):
    """A frozen matrix `base` and the matrices trained beside it, `a` [r, in] and `b` [out, r]."""

    def __init__(self, base: nn.Linear, shape: LoraShape) -> None:
        super().__init__()
        self.base, self.scale = base, shape.alpha / shape.rank
        self.dropout = nn.Dropout(shape.dropout)
        device = base.weight.device
        self.a = nn.Parameter(torch.empty(shape.rank, base.in_features, device=device))
        self.b = nn.Parameter(torch.zeros(base.out_features, shape.rank, device=device))
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        added = F.linear(F.linear(self.dropout(x.float()), self.a), self.b) * self.scale
        out: Tensor = self.base(x) + added.to(x.dtype)
        return out


def attach(model: Csm, shape: LoraShape, adapter: Adapter | None = None) -> list[nn.Parameter]:
    """Add A and B to the chosen matrices, freeze the rest of the model, and return the parameters to train.

    adapter: initial values instead of B = 0; it must have the same shape. Raises ValueError if it does not.
    """
    model.requires_grad_(False)
    trained: list[nn.Parameter] = []
    for name in _targets(model, shape.extras):
        parent, _, last = name.rpartition(".")
        lora = LoraLinear(model.get_submodule(name), shape)  # type: ignore[arg-type]
        setattr(model.get_submodule(parent), last, lora)
        if adapter is not None:
            _begin_at(lora, name, adapter)
        trained += [lora.a, lora.b]
    if "audio_head" in shape.extras:
        model.audio_head = nn.Parameter(model.audio_head.detach().float().clone())
        trained.append(model.audio_head)
    return trained


def lora_modules(model: Csm) -> Iterable[tuple[str, LoraLinear]]:
    """Every module that has an A and a B, with its name."""
    return ((name, module) for name, module in model.named_modules() if isinstance(module, LoraLinear))


def _targets(model: Csm, extras: Sequence[str]) -> list[str]:
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    return [name for name in names if ".layers." in name or name in extras]


def _begin_at(lora: LoraLinear, name: str, adapter: Adapter) -> None:
    matrix = adapter.matrices.get(name)
    if matrix is None or matrix.a.shape != lora.a.shape or matrix.scale != lora.scale or matrix.magnitude is not None:
        raise ValueError(f"The adapter to begin with has another rank, alpha or choice of matrices (at {name}).")
    with torch.no_grad():
        lora.a.copy_(matrix.a)
        lora.b.copy_(matrix.b)
