"""Frames by MLX: what csm/backends/eager.py does, for one talker, for a batch, and for slots.

A sequence's keys and values are as long as necessary, but have only a few possible lengths, so that a step is traced
(mx.compile) only for these. Each sequence has its own arrays: an idle one costs nothing, and weights are read once for
all.
"""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx
import torch
from torch import Tensor

from ...codec.protocol import Codec, StreamingDecoder
from ...model import CsmConfig
from ...rows import common, frame_rows
from ..protocol import Spoken
from .arrays import to_mlx, to_torch
from .loaded import CsmMlx
from .memory import Memory
from .mimi import MlxDecoder

__all__ = ["MlxEngine", "MlxSlotEngine"]

SHORTEST = 256
"""The fewest rows that keys and values have; then twice as many, … up to the model's context."""
PIECE = 256
"""Rows read at a time: the embeddings of all codes of a long prompt would take gigabytes."""


class Sequences:
    """Some sequences of up to `length` rows. Only the model's thread may use it."""

    def __init__(self, model: CsmMlx, count: int, length: int) -> None:
        self.model, self.length = model, length
        self._memories = [Memory(model.config.backbone, min(SHORTEST, length), model.dtype) for _ in range(count)]
        self._hidden = [mx.zeros((model.config.backbone.dim,), model.dtype)] * count
        self._positions = [0] * count

    def prefill(self, index: int, held: Tensor, prompt: Tensor) -> None:
        """Read a prompt from its first row that differs from `held`, the rows that the sequence holds."""
        model, memory = self.model, self._memories[index]
        # The last row is read again even if it is known: its hidden state is needed, not only its keys and values.
        known = min(common(held, prompt), len(prompt) - 1)
        memory.grow(self._long_enough(len(prompt)))
        with model.stage("prompt") as done:
            for first in range(known, len(prompt), PIECE):
                last = min(first + PIECE, len(prompt))
                rows = to_mlx(prompt[None, first:last])
                hidden = model.arrays.hear(rows, first, memory.hearing(first, last))[0, -1]
                mx.eval(hidden, memory.arrays)
            done(hidden)
        self._hidden[index], self._positions[index] = hidden, len(prompt)
        mx.clear_cache()  # prompts seldom share shapes, so cached buffers would not be reused

    def copy(self, source: int, index: int, first: int, last: int) -> None:
        memory = self._memories[index]
        memory.grow(self._long_enough(last))
        for array, other in zip(memory.arrays, self._memories[source].arrays, strict=True):
            array[:, :, first:last] = other[:, :, first:last]
        mx.eval(memory.arrays)

    def advance(self, indices: Sequence[int], codes: mx.array) -> None:
        """Read a frame in some of the sequences, codes [n, codebooks]."""
        memories = [self._memories[index] for index in indices]
        positions = [self._positions[index] for index in indices]
        rows = self._long_enough(max(max(positions) + 1, *(memory.rows for memory in memories)))
        for memory in memories:
            memory.grow(rows)
        with self.model.stage("backbone") as done:
            held = [memory.arrays for memory in memories]
            hidden, heard = self.model.advance(codes, mx.array(positions), held)
            del held  # only the step holds them now, so they are written in place
            for memory, arrays in zip(memories, heard, strict=True):
                memory.take(arrays)
            done(hidden)
        for index, position, state in zip(indices, positions, hidden, strict=True):
            self._hidden[index], self._positions[index] = state, position + 1

    def frame(self, indices: Sequence[int], temperature: mx.array, topk: mx.array, noise: mx.array | None) -> mx.array:
        """Return the frame that follows what some of the sequences have read: codes [n, codebooks].

        temperature, topk [n, 1]; noise [n, codebooks, codes], or None for the likeliest codes.
        """
        with self.model.stage("depth decoder") as done:
            hidden = mx.stack([self._hidden[index] for index in indices])
            codes = self.model.frame(hidden, temperature, topk, noise)
            done(codes)
        return codes

    def states(self) -> list[mx.array]:
        """The arrays that a step changes."""
        return [*self._hidden, *(array for memory in self._memories for array in memory.arrays)]

    def _long_enough(self, rows: int) -> int:
        length = SHORTEST
        while length < rows:
            length *= 2
        return min(length, self.length)


class MlxEngine:
    """`batch` sequences that advance together. Implements `csm.backends.protocol.Frames`."""

    def __init__(self, model: CsmMlx, batch: int = 1, length: int | None = None) -> None:
        self.model, self.batch = model, batch
        self._sequences = model.thread.run(Sequences, model, batch, length or model.config.backbone.context)
        self.ahead = 1 if model.on_gpu else 0
        self._forget()

    @property
    def config(self) -> CsmConfig:
        return self.model.config

    @property
    def device(self) -> torch.device:
        return self.model.device

    def forget(self) -> None:
        """Read the next prompts from their first row."""
        self.model.thread.run(self._forget)  # after a frame that is still under way

    def _forget(self) -> None:
        self._rows = [torch.zeros(0, self.config.audio_codebooks + 1, dtype=torch.int64)] * self.batch
        self._frames: list[mx.array] = []

    def prefill(self, prompts: Sequence[Tensor]) -> None:
        """See `Frames.prefill`."""
        self.model.thread.run(self._prefill, prompts)

    def next_frame(self, temperature: float, topk: int, noise: Tensor | None = None) -> Tensor:
        """See `Frames.next_frame`."""
        return self.model.thread.run(lambda: to_torch(self._next(temperature, topk, noise)))

    def speak_frame(
        self, decoder: StreamingDecoder, temperature: float, topk: int, noise: Tensor | None = None
    ) -> Spoken:
        """See `Frames.speak_frame`. The frame and its sound are under way when it returns."""
        if not isinstance(decoder, MlxDecoder):
            codes = self.next_frame(temperature, topk, noise)[0]
            sound = decoder.step(codes[None, :, None])[0]
            return lambda: (codes, sound)
        draws = None if noise is None else noise.clone()  # the caller overwrites it with the next frame's draws
        begun = self.model.thread.begin(self._begin, decoder, temperature, topk, draws)

        def wait() -> tuple[Tensor, Tensor]:
            codes, sound = begun.result()
            return self.model.thread.run(lambda: (to_torch(codes), to_torch(sound)))

        return wait

    def _begin(
        self, decoder: MlxDecoder, temperature: float, topk: int, noise: Tensor | None
    ) -> tuple[mx.array, mx.array]:
        codes = self._next(temperature, topk, noise)
        with self.model.stage("codec") as done:
            sound = decoder.lazy_step(codes[:, :, None])
            done(sound)
        mx.async_eval(codes, sound, *self._sequences.states(), *decoder.states())
        return codes[0], sound[0]

    def _next(self, temperature: float, topk: int, noise: Tensor | None) -> mx.array:
        everyone, wide = range(self.batch), (self.batch, 1)
        if self._frames:
            self._sequences.advance(everyone, self._frames[-1])
        draws = None if noise is None else to_mlx(noise)
        codes = self._sequences.frame(everyone, mx.full(wide, temperature), mx.full(wide, topk), draws)
        self._frames.append(codes)
        return codes

    def _prefill(self, prompts: Sequence[Tensor]) -> None:
        if len(self._frames) > 1:  # all but the newest were read, so their rows are held
            frames = to_torch(mx.stack(self._frames[:-1], axis=1))
            self._rows = [torch.cat((rows, frame_rows(new))) for rows, new in zip(self._rows, frames, strict=True)]
        self._frames = []
        for index, prompt in enumerate(prompts):
            # If prefill fails half-way, the contents of the sequence are unknown.
            held, self._rows[index] = self._rows[index], prompt[:0]
            self._sequences.prefill(index, held, prompt)
            self._rows[index] = prompt


class MlxSlotEngine:
    """Sequences of which any subset can advance. Implements `csm.backends.protocol.SlotFrames`."""

    selective = True

    def __init__(self, model: CsmMlx, codec: Codec, count: int, length: int | None = None) -> None:
        config = model.config
        self.model, self.codec = model, codec
        self.length = length or config.backbone.context
        self.noise = torch.ones(count, config.audio_codebooks, config.codes)
        self._sequences = model.thread.run(Sequences, model, count, self.length)
        self._choices = [(0.0, 1)] * count
        self._newest: dict[int, mx.array] = {}
        """Frames that have not been read yet, codes [codebooks]."""
        self._decoders: dict[int, StreamingDecoder] = {}

    def prefill(self, slot: int, held: Tensor, prompt: Tensor) -> None:
        """See `SlotFrames.prefill`."""
        self.model.thread.run(self._sequences.prefill, slot, held, prompt)
        self._newest.pop(slot, None)

    def copy(self, source: int, slot: int, first: int, last: int) -> None:
        """See `SlotFrames.copy`."""
        self.model.thread.run(self._sequences.copy, source, slot, first, last)

    def begin(self, slot: int, temperature: float, topk: int) -> None:
        """See `SlotFrames.begin`."""
        self._choices[slot] = (temperature, topk)
        if slot not in self._decoders:
            self._decoders[slot] = self.codec.decoder()
        self._decoders[slot].reset()

    def step(self, slots: Sequence[int], longest: int) -> tuple[Tensor, Tensor]:
        """See `SlotFrames.step`."""
        decoders = [self._decoders[slot] for slot in slots]
        ours = [decoder for decoder in decoders if isinstance(decoder, MlxDecoder)]
        if len(ours) == len(decoders):
            return self.model.thread.run(self._step, slots, ours)
        codes, _ = self.model.thread.run(self._step, slots, [])
        sound = [decoder.step(frame[None, :, None])[0] for decoder, frame in zip(decoders, codes, strict=True)]
        return codes, torch.stack(sound)

    def _step(self, slots: Sequence[int], decoders: Sequence[MlxDecoder]) -> tuple[Tensor, Tensor]:
        if begun := [slot for slot in slots if slot in self._newest]:
            self._sequences.advance(begun, mx.stack([self._newest[slot] for slot in begun]))
        temperature = mx.array([[self._choices[slot][0]] for slot in slots])
        topk = mx.array([[self._choices[slot][1]] for slot in slots])
        codes = self._sequences.frame(slots, temperature, topk, to_mlx(self.noise[list(slots)]))
        self._newest.update(zip(slots, codes, strict=True))
        sound = [decoder.lazy_step(codes[index : index + 1, :, None])[0] for index, decoder in enumerate(decoders)]
        states = [array for decoder in decoders for array in decoder.states()]
        mx.eval(codes, sound, self._sequences.states(), states)
        return to_torch(codes), torch.stack([to_torch(samples) for samples in sound]) if sound else torch.zeros(0)
