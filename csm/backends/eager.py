"""Frames computed one after the other in eager PyTorch. csm/backends/cuda_graph.py computes the same with CUDA graphs.

An `Engine` holds everything that stays on the device while speech is made: keys and values, the last hidden state,
positions. Its sequences advance together. Any subset of a `SlotEngine`'s sequences can advance: csm/batch.py assigns
them to conversations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..codec.protocol import Codec, StreamingDecoder
from ..model import Csm, CsmConfig, KeyValueCache
from ..rows import common, frame_rows
from ..sampling import Chooser
from .kernel_decoder import new_decoder
from .protocol import Spoken

__all__ = ["Engine", "SlotEngine", "fetch", "prefill_new"]


class Engine:
    """`batch` sequences of up to `length` rows (default: the model's context). Prefill, then call `next_frame`.

    Of a prompt, only the rows after the first difference from what the sequence holds are read, so a growing
    conversation costs only its new rows.
    """

    def __init__(self, model: Csm, batch: int = 1, length: int | None = None) -> None:
        config = model.config
        self.model, self.batch = model, batch
        self.cache, self.depth_cache = model.cache(batch, length), model.depth_cache(batch)
        self.hidden = torch.zeros(batch, config.backbone.dim, device=model.device, dtype=model.dtype)
        self.positions = torch.zeros(batch, dtype=torch.int64, device=model.device)
        self.forget()

    @property
    def config(self) -> CsmConfig:
        return self.model.config

    @property
    def device(self) -> torch.device:
        """Where noise is drawn."""
        return self.model.device

    @property
    def ahead(self) -> int:
        """Frames under way while one is waited for. On a GPU the next frame is started before this one is fetched, so
        that the device never waits for the host; only one frame, after the end, is wasted. On a CPU this would
        delay the listener."""
        return 1 if self.device.type == "cuda" else 0

    def forget(self) -> None:
        """Read the next prompts from their first row, whatever the caches hold."""
        self._rows = [torch.zeros(0, self.model.config.audio_codebooks + 1, dtype=torch.int64)] * self.batch
        self._frames: list[Tensor] = []

    @torch.inference_mode()
    def prefill(self, prompts: Sequence[Tensor]) -> None:
        """Read a prompt for each sequence: rows [n, codebooks + 1] on the host; each may have its own n."""
        self._settle()
        for index, prompt in enumerate(prompts):
            # If prefill fails half-way, the contents of the caches are unknown.
            held, self._rows[index] = self._rows[index], prompt[:0]
            self.hidden[index] = prefill_new(self.model, self.cache.rows(index, index + 1), held, prompt)
            self._rows[index] = prompt
            self.positions[index] = len(prompt)

    @torch.inference_mode()
    def next_frame(self, temperature: float, topk: int, noise: Tensor | None = None) -> Tensor:
        """Return the next frame of every sequence: codes [batch, codebooks], on the device.

        noise: Exp(1) draws [batch, codebooks, codes] on the device; None chooses the likeliest codes.
        """
        if self._frames:
            self.advance(self._frames[-1])
        self._frames.append(self.frame(temperature, topk, noise))
        return self._frames[-1]

    @torch.inference_mode()
    def speak_frame(
        self, decoder: StreamingDecoder, temperature: float, topk: int, noise: Tensor | None = None
    ) -> Spoken:
        """Compute the next frame of the first sequence, and its sound; call the result to wait for them."""
        codes = self.next_frame(temperature, topk, noise)
        frame, sound = fetch(codes[0]), fetch(decoder.step(codes[:, :, None])[0])
        return lambda: (frame(), sound())

    def frame(self, temperature: float, topk: int, noise: Tensor | None) -> Tensor:
        """Return the frame that follows the hidden state."""
        return self.model.frame(self.hidden, self.depth_cache, Chooser(temperature, topk, noise))

    def advance(self, codes: Tensor) -> None:
        """Read a frame, which updates the hidden state."""
        longest = max(len(rows) for rows in self._rows) + len(self._frames)
        self.hidden = self.model.advance(codes, self.positions, self.cache.prefix(longest))
        self.positions += 1

    def _settle(self) -> None:
        """Add the frames that were read (all but the newest) to the rows that the caches hold."""
        if len(self._frames) > 1:
            frames = torch.stack(self._frames[:-1], dim=1).cpu()
            self._rows = [torch.cat((rows, frame_rows(new))) for rows, new in zip(self._rows, frames, strict=True)]
        self._frames = []


class SlotEngine:
    """`count` sequences of up to `length` rows, each with its stream of sound. Only sequences that are asked for a
    frame are computed. They are computed together: each weight is read once for all of them, and an idle sequence costs
    nothing.

    noise: Exp(1) draws [count, codebooks, codes], which the caller fills before a step.
    """

    selective = True
    """Whether a sequence in the middle of an utterance can be left out of a step."""

    def __init__(self, model: Csm, codec: Codec, count: int, length: int | None = None) -> None:
        config = model.config
        self.model, self.codec = model, codec
        self.cache, self.depth_cache = model.cache(count, length), model.depth_cache(count)
        self.hidden = torch.zeros(count, config.backbone.dim, device=model.device, dtype=model.dtype)
        self.positions = torch.zeros(count, dtype=torch.int64, device=model.device)
        self.codes = torch.zeros(count, config.audio_codebooks, dtype=torch.int64, device=model.device)
        self.noise = torch.ones(count, config.audio_codebooks, config.codes, device=model.device)
        self._choices = [(0.0, 1)] * count
        self._begun: set[int] = set()
        """Sequences whose newest frame has not been read yet."""
        self._decoders: dict[int, StreamingDecoder] = {}

    @property
    def length(self) -> int:
        """The most rows that a sequence may hold."""
        return self.cache.length

    @torch.inference_mode()
    def prefill(self, slot: int, held: Tensor, prompt: Tensor) -> None:
        """Read a prompt from its first row that differs from `held`, the rows that the sequence holds."""
        self.hidden[slot] = prefill_new(self.model, self.cache.rows(slot, slot + 1), held, prompt)
        self.positions[slot] = len(prompt)
        self._begun.discard(slot)

    @torch.inference_mode()
    def copy(self, source: int, slot: int, first: int, last: int) -> None:
        """Copy the keys and values of rows first..last-1 from another sequence."""
        self.cache.tensor[:, :, slot, :, first:last] = self.cache.tensor[:, :, source, :, first:last]

    def begin(self, slot: int, temperature: float, topk: int) -> None:
        """Begin an utterance of this sequence, with these sampling settings for its frames."""
        self._choices[slot] = (temperature, topk)
        if slot not in self._decoders:
            self._decoders[slot] = new_decoder(self.codec, self.model)
        self._decoders[slot].reset()

    @torch.inference_mode()
    def step(self, slots: Sequence[int], longest: int) -> tuple[Tensor, Tensor]:
        """Return the next frame of some sequences, none of which holds more than `longest` rows: codes [n, codebooks]
        and sound [n, 1920], both on the host."""
        if begun := [slot for slot in slots if slot in self._begun]:
            cache = self._cache_of(begun).prefix(longest)
            self.hidden[begun] = self.model.advance(self.codes[begun], self.positions[begun], cache)
            self.positions[begun] += 1
        temperatures, topks = zip(*(self._choices[slot] for slot in slots), strict=True)
        chooser = Chooser(temperatures[0], topks[0], self.noise[slots])
        if len(slots) > 1:
            device = self.hidden.device
            temperature, topk = torch.tensor([temperatures], device=device).T, torch.tensor([topks], device=device).T
            chooser = Chooser(temperature, topk, self.noise[slots], max(topks))
        codes = self.model.frame(self.hidden[slots], self.depth_cache.rows(0, len(slots)), chooser)
        self.codes[slots] = codes
        self._begun.update(slots)
        sound = [self._decoders[slot].step(codes[[index], :, None])[0] for index, slot in enumerate(slots)]
        return codes.cpu(), torch.stack(sound).cpu()

    def _cache_of(self, slots: Sequence[int]) -> KeyValueCache:
        if len(slots) == 1:
            return self.cache.rows(slots[0], slots[0] + 1)
        return self.cache.of(torch.tensor(slots, device=self.hidden.device))


def prefill_new(model: Csm, cache: KeyValueCache, held: Tensor, prompt: Tensor) -> Tensor:
    """Read a prompt, from its first row that the cache of one sequence does not hold → its last hidden state."""
    # The last row is read again even if it is known: its hidden state is needed, not only its keys and values.
    known = min(common(held, prompt), len(prompt) - 1)
    where, rows = slice(known, len(prompt)), prompt[None, known:].to(model.device)
    return model.prefill(rows.clamp(min=0), rows >= 0, where, cache.prefix(len(prompt)))[0, -1]


def fetch(tensor: Tensor) -> Callable[[], Tensor]:
    """Start copying a tensor to the host; call the result to wait for it. On the CPU it is copied at once."""
    if tensor.device.type != "cuda":
        copied = tensor.clone().cpu()
        return lambda: copied
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    host.copy_(tensor, non_blocking=True)
    arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
    arrived.record()

    def wait() -> Tensor:
        arrived.synchronize()
        return host

    return wait
