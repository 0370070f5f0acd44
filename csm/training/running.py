"""Run a training from its first step to its last: train, evaluate, speak, save and plot. For csm-train and the page."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import soundfile

from ..synthesis import Generator
from ..writing import replacing
from .journal import Journal, Line
from .measure import Speaker, judge, speak
from .trainer import Trainer

__all__ = ["Speaking", "estimate", "run_training", "told"]


class Speaking:
    """Speaks sentences with the current weights, as files in `folder`, and measures their likeness to the speaker."""

    def __init__(self, generator: Generator, sentences: Sequence[str], number: int, folder: Path) -> None:
        self._generator, self._sentences, self._number, self._folder = generator, sentences, number, folder
        self.speaker: Speaker | None = None
        """The speaker to compare with, if likeness is to be measured."""

    def __call__(self, step: int) -> float | None:
        self._generator.csm.eval()
        reference = self.speaker.reference() if self.speaker else None
        spoken = speak(self._generator, self._sentences, self._number, reference)
        for number, (_, sound, _) in enumerate(spoken, 1):
            with replacing(self._folder / f"step-{step:06}-{number}.wav") as partial:
                soundfile.write(partial, sound.clamp(-1, 1).numpy(), self._generator.sample_rate, format="WAV")
        return judge(spoken, self.speaker).likeness


def run_training(
    trainer: Trainer,
    journal: Journal | None,
    *,
    speaking: Speaking | None = None,
    stop: Callable[[], bool] = lambda: False,
    tell: Callable[[Line, float], None] = lambda line, left: None,
    clock: Callable[[], float] = time.perf_counter,
) -> bool:
    """Train until the last step, or until `stop` returns true between two steps; return whether the training is
    complete. In both cases the progress is saved. `tell` is called with each step and the seconds that are left.

    journal: only the first rank has one. Raises TrainingStopped.
    """
    settings, ranks = trainer.settings, trainer.ranks
    first, begun = trainer.step, clock()
    last = begun
    for step in trainer.steps():
        at_end = step.step == settings.steps
        held_out = trainer.evaluate() if at_end or step.step % settings.evaluate_every == 0 else None
        likeness = None
        if speaking is not None and settings.speak_every and (at_end or step.step % settings.speak_every == 0):
            likeness = speaking(step.step) if ranks.first else None
            ranks.wait()
        now = clock()
        if journal is not None:
            line = journal.add(step, now - last, held_out, likeness)
            tell(line, (now - begun) / (step.step - first) * (settings.steps - step.step))
        last = now
        stopping = bool(ranks.sum([float(stop())])[0])  # all ranks or none
        if at_end or stopping or step.step % settings.save_every == 0:
            trainer.save()
        if journal is not None and (at_end or stopping or held_out is not None):
            journal.draw()
        if stopping and not at_end:
            return False
    return True


def estimate(trainer: Trainer, batches: int, clock: Callable[[], float] = time.perf_counter) -> float:
    """Estimate the seconds of a step of that many batches by computing one. Nothing is kept or written.

    trainer: a new one, whose settings have no accumulation.
    """
    lengths, batch = trainer.lessons.lengths, trainer.order[0]
    begun = clock()
    next(trainer.steps())
    took = clock() - begun
    typical = trainer.settings.batch * sum(lengths) / len(lengths)
    return took * batches * typical / sum(lengths[clip] for clip in batch)


def told(line: Line, steps: int, left: float) -> str:
    """A line for people about a step."""
    parts = [f"step {line.step}/{steps}", f"loss {line.code0 + line.depth:.3f}",
             f"(code 0 {line.code0:.3f}, others {line.depth:.3f})"]  # fmt: skip
    if line.held_out_code0 is not None and line.held_out_depth is not None:
        parts.append(f"held out {line.held_out_code0 + line.held_out_depth:.3f}")
    if line.likeness is not None:
        parts.append(f"likeness {line.likeness:.2f}")
    minutes = round(left / 60)
    parts.append(f"{line.seconds:.1f} s a step, {f'{minutes} min' if minutes else f'{left:.0f} s'} left")
    return "  ".join(parts)
