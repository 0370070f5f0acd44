"""Adapters: what fine-tuning changed in a model, stored separately (LoRA: Hu et al. 2021, arXiv 2106.09685).

A matrix W [out, in] becomes W + scale · B A, with A [r, in] and B [out, r]. A merged adapter does not slow speech down.
Names and the order of rows are the model's own (csm.model); adapter_formats.py reads and writes the files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from ..errors import CheckpointError
from ..model import Csm
from .checkpoint import Weights, find_weights

__all__ = ["Adapter", "AdapterSwitch", "LowRank", "Switch", "base_reader", "merge"]


@dataclass(frozen=True, eq=False)
class LowRank:
    """The update of one matrix: scale · b @ a, with a [r, in] and b [out, r].

    magnitude [out], if present, is the norm that each row then gets (DoRA: Liu et al. 2024, arXiv 2402.09353).
    """

    a: Tensor
    b: Tensor
    scale: float
    magnitude: Tensor | None = None

    @property
    def rank(self) -> int:
        return self.a.shape[0]

    @property
    def shape(self) -> tuple[int, int]:
        """The shape of the matrix."""
        return self.b.shape[0], self.a.shape[1]

    def merged(self, weight: Tensor) -> Tensor:
        """The matrix [out, in] with the adapter, computed in float32 and returned in its own dtype."""
        a, b = (part.to(weight.device, torch.float32) for part in (self.a, self.b))
        changed = torch.addmm(weight.float(), b, a, alpha=self.scale)
        if self.magnitude is not None:
            lengths = self.magnitude.to(weight.device, torch.float32) / changed.norm(dim=1)
            changed *= lengths[:, None]
        return changed.to(weight.dtype)


@dataclass(frozen=True, eq=False)
class Adapter:
    """`matrices` by their module's name (`backbone.layers.0.attn.q_proj`), and `whole` tensors by their own name
    (`audio_head`), which replace the model's. `described` is what else adapter_config.json says."""

    matrices: Mapping[str, LowRank]
    whole: Mapping[str, Tensor] = field(default_factory=dict)
    described: Mapping[str, object] = field(default_factory=dict)
    folder: Path | None = None
    """The folder it was read from."""

    @property
    def tensors(self) -> set[str]:
        """The names of the model's tensors that it changes."""
        return {f"{module}.weight" for module in self.matrices} | set(self.whole)

    def applied(self, name: str, base: Tensor) -> Tensor:
        """Return a tensor of the model with the adapter applied."""
        if (whole := self.whole.get(name)) is not None:
            return whole.to(base.device, base.dtype)
        matrix = self.matrices.get(name.removesuffix(".weight"))
        return base if matrix is None else matrix.merged(base)

    def check(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Raise CheckpointError if it was made for a model of another shape."""
        found: dict[str, tuple[int, ...]] = {
            f"{module}.weight": matrix.shape for module, matrix in self.matrices.items()
        }
        found |= {name: tuple(tensor.shape) for name, tensor in self.whole.items()}
        for name, shape in found.items():
            if name not in shapes:
                raise CheckpointError(f"The adapter changes {name}, but the model has no such tensor.")
            if shapes[name] != shape:
                raise CheckpointError(
                    f"The adapter is for another model: its {name} is {list(shape)}, the model's {list(shapes[name])}."
                )


def merge(model: Csm, adapter: Adapter) -> None:
    """Apply the adapter to the model's weights. Tensors mapped from a checkpoint's file are replaced, never written to.

    Raises CheckpointError for an adapter of another shape.
    """
    tensors = model.state_dict()
    adapter.check({name: tuple(tensor.shape) for name, tensor in tensors.items()})
    changed = {name: adapter.applied(name, tensors[name]) for name in adapter.tensors}
    model.load_state_dict(changed, strict=False, assign=True)
    model.requires_grad_(False)


class Switch(Protocol):
    """Changes a model's adapter without reloading the model."""

    def prepared(self, adapter: Adapter | None) -> Callable[[], None]:
        """Do the slow part, and return a function that then gives the model this adapter, or none.

        Raises CheckpointError for an adapter of another shape.
        """


class AdapterSwitch:
    """Changes a model's adapter in place, without reloading the model, so that its CUDA graphs stay valid.

    base: reads a tensor of the model as it is without an adapter.
    """

    def __init__(self, model: Csm, base: Callable[[str], Tensor], adapter: Adapter | None = None) -> None:
        self._model, self._base, self._adapter = model, base, adapter

    def prepared(self, adapter: Adapter | None) -> Callable[[], None]:
        """Only check it: merged weights are not kept twice. Raises CheckpointError for an adapter of another shape."""
        tensors = self._model.state_dict()
        (adapter or Adapter({})).check({name: tuple(tensor.shape) for name, tensor in tensors.items()})
        return partial(self._put, adapter, tensors)

    @torch.no_grad()
    def _put(self, adapter: Adapter | None, tensors: Mapping[str, Tensor]) -> None:
        nothing = Adapter({})
        old, new = self._adapter or nothing, adapter or nothing
        for name in sorted(old.tensors | new.tensors):
            base = self._base(name).to(tensors[name].device, tensors[name].dtype)
            tensors[name].copy_(new.applied(name, base))
        self._adapter = adapter


def base_reader(folder: Path, model: Csm) -> Callable[[str], Tensor]:
    """Return a function that rereads single tensors of a model from its checkpoint, in the model's order of rows."""
    weights: Weights = find_weights(folder)
    form, config = weights.format, model.config  # avoid a reference to the model itself
    assert form is not None

    def read(name: str) -> Tensor:
        stored = next(candidate for candidate in form.names(name) if candidate in weights)
        return form.from_disk(name, weights[stored], config)

    return read
