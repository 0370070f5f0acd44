"""CSM: a backbone that reads rows of text and sound, and a depth decoder that generates one frame.

This module holds only the mathematics. Keys and values live in a static `KeyValueCache` that the caller allocates and
passes in; positions are tensors; nothing here reads a value back from the device. So every step can be captured in a
CUDA graph, compiled, or run eagerly. `hidden_states` and `depth_logits` use no cache and are differentiable.

Modules have the names of the original checkpoint (SesameAILabs/csm, built there from torchtune's Llama 3.2), so that
its tensors load by name. In shapes, b = batch, n = rows given, h = heads, d = dimension.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = [
    "Csm",
    "CsmConfig",
    "KeyValueCache",
    "RopeScaling",
    "TransformerConfig",
    "Where",
    "causal_mask",
    "rope_frequencies",
]

Where = Tensor | slice
"""The positions of rows in a sequence: int64 [b, n], separate for each row of the batch, or one slice for all rows."""


@dataclass(frozen=True)
class RopeScaling:
    """Llama 3.1's stretching of the slow rotary frequencies (meta-llama/llama-models, `apply_scaling`)."""

    factor: float = 32.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_context: int = 8192


@dataclass(frozen=True)
class TransformerConfig:
    """Shape of one Llama-like stack. `context` is the number of positions it was trained for."""

    layers: int
    heads: int
    kv_heads: int
    dim: int
    ffn: int
    context: int
    norm_eps: float = 1e-5
    rope_theta: float = 500_000.0
    rope_scaling: RopeScaling | None = RopeScaling()

    @property
    def head_dim(self) -> int:
        return self.dim // self.heads


@dataclass(frozen=True)
class CsmConfig:
    """Shape of a whole model. The codec uses `audio_vocab_size - 3` codes: the last three ids are never spoken."""

    backbone: TransformerConfig
    decoder: TransformerConfig
    text_vocab_size: int
    audio_vocab_size: int
    audio_codebooks: int

    @property
    def codes(self) -> int:
        """Codes in one codebook of the codec: 2048 of the 2051 ids."""
        return self.audio_vocab_size - 3

    @classmethod
    def csm_1b(cls) -> CsmConfig:
        """The published model: a backbone of 1B parameters (Llama 3.2's shape) and a depth decoder of 100M."""
        return cls(
            backbone=TransformerConfig(layers=16, heads=32, kv_heads=8, dim=2048, ffn=8192, context=2048),
            decoder=TransformerConfig(layers=4, heads=8, kv_heads=2, dim=1024, ffn=8192, context=33),
            text_vocab_size=128_256,
            audio_vocab_size=2051,
            audio_codebooks=32,
        )


def rope_frequencies(config: TransformerConfig) -> Tensor:
    """How fast each pair turns, in radians per position: float32 [head_dim / 2]."""
    frequencies = config.rope_theta ** (-torch.arange(0, config.head_dim, 2, dtype=torch.float32) / config.head_dim)
    if (scaling := config.rope_scaling) is not None:
        # Frequencies that turn fewer than `low` times within the original context are divided by `factor`, those that
        # turn more than `high` times are kept, and between the two the change is gradual.
        turns = scaling.original_context * frequencies / (2 * math.pi)
        low, high = scaling.low_freq_factor, scaling.high_freq_factor
        kept = ((turns - low) / (high - low)).clamp(0, 1)
        frequencies = frequencies * (kept + (1 - kept) / scaling.factor)
    return frequencies


def rope_table(config: TransformerConfig, length: int, device: torch.device | str | None = None) -> Tensor:
    """The rotations e^(i · position · frequency), complex64 [length, head_dim / 2]."""
    angles = torch.outer(torch.arange(length, dtype=torch.float32), rope_frequencies(config))
    return torch.polar(torch.ones_like(angles), angles).to(device)


def rotate(x: Tensor, rope: Tensor) -> Tensor:
    """Rotate neighbouring pairs of x [b, n, h, d] by rope [n, d/2] or [b, n, d/2], in float32 as Llama does."""
    pairs = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * rope.unsqueeze(-2)).flatten(-2).type_as(x)


def causal_mask(where: Where, length: int, device: torch.device | None = None) -> Tensor:
    """Which of `length` cached positions each row may attend to: bool [b or 1, 1, n, length]."""
    if isinstance(where, slice):
        where = torch.arange(where.start, where.stop, device=device)[None]
    return (torch.arange(length, device=where.device) <= where[..., None])[:, None]


class KeyValueCache:
    """Keys and values of one stack, allocated once: [layers, 2, batch, kv_heads, length, head_dim].

    It also holds the rotations of its positions, so that the model itself consists of weights only. Entries beyond a
    row's position are never read: a prompt may be padded on the right, and moving the position back truncates a
    sequence.
    """

    def __init__(
        self,
        config: TransformerConfig,
        batch: int = 1,
        length: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        length = length or config.context
        shape = (config.layers, 2, batch, config.kv_heads, length, config.head_dim)
        self.tensor = torch.zeros(shape, device=device, dtype=dtype)
        self.rope = rope_table(config, length, device)
        self.sequences: Tensor | None = None
        """The sequences that rows belong to, if not all sequences in order: int64 [b]."""

    @property
    def length(self) -> int:
        return self.tensor.shape[4]

    def prefix(self, length: int) -> KeyValueCache:
        """The same memory up to `length`, so that attention reads no further. A view: nothing is copied."""
        return self._view(self.tensor[:, :, :, :, :length], self.sequences)

    def rows(self, first: int, last: int) -> KeyValueCache:
        """The same memory for the sequences first..last-1 of the batch. A view."""
        return self._view(self.tensor[:, :, first:last], None)

    def of(self, sequences: Tensor) -> KeyValueCache:
        """The same memory for some sequences, int64 [b], in any order. A view; attention reads a copy of its part."""
        return self._view(self.tensor, sequences)

    def _view(self, tensor: Tensor, sequences: Tensor | None) -> KeyValueCache:
        view = object.__new__(KeyValueCache)
        view.tensor, view.rope, view.sequences = tensor, self.rope, sequences
        return view

    def write(self, layer: int, where: Where, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store keys and values [b, n, kv_heads, d]; return all of the layer's, [b, kv_heads, length, d]."""
        cached_keys, cached_values = self.tensor[layer].unbind()
        if self.sequences is not None:
            assert not isinstance(where, slice), "sequences of their own are at positions of their own"
            cached_keys[self.sequences[:, None], :, where] = keys
            cached_values[self.sequences[:, None], :, where] = values
            return cached_keys[self.sequences], cached_values[self.sequences]
        if isinstance(where, slice):
            cached_keys[:, :, where] = keys.transpose(1, 2)
            cached_values[:, :, where] = values.transpose(1, 2)
        else:
            batch = torch.arange(where.shape[0], device=where.device)[:, None]
            cached_keys[batch, :, where] = keys
            cached_values[batch, :, where] = values
        return cached_keys, cached_values


class Norm(nn.Module):
    """RMSNorm."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(dim))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, x.shape[-1:], self.scale, self.eps)


class Attention(nn.Module):
    """Grouped-query attention with rotary positions."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = config.heads, config.kv_heads, config.head_dim
        self.q_proj = nn.Linear(config.dim, config.heads * config.head_dim, bias=False)
        self.k_proj = nn.Linear(config.dim, config.kv_heads * config.head_dim, bias=False)
        self.v_proj = nn.Linear(config.dim, config.kv_heads * config.head_dim, bias=False)
        self.output_proj = nn.Linear(config.heads * config.head_dim, config.dim, bias=False)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, [b, n, heads · d] each."""
        return self.q_proj(x), self.k_proj(x), self.v_proj(x)

    def forward(
        self, x: Tensor, layer: int, where: Where, rope: Tensor, mask: Tensor | None, cache: KeyValueCache | None
    ) -> Tensor:
        queries, keys, values = (part.view(*x.shape[:2], -1, self.head_dim) for part in self.project(x))
        queries, keys = rotate(queries, rope).transpose(1, 2), rotate(keys, rope)
        if cache is None:
            keys, values = keys.transpose(1, 2), values.transpose(1, 2)
        else:
            keys, values = cache.write(layer, where, keys, values)
        if x.shape[1] == 1:
            # Heads that share keys become rows of one matrix, so that keys are read once for all of them.
            grouped = queries.reshape(len(x), self.kv_heads, -1, self.head_dim)
            heard = F.scaled_dot_product_attention(grouped, keys, values, mask).reshape(queries.shape)
        else:
            heard = F.scaled_dot_product_attention(queries, keys, values, mask, enable_gqa=self.heads != self.kv_heads)
        out: Tensor = self.output_proj(heard.transpose(1, 2).flatten(2))
        return out


class FeedForward(nn.Module):
    """SwiGLU: w1 is the gate, w3 the up projection, w2 the down projection."""

    def __init__(self, dim: int, ffn: int) -> None:
        super().__init__()
        self.w1 = nn.Linear(dim, ffn, bias=False)
        self.w2 = nn.Linear(ffn, dim, bias=False)
        self.w3 = nn.Linear(dim, ffn, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.w2(F.silu(self.w1(x)) * self.w3(x))
        return out


class Layer(nn.Module):
    """Attention, then feed-forward; each reads the normed stream and is added to it."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.sa_norm = Norm(config.dim, config.norm_eps)
        self.attn = Attention(config)
        self.mlp_norm = Norm(config.dim, config.norm_eps)
        self.mlp = FeedForward(config.dim, config.ffn)

    def forward(
        self, x: Tensor, layer: int, where: Where, rope: Tensor, mask: Tensor | None, cache: KeyValueCache | None
    ) -> Tensor:
        x = x + self.attn(self.sa_norm(x), layer, where, rope, mask, cache)
        out: Tensor = x + self.mlp(self.mlp_norm(x))
        return out


class Transformer(nn.Module):
    """A stack of layers and a final norm."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.norm = Norm(config.dim, config.norm_eps)

    def forward(self, x: Tensor, where: Where, mask: Tensor | None, cache: KeyValueCache) -> Tensor:
        """x [b, n, dim] at the positions `where` → normed hidden states [b, n, dim]; the cache has grown by n."""
        return self._run(x, where, cache.rope[where], mask, cache)

    def whole(self, x: Tensor) -> Tensor:
        """Whole sequences x [b, n, dim] from their first position on → normed hidden states [b, n, dim].

        It uses no cache, because writing to one in place cannot be differentiated.
        """
        where = slice(0, x.shape[1])
        rope = rope_table(self.config, x.shape[1], x.device)
        return self._run(x, where, rope, causal_mask(where, x.shape[1], x.device), None)

    def _run(self, x: Tensor, where: Where, rope: Tensor, mask: Tensor | None, cache: KeyValueCache | None) -> Tensor:
        for index, layer in enumerate(self.layers):
            x = layer(x, index, where, rope, mask, cache)
        out: Tensor = self.norm(x)
        return out


class Csm(nn.Module):
    """The whole model. `prefill` reads rows, `frame` generates the next frame, `advance` reads that frame.

    The caller supplies `choose(logits [b, codes], codebook) → codes [b]`, which never sees the three ids that are not
    codes. An utterance is computed as follows:

        hidden = csm.prefill(rows, mask, where, cache)[:, -1]
        while …:
            codes = csm.frame(hidden, depth_cache, choose)
            hidden = csm.advance(codes, positions, cache)
    """

    def __init__(self, config: CsmConfig) -> None:
        super().__init__()
        self.config = config
        backbone, decoder = config.backbone, config.decoder
        self.text_embeddings = nn.Embedding(config.text_vocab_size, backbone.dim)
        self.audio_embeddings = nn.Embedding(config.audio_codebooks * config.audio_vocab_size, backbone.dim)
        self.backbone = Transformer(backbone)
        self.decoder = Transformer(decoder)
        self.projection = nn.Linear(backbone.dim, decoder.dim, bias=False)
        self.codebook0_head = nn.Linear(backbone.dim, config.audio_vocab_size, bias=False)
        self.audio_head = nn.Parameter(torch.empty(config.audio_codebooks - 1, decoder.dim, config.audio_vocab_size))
        nn.init.normal_(self.audio_head, std=0.02)

    @property
    def device(self) -> torch.device:
        return self.audio_embeddings.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of activations, keys and values, however the weights are packed."""
        return self.audio_embeddings.weight.dtype

    def cache(self, batch: int = 1, length: int | None = None) -> KeyValueCache:
        """Keys and values for the backbone, on this model's device."""
        return KeyValueCache(self.config.backbone, batch, length, self.device, self.dtype)

    def depth_cache(self, batch: int = 1) -> KeyValueCache:
        """Keys and values for the depth decoder: those of one frame, overwritten by the next."""
        return KeyValueCache(self.config.decoder, batch, self.config.audio_codebooks, self.device, self.dtype)

    def shift(self, device: torch.device) -> Tensor:
        """Where each codebook's rows begin in the audio embeddings: int64 [codebooks]."""
        return torch.arange(self.config.audio_codebooks, device=device) * self.config.audio_vocab_size

    def embed_codes(self, codes: Tensor) -> Tensor:
        """One frame's codes [b, codebooks] → the sum of their embeddings [b, dim]."""
        out: Tensor = self.audio_embeddings(codes + self.shift(codes.device)).sum(dim=-2)
        return out

    def embed(self, rows: Tensor, mask: Tensor) -> Tensor:
        """Rows [b, n, codebooks + 1], audio columns first and text last → the sum over their masked columns."""
        text: Tensor = self.text_embeddings(rows[..., -1]) * mask[..., -1:]
        # embedding_bag sums the columns as it reads them, so the 33 embeddings per row of a long prompt are never all
        # in memory.
        codes, heard = (rows[..., :-1] + self.shift(rows.device)).flatten(0, 1), mask[..., :-1].flatten(0, 1)
        weight = self.audio_embeddings.weight
        sound = F.embedding_bag(codes, weight, mode="sum", per_sample_weights=heard.to(weight.dtype))
        return text + sound.view_as(text)

    def prefill(self, rows: Tensor, mask: Tensor, where: Where, cache: KeyValueCache) -> Tensor:
        """Read rows (int64 [b, n, codebooks + 1]) and their mask (bool, same shape) → hidden states [b, n, dim].

        Sequences of unequal length are padded on the right. The padding's keys lie beyond the end of the sequence and
        are overwritten before anything reads them.
        """
        out: Tensor = self.backbone(self.embed(rows, mask), where, causal_mask(where, cache.length, rows.device), cache)
        return out

    def advance(self, codes: Tensor, positions: Tensor, cache: KeyValueCache) -> Tensor:
        """Read one frame, codes [b, codebooks] at positions [b] → the hidden state [b, dim] after it."""
        where = positions[:, None]
        out: Tensor = self.backbone(self.embed_codes(codes)[:, None], where, causal_mask(where, cache.length), cache)
        return out[:, 0]

    def frame(self, hidden: Tensor, cache: KeyValueCache, choose: Callable[[Tensor, int], Tensor]) -> Tensor:
        """The frame that follows hidden [b, dim]: codes [b, codebooks].

        The depth decoder starts from scratch: it reads the hidden state and the first code together, then one code at
        a time.
        """
        codes = [choose(self.codebook0_head(hidden)[..., : self.config.codes], 0)]
        x = torch.stack((hidden, self.audio_embeddings(codes[0])), dim=1)
        where = slice(0, 2)
        for codebook in range(1, self.config.audio_codebooks):
            # Only the first call holds two rows, and the first of them must not see the second.
            mask = causal_mask(where, 2, x.device) if codebook == 1 else None
            depth = self.decoder(self.projection(x), where, mask, cache.prefix(where.stop))[:, -1]
            codes.append(choose(self.codebook_logits(depth, codebook)[..., : self.config.codes], codebook))
            x = self.audio_embeddings(codes[-1] + codebook * self.config.audio_vocab_size)[:, None]
            where = slice(where.stop, where.stop + 1)
        return torch.stack(codes, dim=-1)

    def codebook_logits(self, depth: Tensor, codebook: int) -> Tensor:
        """Logits [b, audio_vocab] of codebook 1, 2, … from the depth decoder's state [b, dim]."""
        return depth @ self.audio_head[codebook - 1].to(depth.dtype)  # float32 during training

    def hidden_states(self, rows: Tensor, mask: Tensor) -> Tensor:
        """What `prefill` returns for whole sequences, but without a cache and differentiable: [b, n, dim].

        Sequences of unequal length are padded on the right: no row reads what comes after it.
        """
        return self.backbone.whole(self.embed(rows, mask))

    def depth_logits(self, hidden: Tensor, frames: Tensor) -> Tensor:
        """Logits float [f, codebooks, audio_vocab_size] of frames [f, codebooks]; each sees the codes before it.

        hidden [f, dim] is the backbone's state that each frame follows. A frame's last code is predicted but never
        read. Like `hidden_states`, this uses no cache and is differentiable.
        """
        heard = self.audio_embeddings(frames[:, :-1] + self.shift(frames.device)[:-1])
        depth = self.decoder.whole(self.projection(torch.cat((hidden[:, None], heard), dim=1)))[:, 1:]
        later = [self.codebook_logits(depth[:, index], index + 1) for index in range(depth.shape[1])]
        return torch.stack((self.codebook0_head(hidden), *later), dim=1)
