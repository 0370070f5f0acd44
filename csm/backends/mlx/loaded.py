"""A CSM on MLX arrays: converted from PyTorch's model, packed, with its steps traced."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import mlx.core as mx
import torch
from torch import Tensor

from ...checkpoint.adapters import Adapter
from ...model import Csm, CsmConfig
from ..quantize import SCHEMES
from .arrays import DTYPES
from .memory import Stepping
from .model import CsmArrays, converted, put, weights_of
from .thread import ComputeThread

__all__ = ["CsmMlx", "MlxAdapterSwitch"]

Arrays = list[mx.array]


class CsmMlx:
    """The speech model on MLX's device: the GPU of Apple silicon, or on other machines the CPU.

    quantize: "int8" or "int4"; None leaves the weights as they are.
    compiled: whether a step is traced once and then run as one. By default only on a GPU: on a CPU, MLX calls a C++
        compiler at run time.

    Raises ValueError for another scheme.
    """

    device = torch.device("cpu")
    """The device of inputs and outputs."""

    def __init__(
        self,
        config: CsmConfig,
        tensors: dict[str, Tensor],
        quantize: str | None = None,
        *,
        thread: ComputeThread,
        compiled: bool | None = None,
    ) -> None:
        """tensors: those of a `csm.model.Csm`, removed one by one, so that two models are never in memory."""
        if quantize is not None and quantize not in SCHEMES:
            raise ValueError(f"quantize must be one of {', '.join(map(repr, SCHEMES))}, not {quantize!r}.")
        self.config, self.thread, self.bits = config, thread, SCHEMES.get(quantize or "")
        self.kind = tensors["audio_embeddings.weight"].dtype
        self.dtype = DTYPES[self.kind]
        self.stages: defaultdict[str, list[float]] | None = None
        """If set, each stage is waited for, and the seconds it took are added."""
        self.on_gpu = bool(mx.default_device() == mx.gpu)
        self.compiled = self.on_gpu if compiled is None else compiled
        self.arrays = thread.run(self._take, tensors)
        self._trace()

    @classmethod
    def of(cls, model: Csm, quantize: str | None = None, *, compiled: bool | None = None) -> CsmMlx:
        """Return the same model in MLX; PyTorch's stays as it is."""
        return cls(model.config, model.state_dict(), quantize, thread=ComputeThread(), compiled=compiled)

    @contextmanager
    def stage(self, name: str) -> Iterator[Callable[..., None]]:
        """Measure a part of the work; call the yielded function with the arrays it made."""
        if self.stages is None:
            yield lambda *made: None
            return
        begun = time.perf_counter()
        yield mx.eval
        self.stages[name].append(time.perf_counter() - begun)

    def advance(self, codes: mx.array, positions: mx.array, held: list[Arrays]) -> tuple[mx.array, list[Arrays]]:
        """Read a frame in each sequence, codes [b, codebooks] at positions [b] → hidden [b, dim], and all arrays."""
        hidden, arrays = self._advance(codes, positions, held)
        return hidden, arrays

    def frame(self, hidden: mx.array, temperature: mx.array, topk: mx.array, noise: mx.array | None) -> mx.array:
        """Codes [b, codebooks] that follow hidden [b, dim], chosen as `csm.sampling.Chooser` does."""
        return self._likeliest(hidden) if noise is None else self._drawn(hidden, temperature, topk, noise)

    def put(self, read: Callable[[str], Tensor], changed: Callable[[str], bool]) -> None:
        """Convert again the weights made from tensors that have changed."""
        self.thread.run(self._put, self.arrays, read, changed)
        self._trace()

    def _take(self, tensors: dict[str, Tensor]) -> CsmArrays:
        arrays = CsmArrays(self.config)
        self._put(arrays, tensors.pop, lambda name: True)
        return arrays

    def _put(self, arrays: CsmArrays, read: Callable[[str], Tensor], changed: Callable[[str], bool]) -> None:
        for theirs, ours in weights_of(self.config):
            if any(map(changed, theirs)):
                for name, weight in converted([read(name) for name in theirs], ours):
                    put(arrays, name, weight, self.bits)
        mx.clear_cache()

    def _trace(self) -> None:
        arrays, config = self.arrays, self.config

        def advance(codes: mx.array, positions: mx.array, held: list[Arrays]) -> tuple[mx.array, list[Arrays]]:
            attend = Stepping(config.backbone, held, positions)
            return arrays.advance(codes, positions, attend), attend.memories

        def likeliest(hidden: mx.array) -> mx.array:
            return arrays.frame(hidden, lambda logits, _: logits.argmax(axis=-1))

        def drawn(hidden: mx.array, temperature: mx.array, topk: mx.array, noise: mx.array) -> mx.array:
            return arrays.frame(hidden, lambda logits, codebook: draw(logits, temperature, topk, noise[:, codebook]))

        prepare: Callable[..., Callable[..., mx.array]] = mx.compile if self.compiled else lambda step: step
        self._advance, self._likeliest, self._drawn = prepare(advance), prepare(likeliest), prepare(drawn)


class MlxAdapterSwitch:
    """Does in MLX what `csm.checkpoint.adapters.AdapterSwitch` does; packed weights are packed again.

    base: reads a tensor of the model as it is without an adapter.
    """

    def __init__(self, model: CsmMlx, base: Callable[[str], Tensor], adapter: Adapter | None = None) -> None:
        self._model, self._base, self._adapter = model, base, adapter

    def prepared(self, adapter: Adapter | None) -> Callable[[], None]:
        """Prepare nothing, because the whole change is quick in MLX."""
        return partial(self._put, adapter)

    def _put(self, adapter: Adapter | None) -> None:
        nothing = Adapter({})
        old, new = self._adapter or nothing, adapter or nothing
        changed = old.tensors | new.tensors
        self._model.put(lambda name: new.applied(name, self._base(name).to(self._model.kind)), changed.__contains__)
        self._adapter = adapter


def draw(logits: mx.array, temperature: mx.array, topk: mx.array, noise: mx.array) -> mx.array:
    """What `csm.sampling.sample` draws with the same noise: codes [b] from logits and noise [b, codes]."""
    logits = logits.astype(mx.float32)
    count = logits.shape[-1]
    least = mx.take_along_axis(mx.sort(logits, axis=-1), count - mx.minimum(topk, count), axis=-1)
    return (mx.where(logits < least, -mx.inf, logits) - temperature * mx.log(noise)).argmax(axis=-1)
