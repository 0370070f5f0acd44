"""The MLX ways of benchmarks/csm.py, and the memory bandwidth of Macs with Apple silicon."""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
from mlx.utils import tree_flatten
from torch import Tensor

from csm.backends.mlx.engine import MlxEngine
from csm.backends.mlx.loaded import CsmMlx
from csm.backends.mlx.mimi import MlxMimi
from csm.backends.mlx.thread import ComputeThread
from csm.backends.protocol import Spoken
from csm.codec.mimi import Mimi
from csm.model import Csm, CsmConfig
from csm.utterance import Noise, Sampling

UNIFIED_MEMORY = {
    # Apple's newsroom, October 2021: Introducing M1 Pro and M1 Max; March 2022: M1 Ultra
    "M1 Pro": 200, "M1 Max": 400, "M1 Ultra": 800,
    # Apple's newsroom, June 2022: M2; January 2023: M2 Pro and M2 Max; June 2023: M2 Ultra
    "M2": 100, "M2 Pro": 200, "M2 Max": 400, "M2 Ultra": 800,
    # support.apple.com, Tech Specs: MacBook Pro of November 2023 (117735, 117737), Mac Studio of 2025 (122211)
    "M3": 100, "M3 Pro": 150, "M3 Max": 400, "M3 Ultra": 819,
    # Apple's newsroom, October 2024: M4 Pro and M4 Max; Tech Specs: MacBook Pro of 2024 (121552, 121554)
    "M4": 120, "M4 Pro": 273, "M4 Max": 546,
}  # fmt: skip
"""GB/s as Apple states it, for the largest version of each chip: a smaller M3 Max has 300, a smaller M4 Max 410. Apple
has stated none for the first M1 (docs/PERFORMANCE.md)."""

BITS = {"mlx": None, "mlx-int8": "int8", "mlx-int4": "int4"}


def chip() -> str | None:
    """This Mac's chip, as named in the table; None on other machines."""
    try:
        told = subprocess.run(["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r"Apple (M\d(?: Pro| Max| Ultra)?)", told.stdout)
    return found[1] if found else None


def bytes_of_a_frame(model: CsmMlx, mimi: Mimi, rows: int) -> int:
    """Bytes of weights and scales (the depth decoder's 31 times), keys and values of `rows` positions, and codec."""
    config = model.config
    sizes = {name: array.nbytes for name, array in tree_flatten(model.arrays.parameters())}

    def read(*parts: str) -> int:
        return sum(size for name, size in sizes.items() if name.startswith(parts))

    backbone = config.backbone
    cached = backbone.layers * 2 * backbone.kv_heads * backbone.head_dim * model.dtype.size * rows
    codec = sum(
        parameter.nbytes
        for name, parameter in mimi.named_parameters()
        if name.startswith(("decoder_transformer", "seanet_decoder", "upsample", "quantiser.output_proj"))
    )
    depth = (config.audio_codebooks - 1) * read("decoder", "projection")
    return int(depth + read("backbone", "codebook0_head", "audio_heads") + cached + codec)


def bandwidth(size: int = 1 << 29) -> float:
    """Bytes per second at which the device reads: the best of several sums over `size` bytes."""
    data = mx.ones((size // 4,))
    mx.eval(data)
    taken = []
    for _ in range(10):
        begun = time.perf_counter()
        mx.eval(data.sum())
        taken.append(time.perf_counter() - begun)
    return size / min(taken)


def run(way: str, plain: Csm, mimi: Mimi, known: Tensor, heard: int, frames: int) -> dict[str, float]:
    """plain: full size, random, bfloat16. known: a prompt, of which a session has read the first `heard` rows."""
    begun = time.perf_counter()
    thread = ComputeThread()
    model = CsmMlx(plain.config, plain.state_dict(), BITS[way], thread=thread)
    loading = time.perf_counter() - begun
    engine = MlxEngine(model)
    decoder = MlxMimi(mimi, thread, model.compiled).decoder()
    sampling = Sampling(seed=0)
    draws, under_way = Noise(engine, sampling), deque[Spoken]()

    def frame() -> None:
        """Compute a frame as csm.utterance.Utterance does."""
        while len(under_way) <= engine.ahead:
            under_way.append(engine.speak_frame(decoder, sampling.temperature, sampling.topk, draws.next()))
        under_way.popleft()()

    def first_sound() -> None:
        engine.prefill([known])
        frame()

    first = []
    for _ in range(1 + min(3, frames)):  # the first warms up
        under_way.clear()
        engine.forget()
        engine.prefill([known[:heard]])
        first.append(timed(first_sound))
    frame()
    taken = [timed(frame) for _ in range(frames)]
    read, measured = bytes_of_a_frame(model, mimi, len(known) + frames // 2), thread.run(bandwidth)
    found = {
        "frame": statistics.median(taken),
        "best": min(taken),
        "first": statistics.median(first[1:]),
        "load": loading,
        "memory": thread.run(mx.get_peak_memory) / 1e9,
        "read": read / 1e9,
        "bandwidth": measured / 1e9,
        "cached_bandwidth": measured / 1e9,
        "floor": read / measured * 1e3,
        "cached_floor": read / measured * 1e3,
    }
    stated = UNIFIED_MEMORY.get(chip() or "")
    return found | ({} if stated is None else {"stated_bandwidth": stated, "stated_floor": read / stated / 1e6})


def run_mlx_audio(way: str, python: Path, config: CsmConfig, rows: int, frames: int) -> dict[str, float]:
    """Run mlx-audio in the environment of that Python."""
    bits = way.removeprefix("mlx-audio").removeprefix("-int") or "none"
    script = Path(__file__).with_name("peer_mlx_audio.py")
    sizes = (rows, frames, config.backbone.layers, config.decoder.layers, config.audio_codebooks)
    command = [str(python), str(script), bits, *map(str, sizes)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def timed(work: Callable[[], object]) -> float:
    """Milliseconds of one run."""
    begun = time.perf_counter()
    work()
    return (time.perf_counter() - begun) * 1e3
