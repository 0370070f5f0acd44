"""Things to learn, made of random codes: clips whose text and sound say nothing."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from csm.checkpoint.adapters import Adapter
from csm.model import Csm
from csm.rows import sound_rows, text_rows
from csm.training.adapters import adapter_of
from csm.training.lora import LoraShape, attach, lora_modules
from csm.training.loss import Example
from csm.training.settings import Settings
from csm.training.trainer import Lessons, Trainer
from tests.csm.tiny import TINY, make_model

SMALL = Settings(
    rank=4, alpha=8, steps=6, batch=2, accumulation=2, learning_rate=1e-2, warmup=2, precision="fp32", save_every=2
)


def example(seed: int, words: int, frames: int, context: int = 0) -> Example:
    """Words and sound drawn at random, after a turn of `context` frames if there is one."""
    draw = torch.Generator().manual_seed(seed)

    def codes(count: int) -> Tensor:
        return torch.randint(0, TINY.codes, (count, TINY.audio_codebooks), generator=draw)

    def text(count: int) -> Tensor:
        ids = torch.randint(0, TINY.text_vocab_size, (count,), generator=draw)
        return text_rows(ids.tolist(), TINY.audio_codebooks)

    before = [text(3), sound_rows(codes(context))] if context else []
    return Example(torch.cat([*before, text(words), sound_rows(codes(frames))]), frames + 1)


def lessons(count: int = 6, held_out: int = 2) -> Lessons:
    """`count` clips of different lengths."""
    return of([example(seed, words=2 + seed % 3, frames=3 + seed % 5) for seed in range(count + held_out)], held_out)


def of(examples: Sequence[Example], held_out: int = 0) -> Lessons:
    clips, kept = list(examples[held_out:]), list(examples[:held_out])

    def train(clip: int, draw: torch.Generator) -> Example:
        torch.rand(1, generator=draw)  # as who chooses a reference does
        return clips[clip]

    return Lessons([len(clip) for clip in clips], train, kept)


def weights(trainer: Trainer) -> list[torch.Tensor]:
    """Those that are trained, as they are now."""
    return [weight.detach().clone() for weight in trainer.trained]


def learnt(model: Csm, *, extras: tuple[str, ...] = (), seed: int = 0) -> Csm:
    """A model with A and B attached, neither of them zero."""
    attach(model, LoraShape(rank=4, alpha=8, extras=extras))
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, lora in lora_modules(model):
            lora.a.copy_(torch.randn(lora.a.shape, generator=draw) * 0.1)
            lora.b.copy_(torch.randn(lora.b.shape, generator=draw) * 0.1)
        if "audio_head" in extras:
            model.audio_head.add_(0.1)
    return model


def random_adapter(seed: int = 0, extras: tuple[str, ...] = ()) -> Adapter:
    return adapter_of(learnt(make_model(), extras=extras, seed=seed))
