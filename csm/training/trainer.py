"""The training loop: batches in, better weights out, and at any moment a state from which to continue.

One step of the optimiser reads `accumulation` batches on each rank. Every sum is divided by the counts of all of them
together, so the step equals that of one large batch, however it was cut and distributed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from ..checkpoint.adapter_formats import write_adapter
from ..checkpoint.checkpoint import save
from ..checkpoint.merging import save_whole
from ..errors import CsmError, first_line
from ..model import Csm
from ..writing import CannotWrite, replacing
from .adapters import Consent, adapter_of
from .checkpoints import Checkpoints, Progress, ResumeRefused
from .held_out import HeldOut, held_out_loss
from .lora import attach, lora_modules
from .loss import Batch, Counts, Example, Losses, frame_losses, pick_depth
from .order import Order, generator_of, seed_of
from .ranks import Ranks
from .settings import Settings, differences

__all__ = ["Lessons", "Step", "Trainer", "TrainingStopped"]


class TrainingStopped(CsmError):
    """A training cannot continue as it is. The message says what to do; the last checkpoint is untouched."""


@dataclass(frozen=True)
class Step:
    """The results of a step: losses (nats per code), and the norm of the gradient before it was clipped."""

    step: int
    epoch: float
    code0: float
    depth: float
    learning_rate: float
    gradient: float

    @property
    def loss(self) -> float:
        return self.code0 + self.depth


class Lessons:
    """The training data: `train(clip, draw)` and `held_out[i]` give Examples; `lengths` are those of the clips."""

    def __init__(
        self, lengths: Sequence[int], train: Callable[[int, torch.Generator], Example], held_out: Sequence[Example]
    ) -> None:
        self.lengths, self.train, self.held_out = lengths, train, held_out


class _Learner(nn.Module):
    """The losses as a forward pass, which DistributedDataParallel can wrap."""

    def __init__(self, model: Csm) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        losses = frame_losses(self.model, batch)
        return losses.code0, losses.depth


class Trainer:
    """Trains `model` in place. Iterate over `steps()`; between two steps you may evaluate, save, speak or stop.

    base: the model's published name, which is written into the adapter.
    folder_of_model: the folder of its tokenizer and codec, which are exported with a whole model.
    """

    def __init__(
        self,
        model: Csm,
        lessons: Lessons,
        settings: Settings,
        folder: Path,
        *,
        ranks: Ranks | None = None,
        consent: Consent | None = None,
        base: str = "sesame/csm-1b",
        folder_of_model: Path | None = None,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        if not lessons.lengths:
            raise TrainingStopped(
                "There is no clip to learn from. See what csm-prepare has dropped, and why, in report.txt."
            )
        self.model, self.lessons, self.settings, self.folder = model, lessons, settings, folder
        self.ranks, self.consent, self.say = ranks or Ranks(), consent, say
        self._base, self._folder_of_model = base, folder_of_model
        self.checkpoints = Checkpoints(folder / "checkpoints", settings.keep)
        self.order = Order(lessons.lengths, settings.batch, settings.seed)
        self.step = 0
        """Steps done."""
        self.parts = 1
        """The number of parts into which a batch is cut, because memory does not hold it whole."""
        self.held_out: HeldOut | None = None
        """The held-out loss of the current weights, if it was measured."""
        torch.manual_seed(settings.seed)
        self.trained = self._prepare_weights()
        self.optimiser = torch.optim.AdamW(self.trained, settings.peak_rate, weight_decay=settings.weight_decay)
        learner = _Learner(model)
        self._learner: nn.Module = DistributedDataParallel(learner) if self.ranks.world > 1 else learner

    def steps(self) -> Iterator[Step]:
        """Train to the last step. Raises TrainingStopped."""
        while self.step < self.settings.steps:
            yield self._next_step()

    def evaluate(self) -> HeldOut | None:
        """The loss on the held-out clips; None if there are none."""
        examples, seed = self.lessons.held_out, self.settings.seed
        self.held_out = held_out_loss(self.model, examples, seed, self.ranks, self._autocast())
        return self.held_out

    def save(self) -> None:
        """Save a checkpoint. Raises TrainingStopped if it cannot be written."""
        if self.ranks.first:
            held_out = self.held_out.loss if self.held_out else None
            progress = Progress(self.step, held_out, self.parts, self.settings.described())
            state = {
                "weights": [weight.detach() for weight in self.trained],
                "optimiser": self.optimiser.state_dict(),
            }
            try:
                self.checkpoints.save(progress, state, self._write_adapter)
            except CannotWrite as error:
                raise TrainingStopped(f"{error} {self._go_on()}") from error
        self.ranks.wait()

    def resume(self) -> bool:
        """Continue from the last checkpoint; return whether there is one. Raises ResumeRefused for other settings."""
        if (last := self.checkpoints.last()) is None:
            return False
        progress, state = self.checkpoints.progress(last), self.checkpoints.state(last)
        if different := differences(progress.settings, self.settings.described()):
            raise ResumeRefused(
                f"The training in {self.folder} has other settings ({'; '.join(different)}). Resume with the same "
                "ones, or train into another folder."
            )
        kept = state["weights"]
        if [weight.shape for weight in kept] != [weight.shape for weight in self.trained]:
            raise ResumeRefused(
                f"The training in {self.folder} belongs to a model of another shape. Use the same model."
            )
        with torch.no_grad():
            for weight, value in zip(self.trained, kept, strict=True):
                weight.copy_(value)
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.parts = progress.step, progress.parts
        return True

    def export(self) -> Path:
        """Export the best checkpoint (by held-out loss; otherwise the last) as an adapter's folder or a model's."""
        best = self.checkpoints.best()
        if best is None:
            raise TrainingStopped(f"There is no checkpoint in {self.folder} yet.")
        now = [weight.detach().clone() for weight in self.trained]
        try:
            self._set(self.checkpoints.state(best)["weights"])
            if self.settings.mode == "lora":
                target = self.folder / "adapter"
                self._write_adapter(target)
            else:
                target = self.folder / "model"
                self._write_model(target)
        finally:
            self._set(now)
        return target

    # -- one step ---------------------------------------------------------------------------------------------------

    def _next_step(self) -> Step:
        self.model.train()
        batches = [self._batch(number) for number in range(self.settings.accumulation)]
        rate = self.settings.rate(self.step)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        total = sum((batch.counts for batch in batches), Counts())
        counts = Counts(*(int(count) for count in self.ranks.sum([total.code0, total.depth])))
        try:
            code0, depth = self.ranks.sum(self._gradient(batches, counts))
            gradient = float(nn.utils.clip_grad_norm_(self.trained, self.settings.clip))
            self._check(code0 + depth, gradient)
            self.optimiser.step()
        except torch.AcceleratorError as error:
            raise TrainingStopped(
                f"{self.model.device} failed in step {self.step + 1} ({first_line(error)}). {self._go_on()}"
            ) from error
        self.step += 1
        self.held_out = None
        epoch = self.step * self.settings.accumulation * self.ranks.world / self.order.batches
        return Step(self.step, epoch, code0, depth, rate, gradient)

    def _batch(self, number: int) -> Batch:
        """One of the step's batches for this rank."""
        place = (self.step * self.settings.accumulation + number) * self.ranks.world + self.ranks.rank
        draw = generator_of(self.settings.seed, place, 1)
        examples = [self.lessons.train(clip, draw) for clip in self.order[place]]
        return Batch.of(examples, [pick_depth(one.frames, self.settings.depth_share, draw) for one in examples])

    def _gradient(self, batches: Sequence[Batch], counts: Counts) -> list[float]:
        """Accumulate the gradient of the whole step; return this rank's share of its losses."""
        while True:
            # Dropout's draws follow from the step, like the order of the clips, so no random state need be saved.
            torch.manual_seed(seed_of(self.settings.seed, self.step, self.ranks.rank))
            try:
                self.optimiser.zero_grad(set_to_none=True)
                return self._accumulated([part for batch in batches for part in _cut(batch, self.parts)], counts)
            except RuntimeError as error:
                if not _out_of_memory(error):
                    raise
                if self.parts >= self.settings.batch:
                    raise TrainingStopped(
                        f"One clip of this length does not fit into the memory of {self.model.device}. Train with "
                        "--activation-checkpointing, with a smaller --depth-share, or on shorter clips."
                    ) from error
            self.parts *= 2
            if self.model.device.type == "cuda":
                torch.cuda.empty_cache()
            self.say(
                f"The memory of {self.model.device} is full: from now on, each batch is computed in {self.parts} "
                "parts, one after the other. The result is the same."
            )

    def _accumulated(self, parts: Sequence[Batch], counts: Counts) -> list[float]:
        sums = torch.zeros(2)
        for number, part in enumerate(parts, 1):
            quiet: AbstractContextManager[Any] = nullcontext()
            if isinstance(self._learner, DistributedDataParallel) and number < len(parts):
                quiet = self._learner.no_sync()  # ranks exchange gradients only once per step
            with quiet:
                with self._autocast():
                    losses = Losses(*self._learner(part.to(self.model.device)))
                # DistributedDataParallel takes the mean over ranks, but the counts are already those of all ranks.
                (losses.mean(counts) * self.ranks.world).backward()  # type: ignore[no-untyped-call]
            sums += torch.stack((losses.code0.detach(), losses.depth.detach())).cpu()
        return [float(sums[0]) / max(counts.code0, 1), float(sums[1]) / max(counts.depth, 1)]

    def _check(self, loss: float, gradient: float) -> None:
        if not torch.tensor([loss, gradient]).isfinite().all():
            raise TrainingStopped(
                f"The loss of step {self.step + 1} is not a number (loss {loss}, gradient {gradient}); the weights "
                f"were not changed. Use a lower learning rate than {self.settings.peak_rate:g}, more warm-up, or "
                f"--precision fp32. {self._go_on()}"
            )

    def _go_on(self) -> str:
        last = self.checkpoints.last()
        return f"Continue from {last} with --resume." if last else "No checkpoint has been written yet."

    # -- weights ----------------------------------------------------------------------------------------------------

    def _prepare_weights(self) -> list[nn.Parameter]:
        if self.settings.activation_checkpointing:
            for layer in [*self.model.backbone.layers, *self.model.decoder.layers]:
                layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)
        if self.settings.mode == "lora":
            if self.settings.precision == "fp32":
                self.model.float()
            return attach(self.model, self.settings.lora)
        for parameter in self.model.parameters():
            # float32, and in its own memory, because weights mapped from the checkpoint's file must not be written to.
            parameter.data = parameter.data.float().clone()
        self.model.requires_grad_(True)
        return list(self.model.parameters())

    def _autocast(self) -> AbstractContextManager[Any]:
        """Trained weights are float32; with bf16 their products are bfloat16. With LoRA, the base is bfloat16."""
        mixed = self.settings.mode == "full" and self.settings.precision == "bf16"
        return torch.autocast(self.model.device.type, torch.bfloat16, enabled=mixed)

    def _set(self, weights: Sequence[Tensor]) -> None:
        with torch.no_grad():
            for weight, value in zip(self.trained, weights, strict=True):
                weight.copy_(value)

    def _write_adapter(self, folder: Path) -> None:
        if any(True for _ in lora_modules(self.model)):
            write_adapter(adapter_of(self.model, self.consent), folder, self.model.config, self._base)

    def _write_model(self, folder: Path) -> None:
        if self._folder_of_model is None:
            save(self.model, folder)
        else:
            save_whole(self.model, self._folder_of_model, folder)
        if self.consent is not None:
            with replacing(folder / "consent.txt") as new:
                new.write_text(f"{self.consent.words}\n", encoding="utf-8")


def _cut(batch: Batch, parts: int) -> list[Batch]:
    """Cut a batch into parts of equal size, as far as possible."""
    pieces = [tensor.chunk(parts) for tensor in (batch.rows, batch.learnt, batch.depth)]
    return [replace(batch, rows=rows, learnt=learnt, depth=depth) for rows, learnt, depth in zip(*pieces, strict=True)]


def _out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
