"""How fast CSM-1B speaks: csm at each precision, transformers beside it, and the floor set by memory, in one run.

    python benchmarks/csm.py                      everything that suits this machine
    python benchmarks/csm.py --only int4 int8     some of it
    python benchmarks/csm.py --output table.md
    python benchmarks/csm.py --profile            where the time of a frame goes, for int4 and int8 with our kernel
    python benchmarks/csm.py --only mlx           MLX, and mlx-audio beside it if --mlx-audio names a Python

Weights are random and of full size: the results do not depend on their values. Needs torch, transformers, numpy and
safetensors. Each way runs in its own process, one after the other, so that its memory can be measured separately.

The floor of a way is the bytes that one frame must read (weights, their scales, keys and values, the codec) divided by
the bandwidth measured in the same process. For all bytes this is the bandwidth of main memory ("floor"). For the depth
decoder, which is read 31 times per frame, it is that of the cache level into which it fits ("cached floor").
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # before this folder, which also has a csm

from csm.backends.choose import choose_decoder
from csm.backends.cuda_graph import GraphEngine
from csm.backends.eager import Engine
from csm.backends.quantize import (
    SCHEMES,
    Packing,
    QuantizedCsm,
    TorchPacking,
    load_packed,
    pack,
    pick_packing,
    save_packed,
)
from csm.batch import Slots
from csm.codec.mimi import Mimi
from csm.codec.seanet import MimiConfig
from csm.devices import Machine, has_mlx
from csm.model import Csm, CsmConfig
from csm.utterance import Noise, Sampling

FRAME_MS = 80.0
REFERENCE = 150  # rows of a reference of 10 s: 125 frames, and its words
TEXT = 20  # rows of a sentence
CONFIG = CsmConfig.csm_1b()
GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if GPU else "cpu")

PACKED = ("int4", "int8")  # with our kernel
ON_CPU = ("int4", "int8", "int4-torch", "int8-torch", "bf16", "transformers-bf16")
ON_GPU = ("bf16", "bf16-eager", "slots-1", "slots-50", "slots-200", "transformers-bf16", "transformers-bf16-compiled")
ON_MLX = ("mlx", "mlx-int8", "mlx-int4")
MLX_AUDIO = ("mlx-audio", "mlx-audio-int8", "mlx-audio-int4")
ALSO = ("fp32", "transformers-bf16-compiled", *ON_MLX, *MLX_AUDIO)


def synchronize() -> None:
    if GPU:
        torch.cuda.synchronize()


def timed(work: Callable[[], object], times: int) -> list[float]:
    """Run `work` repeatedly; return the milliseconds of each run."""
    taken = []
    for _ in range(times):
        synchronize()
        start = time.perf_counter()
        work()
        synchronize()
        taken.append((time.perf_counter() - start) * 1e3)
    return taken


def bandwidth(size: int) -> float:
    """Bytes per second at which `size` bytes are read repeatedly: the best of several runs."""
    data = torch.ones(size // 4, device=DEVICE)
    repeats = max(1, (256 << 20) // size)

    def read() -> None:
        for _ in range(repeats):
            data.sum()

    return size * repeats / (min(timed(read, 15)) / 1e3)


def random_like(tensor: Tensor) -> Tensor:
    """Make small random numbers in bfloat16 quickly, by repeating a block of noise."""
    if tensor.dim() == 1:
        return torch.ones(tensor.shape, dtype=torch.bfloat16, device=DEVICE)
    noise = (torch.randn(1 << 20, device=DEVICE) * 0.02).bfloat16()
    count = math.ceil(tensor.numel() / len(noise))
    return noise.repeat(count)[: tensor.numel()].view(tensor.shape)


def random_model(config: CsmConfig = CONFIG) -> Csm:
    with torch.device("meta"):
        model = Csm(config)
    model.load_state_dict({name: random_like(tensor) for name, tensor in model.state_dict().items()}, assign=True)
    return model.requires_grad_(False).eval()


class RandomPacking:
    """Packs weights that do not exist: codes and scales of the right shapes, in almost no time."""

    def __init__(self, packing: Packing) -> None:
        self.packing = packing
        self.made: dict[tuple[Any, ...], tuple[Tensor, Tensor]] = {}

    def pack(self, weight: Tensor, bits: int) -> tuple[Tensor, Tensor]:
        """Pack one small matrix for each shape, and repeat it to the full size."""
        key = (weight.shape, bits)
        if key not in self.made:
            drawn = torch.randn(min(256, weight.shape[0]), weight.shape[1]) * 0.02
            whole = drawn.repeat(math.ceil(weight.shape[0] / len(drawn)), 1)[: weight.shape[0]]
            self.made[key] = self.packing.pack(whole, bits)
        return self.made[key]

    def tensors(self, bits: int) -> Iterator[tuple[str, Tensor]]:
        with torch.device("meta"):
            model = Csm(CONFIG)
        for name, tensor in pack(model, bits, self):  # type: ignore[arg-type]
            made = random_like(tensor).to(tensor.dtype) if tensor.is_meta else tensor
            yield name, made


def make(way: str, folder: Path) -> tuple[Csm, float]:
    """Make a model; return it and the seconds it took to load from a file."""
    if way.startswith("int"):
        scheme = way.removesuffix("-torch")
        packing = TorchPacking() if way.endswith("-torch") else pick_packing()
        file = folder / "packed.safetensors"
        save_packed(file, RandomPacking(packing).tensors(SCHEMES[scheme]))
        start = time.perf_counter()
        packed = QuantizedCsm(CONFIG, load_packed(file), packing)
        return packed, time.perf_counter() - start
    from safetensors.torch import load_file, save_file

    model = random_model().to("cpu", torch.float32 if way == "fp32" else torch.bfloat16)
    save_file(model.state_dict(), folder / "model.safetensors")
    start = time.perf_counter()
    model.load_state_dict(load_file(folder / "model.safetensors", str(DEVICE)), assign=True)
    synchronize()
    return model, time.perf_counter() - start


def bytes_of(model: Csm, prefix: str) -> int:
    """Bytes of the weights below a module, packed or not."""
    if isinstance(model, QuantizedCsm):
        return sum(tensor.nbytes for name, tensor in model.tensors.items() if name.startswith(prefix))
    return sum(tensor.nbytes for name, tensor in model.state_dict().items() if name.startswith(prefix))


def bytes_of_a_frame(model: Csm, mimi: Mimi, rows: int) -> dict[str, int]:
    """Bytes that each part reads: the depth decoder reads its weights 31 times, the backbone also keys and values of
    `rows` positions."""
    backbone, element = CONFIG.backbone, model.audio_embeddings.weight.element_size()
    cached = backbone.layers * 2 * backbone.kv_heads * backbone.head_dim * element * rows
    codec = sum(
        parameter.nbytes
        for name, parameter in mimi.named_parameters()
        if name.startswith(("decoder_transformer", "seanet_decoder", "upsample", "quantiser.output_proj"))
    )
    return {
        "backbone": bytes_of(model, "backbone") + cached,
        "depth steps": (CONFIG.audio_codebooks - 1) * (bytes_of(model, "decoder") + bytes_of(model, "projection")),
        "heads": bytes_of(model, "codebook0_head") + bytes_of(model, "audio_head"),
        "codec": codec,
    }


def random_mimi(codebooks: int = CONFIG.audio_codebooks) -> Mimi:
    mimi = Mimi(MimiConfig(codebooks=codebooks))
    for parameter in mimi.parameters():
        parameter.data = torch.randn(parameter.shape) * 0.02
    return mimi.to(DEVICE).eval()


def memory() -> float:
    """Peak memory in GB, of the GPU if there is one, otherwise of the process."""
    if GPU:
        return torch.cuda.max_memory_allocated() / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9


def prompt(rows: int, codebooks: int = CONFIG.audio_codebooks, text: int = TEXT) -> Tensor:
    drawn = torch.randint(1, 2000, (rows, codebooks + 1), generator=torch.Generator().manual_seed(0))
    drawn[-text:, :-1] = -1
    drawn[:-text, -1] = -1
    return drawn


def run_ours(way: str, folder: Path, frames: int) -> dict[str, float]:
    model, loading = make(way, folder)
    if GPU:
        torch.cuda.reset_peak_memory_stats()
    mimi = random_mimi()
    graphs = GPU and way == "bf16"
    engine: Engine = GraphEngine(model) if graphs else Engine(model)
    decoder: Any = choose_decoder(mimi, model) if graphs or not GPU else mimi.decoder()
    draws, sampling = Noise(engine, Sampling(seed=0)), Sampling()
    known = prompt(REFERENCE + TEXT)

    def frame() -> None:
        codes = engine.next_frame(sampling.temperature, sampling.topk, draws.next())
        decoder.step(codes[:, :, None]).cpu()

    def first_sound() -> None:
        engine.prefill([known])
        frame()

    first = []
    for _ in range(6):
        engine.forget()
        engine.prefill([known[:REFERENCE]])  # the session knows the voice
        first += timed(first_sound, 1)
    for _ in range(3):
        frame()
    taken = timed(frame, frames)
    peak = memory()
    read = bytes_of_a_frame(model, mimi, REFERENCE + TEXT + frames // 2)
    depth = read["depth steps"]
    other = sum(read.values()) - depth
    slow = bandwidth(1 << 30)
    once = depth // (CONFIG.audio_codebooks - 1)
    fast = max(slow, bandwidth(once))
    return {
        "frame": statistics.median(taken),
        "best": min(taken),
        "first": statistics.median(first[1:]),
        "first_call": first[0],
        "load": loading,
        "memory": peak,
        "read": (depth + other) / 1e9,
        "bandwidth": slow / 1e9,
        "cached_bandwidth": fast / 1e9,
        "floor": (depth + other) / slow * 1e3,
        "cached_floor": (depth / fast + other / slow) * 1e3,
    }


def run_profile(way: str, folder: Path, frames: int) -> str:
    from benchmarks import csm_profile

    model, mimi = make(way, folder)[0], random_mimi()
    engine = Engine(model)
    engine.prefill([prompt(REFERENCE + TEXT)])
    parts = csm_profile.measure(engine, choose_decoder(mimi, model), frames)
    read = bytes_of_a_frame(model, mimi, REFERENCE + TEXT + frames // 2)
    return csm_profile.table(parts, read, bandwidth(1 << 30))


def run_slots(count: int, frames: int) -> dict[str, float]:
    """Measure `count` conversations at once, and the time to first sound of one that begins while all others speak."""
    model, mimi = random_model().to(DEVICE), random_mimi()
    slots = Slots(model, mimi, count, length=512)
    rows = prompt(REFERENCE + TEXT)
    for slot in [slots.join() for _ in range(count)]:
        slots.prefill(slot, rows[:REFERENCE])
        slots.say(slot, rows, 512 - len(rows), Sampling(seed=slot))
    for _ in range(3):
        slots.step()
    taken = timed(slots.step, frames)
    first = []
    for _ in range(5):
        slots.prefill(0, rows[:REFERENCE])
        start = time.perf_counter()
        slots.say(0, rows, 512 - len(rows))
        slots.step()
        first.append((time.perf_counter() - start) * 1e3)
    return {
        "frame": statistics.median(taken),
        "best": min(taken),
        "first": statistics.median(first),
        "memory": memory(),
    }


def run_transformers(compiled: bool) -> dict[str, float]:
    """Measure transformers' generate: frames as the difference of two lengths, the codec over 25 frames."""
    from transformers import CsmConfig as TheirConfig
    from transformers import CsmForConditionalGeneration
    from transformers.initialization import no_init_weights

    start = time.perf_counter()
    torch.set_default_dtype(torch.bfloat16)
    with no_init_weights(), DEVICE:
        theirs: Any = CsmForConditionalGeneration(TheirConfig())
    theirs.eval()
    torch.set_default_dtype(torch.float32)
    for _, tensor in theirs.named_parameters():
        tensor.data = random_like(tensor)
    making = time.perf_counter() - start
    if compiled:
        theirs.generation_config.cache_implementation = "static"
        theirs.depth_decoder.generation_config.cache_implementation = "static"
        theirs.generation_config.max_length = 256
        for module in (theirs, theirs.depth_decoder):
            module.forward = torch.compile(module.forward, fullgraph=True, mode="reduce-overhead")
    rows = REFERENCE + TEXT
    embeds = (torch.randn(1, rows, CONFIG.backbone.dim, device=DEVICE) * 0.02).bfloat16()
    mask = torch.ones(1, rows, dtype=torch.int64, device=DEVICE)

    def generate(count: int) -> Tensor:
        frames: Tensor = theirs.generate(
            inputs_embeds=embeds, attention_mask=mask, max_new_tokens=count, min_new_tokens=count, do_sample=True
        )
        return frames

    for _ in range(4 if compiled else 1):
        generate(2)
    short, long = 1, 6 if not GPU else 26
    first = statistics.median(timed(lambda: generate(short), 3))
    whole = statistics.median(timed(lambda: generate(long), 3))
    codes = torch.randint(0, 2048, (1, CONFIG.audio_codebooks, 25), device=DEVICE)
    with torch.inference_mode():
        theirs.codec_model.decode(codes)
        codec = statistics.median(timed(lambda: theirs.codec_model.decode(codes), 3)) / 25
        at_once = statistics.median(timed(lambda: theirs.codec_model.decode(codes[:, :, :1]), 3))
    frame = (whole - first) / (long - short) + codec
    return {"frame": frame, "best": frame, "first": first + at_once, "load": making, "memory": memory()}


def run_mlx(way: str, frames: int, python: Path | None, check: bool, rows: int) -> dict[str, float]:
    from benchmarks import csm_mlx

    config = CONFIG
    if check:
        backbone, decoder = (replace(stack, layers=1) for stack in (CONFIG.backbone, CONFIG.decoder))
        config = replace(CONFIG, backbone=backbone, decoder=decoder, audio_codebooks=4)
    if way in MLX_AUDIO:
        assert python is not None
        return csm_mlx.run_mlx_audio(way, python, config, rows, frames)
    heard = rows * REFERENCE // (REFERENCE + TEXT)
    known = prompt(rows, config.audio_codebooks, rows - heard)
    return csm_mlx.run(way, random_model(config), random_mimi(config.audio_codebooks), known, heard, frames)


def run_one(way: str, frames: int, python: Path | None, check: bool, rows: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        if way.startswith("mlx"):
            found = run_mlx(way, frames, python, check, rows)
        elif way.startswith("transformers"):
            found = run_transformers(way.endswith("compiled"))
        elif way.startswith("slots"):
            found = run_slots(int(way.split("-")[1]), frames)
        else:
            found = run_ours(way, Path(folder), frames)
    return found | {"busy": os.getloadavg()[0]}


def machine() -> str:
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
        name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), name)
    gpu = f", {torch.cuda.get_device_name()}" if GPU else ""
    return (
        f"{name}, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}{gpu}; "
        f"torch {torch.__version__}, {time.strftime('%Y-%m-%d')}"
    )


def table(results: dict[str, dict[str, float]]) -> str:
    head = ["way", "ms a frame (best)", "real-time factor", "first sound (first call), ms", "load, s", "memory, GB"]
    head += ["read a frame, GB", "floor, ms", "÷ floor", "cached floor, ms", "faster than transformers"]
    peers = [found["frame"] for way, found in results.items() if way.startswith("transformers")]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for way, found in results.items():
        cells = [way, f"{found['frame']:.1f} ({found['best']:.1f})", f"{found['frame'] / FRAME_MS:.3f}"]
        cells.append(f"{found['first']:.0f}" + (f" ({found['first_call']:.0f})" if "first_call" in found else ""))
        cells.append(f"{found['load']:.2f}" if "load" in found else "–")
        cells.append(f"{found['memory']:.1f}")
        if "floor" in found:
            cells += [f"{found['read']:.2f}", f"{found['floor']:.1f}", f"{found['frame'] / found['floor']:.2f}"]
            cells.append(f"{found['cached_floor']:.1f}")
        else:
            cells += ["–"] * 4
        cells.append(f"{min(peers) / found['frame']:.1f} ×" if peers else "–")
        lines.append("| " + " | ".join(cells) + " |")
    floors = [found for found in results.values() if "bandwidth" in found]
    notes = [f"{machine()}. Load average {min(f['busy'] for f in results.values()):.1f}"]
    notes[0] += f" to {max(f['busy'] for f in results.values()):.1f} while it ran."
    if stated := [found["stated_bandwidth"] for found in results.values() if "stated_bandwidth" in found]:
        told = ", ".join(
            f"{way} {found['stated_floor']:.1f} ms" for way, found in results.items() if "stated_floor" in found
        )
        notes.append(f"Apple states {stated[0]:.0f} GB/s for this chip: floors {told}.")
    if floors:
        slow, fast = (statistics.median(f[key] for f in floors) for key in ("bandwidth", "cached_bandwidth"))
        notes.append(
            f"Read bandwidth {slow:.0f} GB/s, of something as large as the packed depth decoder {fast:.0f} GB/s."
        )
    return "\n".join([*lines, "", *notes])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = list(dict.fromkeys((*(ON_GPU if GPU else ON_CPU), *ALSO)))
    parser.add_argument("--only", nargs="+", choices=known, help="which ways (default: those that suit this machine)")
    parser.add_argument("--frames", type=int, default=40, help="frames that are timed (default 40)")
    parser.add_argument("--output", type=Path, help="also write the table into this file")
    parser.add_argument("--mlx-audio", type=Path, metavar="PYTHON", help="a Python with mlx-audio, to run beside MLX")
    parser.add_argument(
        "--check", action="store_true", help="MLX with one layer of each stack and four codebooks: only to see it run"
    )
    parser.add_argument(
        "--rows", type=int, metavar="N",
        help=f"rows of the prompt that MLX hears, from 2 (default {REFERENCE + TEXT}: a reference of 10 s, a sentence)",
    )  # fmt: skip
    parser.add_argument("--profile", action="store_true", help="only tell where the time of a frame goes")
    parser.add_argument("--child", choices=known, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    peer: Path | None = arguments.mlx_audio
    rows: int = (8 if arguments.check else REFERENCE + TEXT) if arguments.rows is None else arguments.rows
    if arguments.child:
        print(json.dumps(run_one(arguments.child, arguments.frames, peer, arguments.check, rows)))
        return
    if arguments.profile:
        for way in arguments.only or PACKED:
            with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
                print(f"{way}\n\n{run_profile(way, Path(folder), arguments.frames)}\n", flush=True)
        print(f"{machine()}. Load average {os.getloadavg()[0]:.1f}.")
        return
    if not 2 <= rows <= CONFIG.backbone.context - arguments.frames:
        raise SystemExit(f"A prompt must have 2 rows, and leave room for {arguments.frames} frames.")
    here = Machine.here()
    ways = arguments.only or (ON_GPU if GPU else ON_MLX if here.apple_silicon and here.mlx else ON_CPU)
    if "mlx" in ways:
        ways = dict.fromkeys((*ways, *ON_MLX, *(MLX_AUDIO if peer is not None else ())))
    if any(way in ON_MLX for way in ways) and not has_mlx():
        raise SystemExit("MLX is not installed.")
    if peer is None and any(way in MLX_AUDIO for way in ways):
        raise SystemExit("Name a Python with mlx-audio: --mlx-audio PYTHON.")
    results = {}
    for way in ways:
        print(f"{way} …", file=sys.stderr, flush=True)
        command = [sys.executable, __file__, "--child", way, "--frames", str(arguments.frames)]
        command += ["--rows", str(rows)]
        command += ["--mlx-audio", str(peer)] if peer is not None else []
        command += ["--check"] if arguments.check else []
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            print(f"{way} did not run (exit status {done.returncode})", file=sys.stderr)
            continue
        results[way] = json.loads(done.stdout.splitlines()[-1])
        print({key: round(value, 3) for key, value in results[way].items()}, file=sys.stderr, flush=True)
    if not results:
        raise SystemExit("nothing ran")
    text = table(results)
    if rows != REFERENCE + TEXT and any(way.startswith("mlx") for way in results):
        text += f"\n\nMLX heard a prompt of {rows} rows: its first sound is no measure of a conversation's."
    if arguments.check:
        text += "\n\nOne layer of each stack, four codebooks: these figures say that it runs, and nothing else."
    print(text)
    if arguments.output:
        arguments.output.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
