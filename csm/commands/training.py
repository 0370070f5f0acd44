"""The command csm-train: train a voice on a prepared folder. With several GPUs: torchrun --nproc-per-node N -m
csm.commands.training …"""

from __future__ import annotations

import signal
from argparse import BooleanOptionalAction
from collections.abc import Sequence
from dataclasses import MISSING, fields, replace
from pathlib import Path
from types import FrameType

from .events import Tell
from .parser import INTERRUPTED, Arguments, Parser, run
from .speaking import most_held, say

__all__ = ["train_command"]

HELP = {
    "mode": "train an adapter of a few megabytes (lora) or all weights, with 25 GB of memory (full; default lora)",
    "rank": "rank of A and B (default 32)",
    "alpha": "scale of the adapter, which is alpha / rank (default 32)",
    "dropout": "dropout of A's input (default 0)",
    "steps": "steps of the optimiser (default 300)",
    "batch": "clips computed at once (default 2)",
    "accumulation": "batches before the weights change (default 4)",
    "learning_rate": "learning rate (default 2e-4 for lora, 2e-5 for full)",
    "schedule": "how the learning rate falls (default cosine)",
    "warmup": "steps in which the learning rate first rises (default 10)",
    "weight_decay": "weight decay (default 0.01)",
    "clip": "maximum norm of the gradient (default 1)",
    "depth_share": "share of the frames whose later codes are trained (default 1/16; 0.25 to 1 for an hour or less)",
    "reference_share": "share of the clips with another clip of the voice as context (default 0.5)",
    "precision": "precision: bf16 or fp32 (default bf16)",
    "activation_checkpointing": "use less memory and a third more time",
    "seed": "seed of everything random (default 0)",
    "save_every": "steps between checkpoints (default 50)",
    "keep": "checkpoints kept besides the best (default 2)",
    "evaluate_every": "steps between evaluations on the held-out clips (default 25)",
    "speak_every": "steps between sentences spoken as files (default 0: never)",
}
CHOICES = {"mode": ("lora", "full"), "schedule": ("cosine", "linear"), "precision": ("bf16", "fp32")}
KINDS = {"learning_rate": float}


def train_command(arguments: Sequence[str] | None = None) -> int:
    """Train a voice."""
    from ..training.lora import EXTRAS
    from ..training.settings import Settings

    parser = Parser(
        "csm-train", description="Train a voice on the output of csm-prepare. Ctrl-C stops and keeps what was learnt."
    )
    add = parser.add_argument
    add("data", type=Path, help="the prepared folder")
    add(
        "--out",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="folder for the adapter, checkpoints, metrics.csv and training.png",
    )
    add("--consent", default="", metavar="NAME", help="full name of the speaker, who has agreed to this training")
    add("--model", default="sesame/csm-1b", help="a folder, or a name on the Hugging Face hub (default sesame/csm-1b)")
    add("--device", help="device: cpu, cuda, … (default: the GPU if there is one)")
    add("--resume", action="store_true", help="continue the training in the folder of --out")
    add("--sentence", action="append", metavar="TEXT", help="a sentence to speak every N steps; may be repeated")
    add("--speaker", type=int, default=0, metavar="N", help="who says it (default 0)")
    add("--speaker-encoder", type=Path, metavar="FILE", help="Resemblyzer's weights (default: downloaded once, 17 MB)")
    add("--tensorboard", action="store_true", help="also write logs for TensorBoard")
    add(
        "--estimate",
        action="store_true",
        help="do not train, but compute one batch and estimate how long the training would take here",
    )
    add("--json", action="store_true", help="print a line of JSON for each step, for programs")
    add("--debug", action="store_true", help="show where an error came from")
    for field in fields(Settings):
        name = f"--{field.name.replace('_', '-')}"
        if field.name == "extras":
            add(name, nargs="*", choices=EXTRAS, default=[], help="what to train besides the layers' matrices")
        elif field.type == "bool":
            add(name, action=BooleanOptionalAction, default=field.default, help=HELP[field.name])
        elif field.name in CHOICES:
            add(name, choices=CHOICES[field.name], default=field.default, help=HELP[field.name])
        else:
            assert field.default is not MISSING
            add(name, type=KINDS.get(field.name, type(field.default)), default=field.default, help=HELP[field.name])
    return run(parser, _train, arguments)


def _train(given: Arguments) -> int:
    import torch

    from ..devices import pick_device
    from ..generator import load_csm_1b
    from ..loading import resolve
    from ..training.adapters import Consent
    from ..training.dataset import lessons
    from ..training.journal import Journal
    from ..training.likeness import EncoderMissing, load_speaker_encoder
    from ..training.measure import SENTENCES, Speaker
    from ..training.ranks import joined
    from ..training.running import Speaking, estimate, run_training, told
    from ..training.settings import Settings
    from ..training.trainer import Trainer
    from ..writing import make_folder

    consent, tell = Consent(given.consent), Tell(given.json)

    def note(line: str) -> None:
        tell("note", line)

    options = {field.name: getattr(given, field.name) for field in fields(Settings)}
    settings = Settings(**options | {"extras": tuple(given.extras)})
    if not given.estimate:
        make_folder(given.out)
    with joined(pick_device(given.device)) as ranks:
        half = settings.mode == "lora" and settings.precision == "bf16"
        generator = load_csm_1b(ranks.device, given.model, torch.bfloat16 if half else torch.float32)
        # An estimate computes one batch; the real step has as many as are accumulated.
        taken = replace(settings, accumulation=1) if given.estimate else settings
        data = lessons(given.data, generator.prompter, settings.reference_share)
        trainer = Trainer(
            generator.csm,
            data,
            taken,
            given.out,
            ranks=ranks,
            consent=consent,
            base=str(given.model),
            folder_of_model=resolve(given.model),
            say=note,
        )
        if given.estimate:
            step_s, held = estimate(trainer, settings.accumulation), most_held()
            memory = max(held.values(), default=0)
            tell("estimate", _estimated(step_s, settings.steps, memory), step_s=step_s, memory=memory)
            return 0
        if given.resume:
            note(
                f"Continues after step {trainer.step}."
                if trainer.resume()
                else "There is nothing to resume: training starts from the beginning."
            )
        elif trainer.checkpoints.last() is not None:
            raise ValueError(f"There is already a training in {given.out}: add --resume, or choose another folder.")
        journal = Journal(given.out, trainer.step, given.tensorboard) if ranks.first else None
        speaking = Speaking(generator, given.sentence or SENTENCES[:2], given.speaker, given.out / "samples")
        if settings.speak_every and ranks.first:
            try:
                encoder = load_speaker_encoder(given.speaker_encoder)
                speaking.speaker = Speaker(given.data, given.speaker, encoder)
            except EncoderMissing as missing:
                note(f"Similarity is not measured. {missing}")
        with _Stopping() as stopping:
            done = run_training(
                trainer,
                journal,
                speaking=speaking,
                stop=lambda: stopping.asked,
                tell=lambda line, left: tell(
                    "step", told(line, settings.steps, left), step=line.step, steps=settings.steps, left_s=left
                ),
            )
        if not done:
            tell("stopped", f"Stopped after step {trainer.step}; everything is kept. Continue with --resume.")
            return INTERRUPTED
        if ranks.first:
            target = trainer.export()
            option = "--adapter" if settings.mode == "lora" else "--model"
            line = f"{target}: speak with it: csm-generate {option} {target} --text …"
            if given.json:
                tell("done", line)
            else:
                print(line)
    return 0


def _estimated(step_s: float, steps: int, memory: int) -> str:
    hours = step_s * steps / 3600
    time = f"{hours:.1f} hours" if hours >= 1.5 else f"{hours * 60:.0f} minutes"
    return f"A step takes about {step_s:.1f} s here, and {steps} of them {time}; {memory / 2**30:.1f} GB of memory."


class _Stopping:
    """The first Ctrl-C, or a request by the system to end, stops after the step; the second stops at once."""

    def __init__(self) -> None:
        self.asked = False

    def __enter__(self) -> _Stopping:
        self._before = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        say("Stopping after this step; what was learnt is kept. Press Ctrl-C again to stop at once.")


if __name__ == "__main__":
    raise SystemExit(train_command())
