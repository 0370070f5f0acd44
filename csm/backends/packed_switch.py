"""Change the adapter of packed weights. The matrices that the old or the new adapter changes are packed again, in
place, from the model's own file. Packed weights are kept beside the adapter, so that the next time they are only
read."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor

from ..checkpoint.adapters import Adapter, base_reader
from ..errors import CheckpointError
from ..model import Csm, CsmConfig
from .quantize import (
    SCHEMES,
    Matrix,
    QuantizedCsm,
    head_matrices,
    keep_packed,
    layer_matrices,
    load_packed,
    packed_file,
)

__all__ = ["PackedSwitch"]

log = logging.getLogger("csm")


class PackedSwitch:
    """Does for a model on packed weights what `csm.checkpoint.adapters.AdapterSwitch` does.

    dtype: that of the model before packing, in which an adapter is merged. adapter: the one packed with the model now.
    """

    def __init__(
        self, model: QuantizedCsm, scheme: str, folder: Path, dtype: torch.dtype, adapter: Adapter | None = None
    ) -> None:
        self._model, self._scheme, self._folder, self._dtype, self._adapter = model, scheme, folder, dtype, adapter
        with torch.device("meta"):
            unpacked = Csm(model.config)
        self._shapes = {name: tuple(tensor.shape) for name, tensor in unpacked.state_dict().items()}
        self._base = base_reader(folder, unpacked)
        self._matrices = list(_matrices(model.config))

    @torch.no_grad()
    def prepared(self, adapter: Adapter | None) -> Callable[[], None]:
        """Pack what changes, and return a function that puts it into place.

        Raises CheckpointError for an adapter of another shape, or one that changes a tensor that is not packed.
        """
        nothing = Adapter({})
        old, new = self._adapter or nothing, adapter or nothing
        new.check(self._shapes)
        changed = old.tensors | new.tensors
        if unknown := changed - {part for matrix in self._matrices for part in matrix.parts}:
            raise CheckpointError(f"The adapter replaces {sorted(unknown)[0]}: reload the model with it.")

        file = self._file(adapter)
        kept = load_packed(file) if file is not None and file.exists() else None

        def packed(matrix: Matrix) -> Iterator[tuple[str, Tensor]]:
            if kept is None:
                return matrix.packed(partial(self._read, new), SCHEMES[self._scheme], self._model.packing)
            return ((name, kept[name]) for name in matrix.names)

        changes = {
            name: tensor
            for matrix in self._matrices
            if changed.intersection(matrix.parts)
            for name, tensor in packed(matrix)
        }
        if kept is None and file is not None:
            try:
                keep_packed(file, {**self._model.tensors, **changes}.items())
            except OSError as error:
                log.warning("The packed weights cannot be saved (%s), so they will be packed again each time.", error)
        return partial(self._put, adapter, changes)

    @torch.no_grad()
    def _put(self, adapter: Adapter | None, changes: Mapping[str, Tensor]) -> None:
        for name, tensor in changes.items():
            self._model.tensors[name].copy_(tensor)
        self._adapter = adapter

    def _read(self, adapter: Adapter, name: str) -> Tensor:
        return adapter.applied(name, self._base(name).to(self._dtype))

    def _file(self, adapter: Adapter | None) -> Path | None:
        """The file for an adapter's packed weights; None if the adapter has no folder."""
        if adapter is not None and adapter.folder is None:
            return None
        return packed_file(self._folder, self._scheme, self._model.packing, adapter.folder if adapter else None)


def _matrices(config: CsmConfig) -> Iterator[Matrix]:
    stacks = (("backbone", config.backbone), ("decoder", config.decoder))
    layers = (f"{name}.layers.{index}" for name, shape in stacks for index in range(shape.layers))
    yield from chain(head_matrices(config), *map(layer_matrices, layers))
