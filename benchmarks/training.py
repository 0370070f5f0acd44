"""How fast a voice is trained, and with how much memory: csm, and transformers with peft, on the same batch.

    python -m benchmarks.training                 # CSM-1B's shapes, random weights; a GPU if there is one
    python -m benchmarks.training --shape tiny    # to see that it works

Both train the same adapter (r 32, the seven matrices of both stacks, float32 over a bfloat16 base, AdamW) on the same
clips, with the later codes of a sixteenth of the frames. Each runs in its own process, so that its peak memory is
measured separately. Weights are random: the losses mean nothing, but the costs are real.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from csm.checkpoint.adapter_formats import STACKS
from csm.model import Csm, CsmConfig
from csm.rows import sound_rows, text_rows
from csm.training.loss import Batch, Example, pick_depth
from csm.training.settings import Settings
from csm.training.trainer import Lessons, Trainer
from tests.csm.oracle import make_reference
from tests.csm.tiny import TINY

WORDS_PER_SECOND = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=("full", "tiny"), default="full")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each clip")
    parser.add_argument("--steps", type=int, default=2, help="that are measured, after one that is not")
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="bf16")
    parser.add_argument("--only", choices=("ours", "peft"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only:
        print(json.dumps(measured(given)))
        return
    results = {}
    for who in ("ours", "peft"):
        command = [sys.executable, "-m", "benchmarks.training", *sys.argv[1:], "--only", who]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        results[who] = json.loads(done.stdout.splitlines()[-1])
    device = "GPU" if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    print(f"{given.shape} shapes, {given.batch} × {given.seconds:g} s, {given.precision}, {device}")
    for who, result in results.items():
        name = "ours" if who == "ours" else "transformers + peft"
        print(f"{name:22}{result['step']:8.2f} s a step{result['memory']:8.2f} GB    loss {result['loss']:.3f}")
    print(f"ours takes {results['ours']['step'] / results['peft']['step']:.2f} × the time of transformers with peft")


def measured(given: argparse.Namespace) -> dict[str, float]:
    """Seconds per step (median), peak memory in GB, and the loss of the first step."""
    config = CsmConfig.csm_1b() if given.shape == "full" else TINY
    model = random_model(config, torch.float32 if given.precision == "fp32" else torch.bfloat16)
    examples = [clip(config, seed, given.seconds) for seed in range(given.batch)]
    step = (ours if given.only == "ours" else peft)(model, examples, given.precision)
    losses, times = [step()], []
    for _ in range(given.steps):
        begun = time.perf_counter()
        losses.append(step())
        if model.device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - begun)
    if model.device.type == "cuda":
        memory = torch.cuda.max_memory_allocated() / 2**30
    else:
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"step": statistics.median(times), "memory": memory, "loss": losses[0]}


def random_model(config: CsmConfig, dtype: torch.dtype) -> Csm:
    """Make the model on its device and in its dtype, so that the peak memory is the training's."""
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with torch.device("meta"):
        model = Csm(config)
    model = model.to(dtype).to_empty(device=device)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.02) if parameter.dim() > 1 else torch.nn.init.ones_(parameter)
    return model.requires_grad_(False)


def clip(config: CsmConfig, seed: int, seconds: float) -> Example:
    draw = torch.Generator().manual_seed(seed)
    words = round(seconds * WORDS_PER_SECOND)
    ids = torch.randint(0, config.text_vocab_size, (words,), generator=draw).tolist()
    codes = torch.randint(0, config.codes, (round(seconds * 12.5), config.audio_codebooks), generator=draw)
    return Example(torch.cat((text_rows(ids, config.audio_codebooks), sound_rows(codes))), len(codes) + 1)


def ours(model: Csm, examples: list[Example], precision: str) -> Callable[[], float]:
    kind: Literal["bf16", "fp32"] = "fp32" if precision == "fp32" else "bf16"
    settings = Settings(steps=1_000, batch=len(examples), accumulation=1, warmup=0, precision=kind)
    lessons = Lessons([len(one) for one in examples], lambda index, draw: examples[index], [])
    steps = Trainer(model, lessons, settings, Path(tempfile.gettempdir()) / "benchmark").steps()
    return lambda: next(steps).loss


def peft(model: Csm, examples: list[Example], precision: str) -> Callable[[], float]:
    from peft import LoraConfig, get_peft_model

    draw = torch.Generator().manual_seed(0)
    batch = Batch.of(examples, [pick_depth(one.frames, 1 / 16, draw) for one in examples]).to(model.device)
    reference = make_reference(model).to(model.device, model.dtype)
    model.to_empty(device="meta")  # the reference has its own copy by now
    learner: Any = get_peft_model(reference, LoraConfig(r=32, lora_alpha=32, target_modules=STACKS))
    trained = [parameter for parameter in learner.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trained, 2e-4, weight_decay=0.01)
    labels = torch.where(batch.learnt[..., None], batch.rows[..., :-1], -100)
    labels[..., 1:] = torch.where(batch.depth[..., None], labels[..., 1:], -100)

    def step() -> float:
        with torch.no_grad():
            embeds = embedded(reference, batch.rows)
        loss: Tensor = learner(inputs_embeds=embeds, labels=labels).loss
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        optimiser.zero_grad()
        return float(loss.detach())

    return step


def embedded(reference: Any, rows: Tensor) -> Tensor:
    text = reference.embed_text_tokens(rows[..., -1].clamp(min=0))
    sound = reference.backbone_model.embed_tokens(rows[..., :-1].clamp(min=0))
    return torch.where(rows[..., -1:] >= 0, text, sound)


if __name__ == "__main__":
    main()
