"""A frame as one CUDA graph. A frame consists of thousands of small kernels, and launching them one by one takes longer
than running them. Captured once in a CUDA graph, they are launched together.

Captured code works on static buffers, reads nothing back from the device, and has one shape. Without a GPU the same
code runs eagerly, so that it is tested everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..codec.protocol import FRAME_SIZE, Codec, StreamingDecoder
from ..model import Csm, KeyValueCache
from ..sampling import Chooser
from .eager import Engine, SlotEngine

__all__ = ["GraphDecoder", "GraphEngine", "GraphSlotEngine", "StaticFrame", "capture"]

SHORTEST = 256
"""The fewest positions attention reads. Graphs are made for this many, twice as many, … up to the whole cache."""
NARROWEST = 64
"""The smallest topk that a graph is made for. Graphs are made for this many codes, twice as many, …"""


def capture(work: Callable[[], None], restore: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """Capture `work` as one CUDA graph. It runs a few times first; `restore` undoes its changes to buffers each time.

    On a CPU, return `work` unchanged.
    """
    if device.type != "cuda":
        return work
    side = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(side):
        for _ in range(3):  # lets libraries allocate their memory and choose their kernels
            work()
            restore()
    torch.cuda.current_stream(device).wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # other threads may keep working
        work()
    restore()
    return graph.replay


class StaticFrame:
    """The next frame of `batch` sequences, in place: reads the previous frame, then generates the one that follows.

    Buffers, all on the device; write to them but never replace them:
        hidden [b, dim]: the state after the last row; positions int64 [b]: where the next row goes.
        listening int64 [b]: 1 if `codes` are to be read first; 0 if a prompt was just read, or the sequence is silent.
        codes int64 [b, codebooks]: the newest frame.
        temperature float32 [b, 1], 0 for the likeliest codes; topk int64 [b, 1].
        noise float32 [b, codebooks, codes]: Exp(1) draws.
    """

    def __init__(
        self, model: Csm, cache: KeyValueCache, depth_cache: KeyValueCache, hidden: Tensor, positions: Tensor
    ) -> None:
        batch, device, codebooks = len(hidden), hidden.device, model.config.audio_codebooks
        self.model, self.cache, self.depth_cache = model, cache, depth_cache
        self.hidden, self.positions = hidden, positions
        self.listening = torch.zeros_like(positions)
        self.codes = torch.zeros(batch, codebooks, dtype=torch.int64, device=device)
        self.temperature = torch.zeros(batch, 1, device=device)
        self.topk = torch.ones(batch, 1, dtype=torch.int64, device=device)
        self.noise = torch.ones(batch, codebooks, model.config.codes, device=device)
        self._graphs: dict[tuple[int, int], Callable[[], None]] = {}

    @torch.inference_mode()
    def run(self, longest: int, topk: int) -> None:
        """Compute one frame. longest: above the position of every listening sequence; topk: the largest of all.

        The first run of a length and a topk (rounded up to SHORTEST · 2^i and NARROWEST · 2^i) captures its graph,
        which takes about a second on a GPU.
        """
        key = min(_doubled(SHORTEST, longest), self.cache.length), _doubled(NARROWEST, topk)
        if key not in self._graphs:
            self._graphs[key] = self._capture(*key)
        self._graphs[key]()

    def prepare(self, topk: int = NARROWEST) -> None:
        """Capture the graphs of all lengths now, so that no speech waits for one."""
        length = SHORTEST
        while length < 2 * self.cache.length:
            self.run(length, topk)
            length *= 2

    def _capture(self, length: int, widest: int) -> Callable[[], None]:
        cache, chooser = self.cache.prefix(length), Chooser(self.temperature, self.topk, self.noise, widest)

        def work() -> None:
            advanced = self.model.advance(self.codes, self.positions, cache)
            self.hidden.copy_(torch.where(self.listening[:, None] > 0, advanced, self.hidden))
            self.positions.add_(self.listening)
            self.codes.copy_(self.model.frame(self.hidden, self.depth_cache, chooser))

        changed = (self.hidden, self.positions, self.codes)
        before = [buffer.clone() for buffer in changed]

        def restore() -> None:
            # Keys and values need not be restored: the same positions are written again.
            for buffer, was in zip(changed, before, strict=True):
                buffer.copy_(was)

        return capture(work, restore, self.hidden.device)


class GraphEngine(Engine):
    """`Engine` with each frame as one CUDA graph: the same frames, faster on a GPU."""

    def __init__(self, model: Csm, batch: int = 1, length: int | None = None) -> None:
        super().__init__(model, batch, length)
        self.static = StaticFrame(model, self.cache, self.depth_cache, self.hidden, self.positions)

    @torch.inference_mode()
    def next_frame(self, temperature: float, topk: int, noise: Tensor | None = None) -> Tensor:
        """See `Engine.next_frame`."""
        static = self.static
        static.temperature.fill_(0 if noise is None else temperature)
        # Noise of 1 leaves its logit unchanged, since log 1 = 0.
        static.noise.fill_(1) if noise is None else static.noise.copy_(noise)
        static.topk.fill_(topk)
        static.listening.fill_(1 if self._frames else 0)
        static.run(max(len(rows) for rows in self._rows) + len(self._frames) + 1, topk)
        self._frames.append(static.codes.clone())
        return self._frames[-1]


class GraphDecoder:
    """A codec's decoder with each frame as one CUDA graph. Implements `csm.codec.StreamingDecoder`.

    Like that of csm.codec.mimi, the decoder's `step` with `out` must allocate nothing and read nothing back.
    """

    def __init__(self, decoder: StreamingDecoder, batch: int, codebooks: int, device: torch.device) -> None:
        self.decoder = decoder
        self.codes = torch.zeros(batch, codebooks, 1, dtype=torch.int64, device=device)
        self.samples = torch.zeros(batch, FRAME_SIZE, device=device)
        with torch.inference_mode():
            self._graph = capture(self._work, decoder.reset, device)

    def step(self, codes: Tensor, out: Tensor | None = None) -> Tensor:
        """int64 [batch, codebooks, n] to float32 [batch, n · 1920], with one graph launch for each frame."""
        if out is None:
            out = torch.empty(len(codes), codes.shape[2] * FRAME_SIZE, device=codes.device)
        with torch.inference_mode():
            for index in range(codes.shape[2]):
                self.codes.copy_(codes[:, :, index : index + 1])
                self._graph()
                out[:, index * FRAME_SIZE : (index + 1) * FRAME_SIZE].copy_(self.samples)
        return out

    def reset(self, slot: int | None = None) -> None:
        """Start afresh: one slot, leaving the others as they are, or all of them."""
        self.decoder.reset(slot)

    def _work(self) -> None:
        self.decoder.step(self.codes, out=self.samples)


class GraphSlotEngine(SlotEngine):
    """`SlotEngine` with each frame as one CUDA graph. Every sequence is computed, whether or not it speaks."""

    selective = False

    def __init__(self, model: Csm, codec: Codec, count: int, length: int | None = None) -> None:
        super().__init__(model, codec, count, length)
        self.static = StaticFrame(model, self.cache, self.depth_cache, self.hidden, self.positions)
        self.noise, self.codes = self.static.noise, self.static.codes
        self.decoder = GraphDecoder(codec.decoder(count), count, model.config.audio_codebooks, model.device)
        self.static.prepare()

    def begin(self, slot: int, temperature: float, topk: int) -> None:
        self._choices[slot] = (temperature, topk)
        self.static.temperature[slot], self.static.topk[slot] = temperature, topk
        self.decoder.reset(slot)

    @torch.inference_mode()
    def step(self, slots: Sequence[int], longest: int) -> tuple[Tensor, Tensor]:
        """See `SlotEngine.step`. A sequence that speaks must be among the slots until its utterance is over."""
        listening = torch.zeros(len(self.hidden), dtype=torch.int64)
        listening[[slot for slot in slots if slot in self._begun]] = 1
        self.static.listening.copy_(listening)
        self.static.run(longest, max(self._choices[slot][1] for slot in slots))
        sound = self.decoder.step(self.static.codes[:, :, None])
        self._begun.update(slots)
        # The only wait for the device in a step, for all sequences together.
        codes, sound = self.static.codes.to("cpu", copy=True), sound.cpu()
        return codes[slots], sound[slots]


def _doubled(least: int, wanted: int) -> int:
    """The first of least, 2 · least, 4 · least, … that is at least `wanted`."""
    while least < wanted:
        least *= 2
    return least
