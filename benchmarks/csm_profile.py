"""Where the time of one frame goes, for packed weights on a CPU: `python benchmarks/csm.py --profile`.

Parts are measured in the order of a frame. The floor of a part is the bytes it must read, divided by the memory
bandwidth. Depth steps, heads and sampling are one call, so the heads are timed in separate calls, and the time of
sampling is what a frame takes beyond a greedy one.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from csm.backends.eager import Engine
from csm.backends.quantize import QuantizedCsm
from csm.codec.protocol import StreamingDecoder
from csm.utterance import Noise, Sampling

__all__ = ["Times", "measure", "table"]


class Times:
    """Milliseconds of each part, for each run."""

    def __init__(self) -> None:
        self._taken: dict[str, list[float]] = defaultdict(list)

    @contextmanager
    def of(self, part: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self._taken[part].append((time.perf_counter() - start) * 1e3)

    def within(self, part: str, work: Callable[..., Any]) -> Callable[..., Any]:
        """Return the same function with its time measured."""

        def timed(*arguments: Any) -> Any:
            with self.of(part):
                return work(*arguments)

        return timed

    def medians(self) -> dict[str, float]:
        return {part: statistics.median(taken) for part, taken in self._taken.items()}


def measure(engine: Engine, decoder: StreamingDecoder, frames: int) -> dict[str, float]:
    """Medians in ms over `frames` frames that follow a prompt which the engine has read."""
    model = engine.model
    assert isinstance(model, QuantizedCsm) and model.depth_decoder is not None, "there is no kernel here"
    times, sampling = Times(), Sampling(seed=0)
    draws = Noise(engine, sampling)
    kernel = model.depth_decoder.kernel
    stack, depth_decode = kernel.stack, kernel.depth_decode
    heads: list[tuple[nn.Module, int]] = [(model.codebook0_head, model.config.backbone.dim)]
    heads += [(head, model.config.decoder.dim) for head in model.audio_heads]
    states = [torch.randn(1, size).bfloat16() for _, size in heads]
    engine.next_frame(sampling.temperature, sampling.topk, draws.next())
    kernel.stack = times.within("backbone", stack)
    try:
        for _ in range(frames):
            with times.of("whole"):
                kernel.depth_decode = times.within("depth decoder", depth_decode)
                with times.of("noise"):
                    noise = draws.next()
                codes = engine.next_frame(sampling.temperature, sampling.topk, noise)
                with times.of("codec"):
                    decoder.step(codes[:, :, None]).cpu()
            kernel.depth_decode = times.within("greedy", depth_decode)
            engine.frame(0.0, 1, None)
            with times.of("heads"):
                for (head, _), state in zip(heads, states, strict=True):
                    head(state)
    finally:
        kernel.stack, kernel.depth_decode = stack, depth_decode
    found = times.medians()
    depth, heads_alone, sampled = found["depth decoder"], found["heads"], found["depth decoder"] - found["greedy"]
    return {
        "backbone": found["backbone"],
        "depth steps": depth - heads_alone - sampled,
        "heads": heads_alone,
        "sampling": sampled,
        "noise": found["noise"],
        "codec": found["codec"],
        "Python": found["whole"] - sum(found[part] for part in ("backbone", "depth decoder", "noise", "codec")),
        "whole": found["whole"],
    }


def table(parts: dict[str, float], read: dict[str, int], bandwidth: float) -> str:
    """parts: from `measure`; read: bytes per frame for each part; bandwidth: bytes per second."""
    read = read | {"whole": sum(read.values())}
    lines = ["| part | ms | read, MB | floor, ms |", "|---|---|---|---|"]
    for part, taken in parts.items():
        cells = [f"{read[part] / 1e6:.0f}", f"{read[part] / bandwidth * 1e3:.1f}"] if part in read else ["–", "–"]
        lines.append("| " + " | ".join([part, f"{taken:.2f}", *cells]) + " |")
    return "\n".join(lines)
