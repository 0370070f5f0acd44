"""Keys and values of the backbone as MLX arrays: one list of arrays per sequence."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import mlx.core as mx

from ...model import TransformerConfig

__all__ = ["Memory", "Stepping"]


class Memory:
    """Keys and values of one sequence, [1, kv_heads, rows, head_dim] for each layer."""

    def __init__(self, config: TransformerConfig, rows: int, dtype: mx.Dtype) -> None:
        self._scale = config.head_dim**-0.5
        self.keys, self.values = (
            [mx.zeros((1, config.kv_heads, rows, config.head_dim), dtype) for _ in range(config.layers)]
            for _ in range(2)
        )

    @property
    def rows(self) -> int:
        return int(self.keys[0].shape[2])

    @property
    def arrays(self) -> list[mx.array]:
        return [*self.keys, *self.values]

    def take(self, arrays: Sequence[mx.array]) -> None:
        """Replace its arrays."""
        self.keys, self.values = list(arrays[: len(self.keys)]), list(arrays[len(self.keys) :])

    def grow(self, rows: int) -> None:
        """Extend it to at least that many rows."""
        if (missing := rows - self.rows) > 0:
            self.take([mx.pad(array, [(0, 0), (0, 0), (0, missing), (0, 0)]) for array in self.arrays])

    def hearing(self, first: int, last: int) -> Callable[[int, mx.array, mx.array, mx.array], mx.array]:
        """Attention of rows first..last-1, which are stored, over all rows up to their own."""

        def attend(layer: int, queries: mx.array, keys: mx.array, values: mx.array) -> mx.array:
            self.keys[layer][:, :, first:last] = keys
            self.values[layer][:, :, first:last] = values
            known = self.keys[layer][:, :, :last], self.values[layer][:, :, :last]
            return mx.fast.scaled_dot_product_attention(queries, *known, scale=self._scale, mask="causal")

        return attend


class Stepping:
    """Attention of one new row for each of several sequences, over their own arrays (one list per sequence)."""

    def __init__(self, config: TransformerConfig, memories: Sequence[list[mx.array]], positions: mx.array) -> None:
        self._layers, self._scale = config.layers, config.head_dim**-0.5
        self.memories = [list(arrays) for arrays in memories]
        self._at = [positions[index : index + 1] for index in range(len(memories))]
        reached = mx.arange(memories[0][0].shape[2])
        self._masks = [(reached <= at)[None, None, None] for at in self._at]

    def __call__(self, layer: int, queries: mx.array, keys: mx.array, values: mx.array) -> mx.array:
        heard = []
        for index, memory in enumerate(self.memories):
            one = slice(index, index + 1)
            for at, new in ((layer, keys), (self._layers + layer, values)):
                memory[at] = mx.slice_update(memory[at], new[one], self._at[index], axes=[2])
            known = memory[layer], memory[self._layers + layer]
            mask = self._masks[index]
            heard.append(mx.fast.scaled_dot_product_attention(queries[one], *known, scale=self._scale, mask=mask))
        return heard[0] if len(heard) == 1 else mx.concatenate(heard)
