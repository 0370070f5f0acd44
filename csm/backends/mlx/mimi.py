"""Mimi in MLX: the weights of csm/codec/mimi.py as arrays, and streams of them.

A link of a chain is a function of a step's input and of its state; it returns the output and the new state. So a whole
step can be traced, and a stream is just a list of arrays. Every convolution is a matrix product, as in
csm/codec/convolution.py, and sound has the same layout as there: [batch, time, channels].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import mlx.core as mx
import torch
from mlx.utils import tree_flatten, tree_map
from torch import Tensor

from ...codec.convolution import CausalConvolution, ChannelwiseUpsampling
from ...codec.mimi import Mimi, WholeRecordings
from ...codec.seanet import DecoderStage, EncoderStage, Quantiser, ResidualBlock
from ...codec.transformer import MimiTransformer, MimiTransformerLayer
from .arrays import to_mlx, to_torch
from .thread import ComputeThread

__all__ = ["MlxDecoder", "MlxEncoder", "MlxMimi"]

State = Any
"""A tree of arrays, each with the batch as its first dimension."""


class Link(Protocol):
    """One part of a chain."""

    def start(self, batch: int) -> State:
        """The state before the first step."""

    def __call__(self, x: mx.array, state: State) -> tuple[mx.array, State]:
        """Compute a step; return its output and the new state."""


class Chain:
    """Links applied one after the other."""

    def __init__(self, *links: Link) -> None:
        self.links = links

    def start(self, batch: int) -> State:
        return [link.start(batch) for link in self.links]

    def __call__(self, x: mx.array, state: State) -> tuple[mx.array, State]:
        now = []
        for link, before in zip(self.links, state, strict=True):
            x, after = link(x, before)
            now.append(after)
        return x, now


class Residual(Chain):
    """x plus the output of its links."""

    def __init__(self, block: ResidualBlock) -> None:
        super().__init__(Convolution(block.narrow), Convolution(block.wide))

    def __call__(self, x: mx.array, state: State) -> tuple[mx.array, State]:
        added, state = super().__call__(x, state)
        return x + added, state


class Convolution:
    """[batch, n, channels] to [batch, m, channels], preceded by ELU.

    fold: how many steps are read as one step with that many times the channels; unfold: the reverse, for the output.
    """

    def __init__(self, convolution: CausalConvolution, *, elu: bool = True, fold: int = 1, unfold: int = 1) -> None:
        self._weight, self._bias = to_mlx(convolution.weight).T, to_mlx(convolution.bias)
        self._kernel, self._inputs = convolution.kernel, convolution.inputs
        self._elu, self._fold, self._unfold = elu, fold, unfold

    def start(self, batch: int) -> State:
        return mx.zeros((batch, self._kernel - 1, self._inputs)) if self._kernel > 1 else []

    def __call__(self, x: mx.array, state: State) -> tuple[mx.array, State]:
        batch, count = x.shape[0], x.shape[1] // self._fold
        x = x.reshape(batch, count, -1)
        if self._elu:
            x = mx.where(x > 0, x, mx.expm1(x))
        if self._kernel > 1:
            window = mx.concatenate([state, x], axis=1)
            columns = [window[:, first : first + count] for first in range(self._kernel)]
            x, state = mx.concatenate(columns, axis=-1), window[:, count:]
        return mx.addmm(self._bias, x, self._weight).reshape(batch, count * self._unfold, -1), state


class RepeatedStart(Convolution):
    """The same, but its past before the first step is that step's first instant, repeated (Mimi's `downsample`)."""

    def start(self, batch: int) -> State:
        return [super().start(batch), mx.ones((batch, 1, 1), mx.bool_)]

    def __call__(self, x: mx.array, state: State) -> tuple[mx.array, State]:
        past, fresh = state
        y, past = super().__call__(x, mx.where(fresh, mx.tile(x[:, :1], (1, 1, self._fold)), past))
        return y, [past, mx.zeros_like(fresh)]


class Upsampling:
    """[batch, n, channels] to [batch, n · stride, channels], each channel separately."""

    def __init__(self, upsampling: ChannelwiseUpsampling) -> None:
        weight = to_mlx(upsampling.weight)
        self._now, self._later = weight[: upsampling.stride], weight[upsampling.stride :]

    def start(self, batch: int) -> State:
        return mx.zeros((batch, 1, self._now.shape[1]))

    def __call__(self, x: mx.array, state: State) -> tuple[mx.array, State]:
        before = mx.concatenate([state, x[:, :-1]], axis=1)
        y = x[:, :, None] * self._now + before[:, :, None] * self._later
        return y.flatten(1, 2), x[:, -1:]


class Transformer:
    """[batch, n, dim] to the same; a step attends to itself and the `window - 1` steps before it."""

    def __init__(self, transformer: MimiTransformer) -> None:
        self._heads, self._window = transformer.heads, transformer.window
        self._head_dim = transformer.dim // transformer.heads
        self._theta, self._eps = transformer.theta, transformer.norm_eps
        layers: Sequence[MimiTransformerLayer] = transformer.layers  # type: ignore[assignment]
        self._layers = [{name: to_mlx(tensor) for name, tensor in layer.state_dict().items()} for layer in layers]

    def start(self, batch: int) -> State:
        past = mx.zeros((batch, self._heads, self._window - 1, self._head_dim))
        return {"position": mx.zeros((batch,), mx.int32), "past": [[past, past] for _ in self._layers]}

    def __call__(self, x: mx.array, state: State) -> tuple[mx.array, State]:
        position, count = state["position"], x.shape[1]
        mask = self._mask(position, count)
        past = []
        for layer, before in zip(self._layers, state["past"], strict=True):
            x, after = self._attend(x, layer, before, position, mask)
            past.append(after)
            normed = mx.fast.layer_norm(x, layer["norm2.weight"], layer["norm2.bias"], self._eps)
            inner = normed @ layer["linear1.weight"].T
            inner = inner * (0.5 + 0.5 * mx.erf(inner * 0.5**0.5))
            x = x + layer["scale2"] * (inner @ layer["linear2.weight"].T)
        return x, {"position": position + count, "past": past}

    def _mask(self, position: mx.array, count: int) -> mx.array:
        """What each of `count` steps may attend to, among the window before them and themselves: bool [b, 1, n, m]."""
        looking, looked_at = mx.arange(count)[:, None], mx.arange(1 - self._window, count)[None]
        near = (looked_at <= looking) & (looked_at > looking - self._window)
        return (near[None] & (looked_at[None] + position[:, None, None] >= 0))[:, None]

    def _attend(
        self, x: mx.array, layer: dict[str, mx.array], before: Sequence[mx.array], position: mx.array, mask: mx.array
    ) -> tuple[mx.array, list[mx.array]]:
        batch, count, dim = x.shape
        normed = mx.fast.layer_norm(x, layer["norm1.weight"], layer["norm1.bias"], self._eps)
        parts = (normed @ layer["in_proj.weight"].T).reshape(batch, count, 3 * self._heads, -1).transpose(0, 2, 1, 3)
        turned = mx.fast.rope(
            parts[:, : 2 * self._heads], self._head_dim, traditional=True, base=self._theta, scale=1.0, offset=position
        )
        queries, keys, values = turned[:, : self._heads], turned[:, self._heads :], parts[:, 2 * self._heads :]
        keys, values = (mx.concatenate(pair, axis=2) for pair in zip(before, (keys, values), strict=True))
        heard = mx.fast.scaled_dot_product_attention(queries, keys, values, scale=self._head_dim**-0.5, mask=mask)
        projected = heard.transpose(0, 2, 1, 3).reshape(batch, count, dim) @ layer["out_proj.weight"].T
        return x + layer["scale1"] * projected, [keys[:, :, count:], values[:, :, count:]]


class Codebooks:
    """Converts codes to latents and back."""

    def __init__(self, quantiser: Quantiser) -> None:
        self._semantic = quantiser.semantic
        self._entries = to_mlx(quantiser.codebooks)
        self._input, self._output = to_mlx(quantiser.input_proj).T, to_mlx(quantiser.output_proj).T

    def latents(self, codes: mx.array) -> mx.array:
        """[batch, codebooks, frames] to [batch, frames, dim]."""
        count, size, dim = self._entries.shape
        chosen = self._entries.reshape(count * size, dim)[codes + (mx.arange(count) * size)[:, None]]
        parts = [chosen[:, : self._semantic].sum(axis=1), chosen[:, self._semantic :].sum(axis=1)]
        return mx.concatenate(parts, axis=-1) @ self._output

    def codes(self, latents: mx.array) -> mx.array:
        """[batch, frames, dim] to the nearest entries, [batch, codebooks, frames]."""
        semantic, acoustic = mx.split(latents @ self._input, 2, axis=-1)
        found = self._nearest(semantic, self._entries[: self._semantic])
        return mx.stack(found + self._nearest(acoustic, self._entries[self._semantic :]), axis=1)

    @staticmethod
    def _nearest(residual: mx.array, codebooks: mx.array) -> list[mx.array]:
        codes = []
        for codebook in codebooks:
            # |r - c|² without |r|², which is the same for all c.
            distance = codebook.square().sum(axis=-1) - 2 * (residual @ codebook.T)
            codes.append(distance.argmin(axis=-1))
            residual = residual - codebook[codes[-1]]
        return codes


class MlxMimi(WholeRecordings):
    """The codec on MLX's device. Implements `csm.codec.Codec`; tensors go in and come out on the host."""

    def __init__(self, mimi: Mimi, thread: ComputeThread, compiled: bool = False) -> None:
        self.config, self.thread = mimi.config, thread
        self.sample_rate, self.frame_size, self.codebooks = mimi.sample_rate, mimi.frame_size, mimi.codebooks
        self.decoding, self.encoding, self._codes = thread.run(self._take, mimi)
        prepare: Callable[..., Callable[..., Any]] = mx.compile if compiled else lambda step: step
        self.decode_step, self.encode_step = prepare(self._decode_step), prepare(self._encode_step)

    def decoder(self, batch: int = 1, frames: int = 1) -> MlxDecoder:
        """Return a new stream of codes to sound that works in steps of `frames` frames."""
        return MlxDecoder(self, batch, frames)

    def encoder(self, batch: int = 1, frames: int = 1) -> MlxEncoder:
        """Return a new stream of sound to codes that works in steps of `frames` frames."""
        return MlxEncoder(self, batch, frames)

    def _take(self, mimi: Mimi) -> tuple[Chain, Chain, Codebooks]:
        config, there, back = mimi.config, mimi.seanet_encoder, mimi.seanet_decoder
        down: list[Link] = [Convolution(there.first, elu=False)]
        stage: EncoderStage
        for stage in there.stages:  # type: ignore[assignment]
            down += [Residual(stage.residual), Convolution(stage.down, fold=stage.ratio)]
        down += [Convolution(there.last), Transformer(mimi.encoder_transformer)]
        up: list[Link] = [Upsampling(mimi.upsample), Transformer(mimi.decoder_transformer)]
        up.append(Convolution(back.first, elu=False))
        wider: DecoderStage
        for wider in back.stages:  # type: ignore[assignment]
            up += [Convolution(wider.up, unfold=wider.ratio), Residual(wider.residual)]
        halving = RepeatedStart(mimi.downsample, elu=False, fold=config.resampling)
        return Chain(*up, Convolution(back.last)), Chain(*down, halving), Codebooks(mimi.quantiser)

    def _decode_step(self, codes: mx.array, state: State) -> tuple[mx.array, State]:
        samples, state = self.decoding(self._codes.latents(codes), state)
        return samples.flatten(1), state

    def _encode_step(self, samples: mx.array, state: State) -> tuple[mx.array, State]:
        latents, state = self.encoding(samples[:, :, None], state)
        return self._codes.codes(latents), state


class _Stream:
    """The state of one stream, for `batch` slots."""

    def __init__(self, mimi: MlxMimi, chain: Chain, batch: int) -> None:
        self.mimi, self.batch = mimi, batch
        self._fresh = mimi.thread.run(chain.start, batch)
        self.state: State = self._fresh

    def states(self) -> list[mx.array]:
        """The arrays that a step changes."""
        return [array for _, array in tree_flatten(self.state)]

    def _forget(self, slot: int | None) -> None:
        """Reset one slot or all. Call this only in the model's thread."""
        if slot is None:
            self.state = self._fresh
        else:
            chosen = mx.arange(self.batch) == slot

            def begin(now: mx.array, fresh: mx.array) -> mx.array:
                return mx.where(chosen.reshape(-1, *[1] * (now.ndim - 1)), fresh, now)

            self.state = tree_map(begin, self.state, self._fresh)


class MlxDecoder(_Stream):
    """Codes to sound. Implements `csm.codec.StreamingDecoder`."""

    def __init__(self, mimi: MlxMimi, batch: int, frames: int) -> None:
        super().__init__(mimi, mimi.decoding, batch)
        self._frames = frames

    def step(self, codes: Tensor, out: Tensor | None = None) -> Tensor:
        """int64 [batch, codebooks, n], n a multiple of `frames`, to float32 [batch, n · frame_size]."""
        if codes.shape[2] % self._frames:
            raise ValueError(f"This decoder works in steps of {self._frames} frames, but was given {codes.shape[2]}.")
        samples = self.mimi.thread.run(self._step, codes)
        return samples if out is None else out.copy_(samples)

    def lazy_step(self, codes: mx.array) -> mx.array:
        """One step on arrays, without waiting for it. Call this only in the model's thread."""
        samples, self.state = self.mimi.decode_step(codes, self.state)
        return samples

    def reset(self, slot: int | None = None) -> None:
        """Start afresh: one slot, leaving the others as they are, or all of them."""
        self.mimi.thread.run(self._forget, slot)

    def _step(self, codes: Tensor) -> Tensor:
        made = []
        for part in torch.split(codes, self._frames, dim=2):
            made.append(self.lazy_step(to_mlx(part)))
            mx.eval(made[-1], self.states())
        return torch.cat([to_torch(samples) for samples in made], dim=1)


class MlxEncoder(_Stream):
    """Sound to codes. Implements `csm.codec.StreamingEncoder`."""

    def __init__(self, mimi: MlxMimi, batch: int, frames: int) -> None:
        super().__init__(mimi, mimi.encoding, batch)
        self._samples_a_step = frames * mimi.frame_size
        self._waiting = torch.zeros(batch, 0)

    def step(self, audio: Tensor) -> Tensor:
        """float [batch, n], any n, to the codes of the steps it completes, int64 [batch, codebooks, frames]."""
        audio = torch.cat((self._waiting, audio.to(self._waiting)), dim=1)
        whole = audio.shape[1] - audio.shape[1] % self._samples_a_step
        self._waiting = audio[:, whole:]
        return self.mimi.thread.run(self._step, audio[:, :whole])

    def flush(self) -> Tensor:
        """Return the codes of the samples still waiting, if any, padded with silence to a whole step."""
        batch, waiting = self._waiting.shape
        return self.step(torch.zeros(batch, self._samples_a_step - waiting if waiting else 0))

    def reset(self, slot: int | None = None) -> None:
        """Start afresh: one slot, leaving the others as they are, or all of them. Samples of an incomplete step become
        silence if one slot is reset, and are dropped if all are."""
        self.mimi.thread.run(self._forget, slot)
        if slot is None:
            self._waiting = self._waiting[:, :0]
        else:
            self._waiting = self._waiting.clone()
            self._waiting[slot] = 0

    def _step(self, audio: Tensor) -> Tensor:
        made = [torch.zeros(self.batch, self.mimi.codebooks, 0, dtype=torch.int64)]
        for samples in torch.split(audio, self._samples_a_step, dim=1) if audio.shape[1] else ():
            codes, self.state = self.mimi.encode_step(to_mlx(samples), self.state)
            mx.eval(codes, self.states())
            made.append(to_torch(codes))
        return torch.cat(made, dim=2)
