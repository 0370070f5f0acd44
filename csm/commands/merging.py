"""The command csm-merge: make a checkpoint from a model and an adapter."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .parser import Arguments, Parser, run

__all__ = ["merge_command"]


def merge_command(arguments: Sequence[str] | None = None) -> int:
    """Merge a model and an adapter into a checkpoint."""
    parser = Parser("csm-merge", description="Merge a model and an adapter into one checkpoint.")
    add = parser.add_argument
    add("adapter", type=Path, help="the adapter's folder: ours, peft's, Unsloth's, csm-mlx's or csm-streaming's")
    add("output", type=Path, help="folder to write")
    add("--model", default="sesame/csm-1b", help="a folder, or a name on the Hugging Face hub (default sesame/csm-1b)")
    add(
        "--format",
        choices=("original", "transformers"),
        default="original",
        help="format of the checkpoint (default original, which is Sesame's)",
    )
    add("--dtype", choices=("bfloat16", "float32", "float16"), help="precision (default: as the model is stored)")
    add("--alpha", type=float, help="alpha of an adapter from csm-streaming, which does not store it")
    return run(parser, _merge, arguments)


def _merge(given: Arguments) -> int:
    import torch

    from ..checkpoint.formats import FORMATS
    from ..checkpoint.merging import merge_checkpoint
    from ..loading import resolve

    form = next(form for form in FORMATS if form.title == given.format)
    dtype = getattr(torch, given.dtype) if given.dtype else None
    merge_checkpoint(resolve(given.model), given.adapter, given.output, form, dtype=dtype, alpha=given.alpha)
    print(f"{given.output}: a model in the {form.title} format. Speak with it: csm-generate --model {given.output}")
    return 0
