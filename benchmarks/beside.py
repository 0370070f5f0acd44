"""Does CSM keep pace while the ears and a language model of a billion parameters compute beside it?

    python benchmarks/beside.py

CSM runs in 4 bits, with random weights of full size. The mind is Parley's llama.cpp engine in its own process, with
random weights in the shape of Llama 3.2 1B (but SmolLM2's vocabulary), 4 bits. The ears are Parley's Whisper base with
its real weights. Each row is a reply of 8 s: frames are made one after the other, and playback begins with the first.
A gap is a moment in which playback has nothing to play; the next frame is then played as soon as it is there.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import struct
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.csm import REFERENCE, TEXT, make, prompt, random_mimi
from benchmarks.engines import speech
from benchmarks.simulated_user import machine
from config.packages import SMOLLM2_135M
from csm.backends.choose import choose_decoder
from csm.backends.eager import Engine
from csm.utterance import Noise, Sampling
from pipeline.llm import Message, Prompt
from pipeline.llm.gguf import Reader, read
from pipeline.llm.llama import Llama
from pipeline.stt.whisper import Whisper
from tests.support.real_models import folder

FRAME_S = 0.08
SHAPE = {
    "llama.embedding_length": 2048,
    "llama.block_count": 16,
    "llama.feed_forward_length": 8192,
    "llama.attention.head_count": 32,
    "llama.attention.head_count_kv": 8,
    "llama.rope.dimension_count": 64,
}
"""Llama 3.2 1B (its config.json)."""

_Q4_0, _F32 = 2, 0


class Reply(NamedTuple):
    frames: list[float]
    """Seconds that each frame took."""

    @property
    def gaps(self) -> list[float]:
        """Seconds of each gap."""
        found, made, played = [], 0.0, 0.0
        for number, taken in enumerate(self.frames):
            made += taken
            if number and made > played:
                found.append(made - played)
            played = max(made, played) + FRAME_S
        return found


def write_mind(file: Path, like: Path) -> None:
    """Write a GGUF of random weights in SHAPE, with the vocabulary and template of `like`."""
    content = like.read_bytes()
    reader = Reader(content)
    version, _, pairs = reader.one("<I"), reader.length(), reader.length()
    head = b""
    for _ in range(pairs):
        start = reader.at
        key, kind = reader.text(), reader.one("<I")
        begin = reader.at
        reader.value(kind)
        head += content[start:begin] + struct.pack("<I", SHAPE[key]) if key in SHAPE else content[start : reader.at]
    tensors = list(_tensors(int(read(like).values["llama.vocab_size"])))
    infos, sizes, offset = b"", [], 0
    for name, shape, kind in tensors:
        size = int(np.prod(shape)) * 4 if kind == _F32 else int(np.prod(shape)) // 32 * 18
        infos += struct.pack("<Q", len(name)) + name.encode() + struct.pack("<I", len(shape))
        infos += struct.pack(f"<{len(shape)}Q", *shape) + struct.pack("<IQ", kind, offset)
        sizes.append(size)
        offset += size + -size % 32
    whole = b"GGUF" + struct.pack("<IQQ", version, len(tensors), pairs) + head + infos
    blocks = np.random.default_rng(0).integers(0, 256, (1 << 18, 18), np.uint8)
    blocks[:, :2] = np.frombuffer(np.float16(0.004).tobytes(), np.uint8)  # the scale of each block
    noise = blocks.tobytes()
    with file.open("wb") as out:
        out.write(whole + bytes(-len(whole) % 32))
        for (_, shape, kind), size in zip(tensors, sizes, strict=True):
            if kind == _F32:
                out.write(np.ones(shape, np.float32).tobytes())
            else:
                out.write((noise * (size // len(noise) + 1))[:size])
            out.write(bytes(-size % 32))


def _tensors(vocabulary: int) -> list[tuple[str, tuple[int, ...], int]]:
    """Return name, shape (the inputs first) and type of each."""
    dim, wide = SHAPE["llama.embedding_length"], SHAPE["llama.feed_forward_length"]
    keys = dim * SHAPE["llama.attention.head_count_kv"] // SHAPE["llama.attention.head_count"]
    found: list[tuple[str, tuple[int, ...], int]] = [
        ("token_embd.weight", (dim, vocabulary), _Q4_0),
        ("output_norm.weight", (dim,), _F32),
    ]
    for layer in range(SHAPE["llama.block_count"]):
        for name, shape in (
            ("attn_norm", (dim,)), ("ffn_norm", (dim,)), ("attn_q", (dim, dim)), ("attn_k", (dim, keys)),
            ("attn_v", (dim, keys)), ("attn_output", (dim, dim)), ("ffn_gate", (dim, wide)), ("ffn_up", (dim, wide)),
            ("ffn_down", (wide, dim)),
        ):  # fmt: skip
            found.append((f"blk.{layer}.{name}.weight", shape, _F32 if len(shape) == 1 else _Q4_0))
    return found


class Voice:
    """CSM-1B in 4 bits with random weights, after a reference of 10 s."""

    def __init__(self, where: Path) -> None:
        model, _ = make("int4", where)
        self._engine = Engine(model)
        self._codec = choose_decoder(random_mimi(), model)
        self._known = prompt(REFERENCE + TEXT)

    def reply(self, seconds: float) -> Reply:
        self._engine.forget()
        self._engine.prefill([self._known])
        sampling, taken = Sampling(), []
        draws = Noise(self._engine, Sampling(seed=0))
        for _ in range(round(seconds / FRAME_S)):
            began = time.perf_counter()
            codes = self._engine.next_frame(sampling.temperature, sampling.topk, draws.next())
            self._codec.step(codes[:, :, None])
            taken.append(time.perf_counter() - began)
        return Reply(taken)


async def write(mind: Llama) -> None:
    """Write replies until cancelled."""
    for number in count():
        said = (Message("user", f"Tell me story number {number}, and make it a long one."),)
        asked = Prompt("You are a companion.", said, None, datetime.now(UTC), max_tokens=120)
        async with aclosing(mind.reply(asked)) as pieces:
            async for _ in pieces:
                pass


async def listen(ears: Whisper) -> None:
    """Hear somebody talk over the reply, at the pace of speech, until cancelled."""
    sound, block = speech("austen_0890.wav"), 1600
    while True:
        hearing = ears.listen()
        try:
            for at in range(0, len(sound), block):
                await asyncio.gather(hearing.feed(sound[at : at + block]), asyncio.sleep(block / 16_000))
            await hearing.finish()
        finally:
            await hearing.close()


@asynccontextmanager
async def busy(work: Sequence[Callable[[], Awaitable[None]]]) -> AsyncIterator[None]:
    tasks = [asyncio.ensure_future(each()) for each in work]
    await asyncio.sleep(2)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for done in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(done, Exception):
                raise done


async def measure(seconds: float) -> list[str]:
    lines = ["| beside CSM | ms per frame, median / p95 | real-time factor | gaps | longest | together |"]
    lines.append("|" + "---|" * 6)
    with tempfile.TemporaryDirectory() as where:
        file = Path(where) / "random-1b.gguf"
        write_mind(file, next(folder(SMOLLM2_135M).glob("*.gguf")))
        voice = await asyncio.to_thread(Voice, Path(where))
        mind, ears = Llama(str(file)), Whisper("base", language="en")
        await mind.start(lambda _: None)
        await ears.start(lambda _: None)
        try:
            works: dict[str, list[Callable[[], Awaitable[None]]]] = {
                "nothing": [],
                "the mind writes": [lambda: write(mind)],
                "somebody talks over it": [lambda: listen(ears)],
                "both": [lambda: write(mind), lambda: listen(ears)],
            }
            for name, work in works.items():
                async with busy(work):
                    reply = await asyncio.to_thread(voice.reply, seconds)
                lines.append(row(name, reply))
                print(lines[-1], file=sys.stderr, flush=True)
        finally:
            await mind.stop()
            await ears.stop()
    return lines


def row(name: str, reply: Reply) -> str:
    ordered, gaps = sorted(reply.frames), reply.gaps
    high = ordered[round(0.95 * (len(ordered) - 1))]
    factor = statistics.fmean(ordered) / FRAME_S
    return (
        f"| {name} | {1000 * statistics.median(ordered):.0f} / {1000 * high:.0f} | {factor:.2f} | {len(gaps)} "
        f"| {1000 * max(gaps, default=0):.0f} ms | {sum(gaps):.1f} s of {len(ordered) * FRAME_S:.0f} |"
    )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seconds", type=float, default=8.0, help="of speech in each row (default 8)")
    chosen = options.parse_args()
    lines = asyncio.run(measure(chosen.seconds))
    print("\n".join([machine(), "", *lines]))


if __name__ == "__main__":
    main()
