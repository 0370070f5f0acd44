"""CSM in MLX: what csm/model.py computes, on weights as they are or packed into 8 or 4 bits.

Matrices with the same input are joined, as in csm/backends/quantize.py, so that a frame needs fewer kernels. Embeddings
keep their dtype. Everything here only builds the computation and reads nothing back from the device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import mlx.core as mx
import mlx.nn as nn
import torch
from mlx.utils import tree_unflatten
from torch import Tensor

from ...model import CsmConfig, TransformerConfig, rope_frequencies
from ..rounding import GROUP
from .arrays import to_mlx

__all__ = ["Attend", "Choose", "CsmArrays", "converted", "put", "weights_of"]

Attend = Callable[[int, mx.array, mx.array, mx.array], mx.array]
"""Stores a layer's new keys and values [b, kv_heads, n, d], and returns the attention of queries [b, heads, n, d] over
all stored ones."""
Choose = Callable[[mx.array, int], mx.array]
"""Chooses codes [b] of a codebook from its logits [b, codes]."""


class Attention(nn.Module):
    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = config.heads, config.kv_heads, config.head_dim
        self.qkv = nn.Linear(config.dim, (config.heads + 2 * config.kv_heads) * config.head_dim, bias=False)
        self.output = nn.Linear(config.heads * config.head_dim, config.dim, bias=False)
        self._periods = to_mlx(1 / rope_frequencies(config))  # the underscore keeps it from being a weight

    def __call__(self, x: mx.array, layer: int, offset: int | mx.array, attend: Attend) -> mx.array:
        batch, count, _ = x.shape
        heads, kv_heads = self.heads, self.kv_heads
        parts = self.qkv(x).reshape(batch, count, heads + 2 * kv_heads, self.head_dim).transpose(0, 2, 1, 3)
        turned = mx.fast.rope(
            parts[:, : heads + kv_heads],
            self.head_dim,
            traditional=True,  # pairs lie side by side
            base=None,
            scale=1.0,
            offset=offset,
            freqs=self._periods,
        )
        heard = attend(layer, turned[:, :heads], turned[:, heads:], parts[:, heads + kv_heads :])
        out: mx.array = self.output(heard.transpose(0, 2, 1, 3).reshape(batch, count, -1))
        return out


class FeedForward(nn.Module):
    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.gate_up = nn.Linear(config.dim, 2 * config.ffn, bias=False)
        self.down = nn.Linear(config.ffn, config.dim, bias=False)

    def __call__(self, x: mx.array) -> mx.array:
        gate, up = mx.split(self.gate_up(x), 2, axis=-1)
        out: mx.array = self.down(gate * mx.sigmoid(gate) * up)
        return out


class LayerArrays(nn.Module):
    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.sa_norm, self.mlp_norm = (nn.RMSNorm(config.dim, config.norm_eps) for _ in range(2))
        self.attn, self.mlp = Attention(config), FeedForward(config)

    def __call__(self, x: mx.array, layer: int, offset: int | mx.array, attend: Attend) -> mx.array:
        x = x + self.attn(self.sa_norm(x), layer, offset, attend)
        out: mx.array = x + self.mlp(self.mlp_norm(x))
        return out


class StackArrays(nn.Module):
    """A stack of layers and a final norm."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.layers = [LayerArrays(config) for _ in range(config.layers)]
        self.norm = nn.RMSNorm(config.dim, config.norm_eps)

    def __call__(self, x: mx.array, offset: int | mx.array, attend: Attend) -> mx.array:
        """x [b, n, dim], whose first rows are at position `offset` (one for all, or int32 [b]) → hidden states."""
        for number, layer in enumerate(self.layers):
            x = layer(x, number, offset, attend)
        out: mx.array = self.norm(x)
        return out


class CsmArrays(nn.Module):
    """The whole model, like `csm.model.Csm`: `hear` reads rows, `frame` makes the next frame, `advance` reads it."""

    def __init__(self, config: CsmConfig) -> None:
        super().__init__()
        backbone, decoder, vocabulary = config.backbone, config.decoder, config.audio_vocab_size
        self.text_embeddings = nn.Embedding(config.text_vocab_size, backbone.dim)
        self.audio_embeddings = nn.Embedding(config.audio_codebooks * vocabulary, backbone.dim)
        self.backbone, self.decoder = StackArrays(backbone), StackArrays(decoder)
        self.projection = nn.Linear(backbone.dim, decoder.dim, bias=False)
        self.codebook0_head = nn.Linear(backbone.dim, vocabulary, bias=False)
        self.audio_heads = [nn.Linear(decoder.dim, vocabulary, bias=False) for _ in range(config.audio_codebooks - 1)]
        self._config = config
        self._shift = mx.arange(config.audio_codebooks) * vocabulary

    def hear(self, rows: mx.array, offset: int, attend: Attend) -> mx.array:
        """Rows int32 [1, n, codebooks + 1], whose columns below 0 are ignored → hidden states [1, n, dim]."""
        heard, known = (rows >= 0)[..., None], mx.maximum(rows, 0)
        sound = mx.where(heard[..., :-1, :], self.audio_embeddings(known[..., :-1] + self._shift), 0)
        text = mx.where(heard[..., -1, :], self.text_embeddings(known[..., -1]), 0)
        return self.backbone(text + _sum(sound), offset, attend)

    def advance(self, codes: mx.array, positions: mx.array, attend: Attend) -> mx.array:
        """Read one frame, codes [b, codebooks] at positions int32 [b] → the hidden state [b, dim] after it."""
        return self.backbone(_sum(self.audio_embeddings(codes + self._shift))[:, None], positions, attend)[:, 0]

    def frame(self, hidden: mx.array, choose: Choose) -> mx.array:
        """The frame that follows hidden [b, dim]: codes int32 [b, codebooks]."""
        config = self._config
        attend = Growing(config.decoder.head_dim**-0.5)
        codes = [choose(self.codebook0_head(hidden)[:, : config.codes], 0)]
        x = mx.stack([hidden, self.audio_embeddings(codes[0])], axis=1)
        offset = 0
        for codebook, head in enumerate(self.audio_heads, 1):
            depth = self.decoder(self.projection(x), offset, attend)[:, -1]
            codes.append(choose(head(depth)[:, : config.codes], codebook))
            offset += x.shape[1]
            # The shift is read from an array: as a constant it would create a separate kernel for every codebook.
            x = self.audio_embeddings(codes[-1] + self._shift[codebook])[:, None]
        return mx.stack(codes, axis=-1)


class Growing:
    """The depth decoder's keys and values of one frame, which grow with each row."""

    def __init__(self, scale: float) -> None:
        self._scale = scale
        self._kept: dict[int, tuple[mx.array, mx.array]] = {}

    def __call__(self, layer: int, queries: mx.array, keys: mx.array, values: mx.array) -> mx.array:
        if layer in self._kept:
            before, those = self._kept[layer]
            keys, values = mx.concatenate([before, keys], axis=2), mx.concatenate([those, values], axis=2)
        self._kept[layer] = keys, values
        mask = "causal" if queries.shape[2] > 1 else None
        return mx.fast.scaled_dot_product_attention(queries, keys, values, scale=self._scale, mask=mask)


def _sum(embeddings: mx.array) -> mx.array:
    """Sum over the codebooks of [..., codebooks, dim], in float32."""
    return embeddings.astype(mx.float32).sum(axis=-2).astype(embeddings.dtype)


def weights_of(config: CsmConfig) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """How tensors of a `csm.model.Csm` map to those of a `CsmArrays`: groups of names, there and here."""
    for name in ("text_embeddings", "audio_embeddings", "projection", "codebook0_head"):
        yield (f"{name}.weight",), (f"{name}.weight",)
    yield ("audio_head",), tuple(f"audio_heads.{number}.weight" for number in range(config.audio_codebooks - 1))
    for stack, shape in (("backbone", config.backbone), ("decoder", config.decoder)):
        yield (f"{stack}.norm.scale",), (f"{stack}.norm.weight",)
        for layer in (f"{stack}.layers.{number}" for number in range(shape.layers)):
            for norm in ("sa_norm", "mlp_norm"):
                yield (f"{layer}.{norm}.scale",), (f"{layer}.{norm}.weight",)
            for ours, theirs in JOINED.items():
                yield tuple(f"{layer}.{part}.weight" for part in theirs), (f"{layer}.{ours}.weight",)


JOINED = {
    "attn.qkv": ("attn.q_proj", "attn.k_proj", "attn.v_proj"),
    "attn.output": ("attn.output_proj",),
    "mlp.gate_up": ("mlp.w1", "mlp.w3"),
    "mlp.down": ("mlp.w2",),
}


def converted(tensors: Sequence[Tensor], names: Sequence[str]) -> Iterator[tuple[str, mx.array]]:
    """Convert a group of `weights_of`: join several tensors row-wise, or split one into several."""
    if len(names) > 1:
        yield from ((name, to_mlx(head.T)) for name, head in zip(names, tensors[0], strict=True))
    else:
        yield names[0], to_mlx(tensors[0] if len(tensors) == 1 else torch.cat(list(tensors)))


def put(model: CsmArrays, name: str, weight: mx.array, bits: int | None) -> None:
    """Set a weight by its name. If `bits` is given, matrices are rounded to it, in groups of 64 inputs.

    Projection and heads keep 8 bits, because they are a hundredth of what is read and affect the choice of a code most
    directly. Embeddings and norms keep their dtype, and so does a matrix whose inputs are not a multiple of 64.
    """
    path = name.removesuffix(".weight")
    if bits is None or path.endswith(("embeddings", "norm")) or weight.shape[-1] % GROUP:
        model.update(tree_unflatten([(name, weight)]))
        mx.eval(weight)
        return
    plain = nn.Linear(1, 1, bias=False)
    plain.weight = weight
    packed = nn.QuantizedLinear.from_linear(plain, GROUP, bits if path.startswith(("backbone", "decoder")) else 8)
    model.update_modules(tree_unflatten([(path, packed)]))
    mx.eval(packed.parameters())
