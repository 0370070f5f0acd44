"""The history of a training: a line of metrics.csv for each step, and a plot of all of it, training.png."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ..writing import replacing, writing
from .held_out import HeldOut
from .trainer import Step

__all__ = ["Journal", "Line", "plot"]

METRICS, PICTURE = "metrics.csv", "training.png"


@dataclass(frozen=True)
class Line(Step):
    """A step, how long it took, and values that are measured only at some steps (otherwise None). likeness: cosine to
    the speaker's centroid."""

    seconds: float
    held_out_code0: float | None = None
    held_out_depth: float | None = None
    likeness: float | None = None


class Journal:
    """The lines so far, in memory and on disk. A journal opened at a step drops the lines after it, because those steps
    run again. Every method that writes raises CannotWrite."""

    def __init__(self, folder: Path, first_step: int = 0, tensorboard: bool = False) -> None:
        _can_draw()
        self.folder = folder
        self.lines = [line for line in _read(folder / METRICS) if line.step <= first_step]
        self._write_all()
        self._board: Any = _board(folder) if tensorboard else None

    def add(self, step: Step, seconds: float, held_out: HeldOut | None = None, likeness: float | None = None) -> Line:
        line = Line(
            **asdict(step),
            seconds=seconds,
            held_out_code0=held_out.code0 if held_out else None,
            held_out_depth=held_out.depth if held_out else None,
            likeness=likeness,
        )
        self.lines.append(line)
        path = self.folder / METRICS
        with writing(path), path.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file).writerow(_row(line))
        if self._board is not None:
            for name, value in zip(_names(), _row(line), strict=True):
                if value is not None and name != "step":
                    self._board.add_scalar(name, value, line.step)
        return line

    def draw(self) -> None:
        """Plot the lines so far."""
        plot(self.lines, self.folder / PICTURE)

    def _write_all(self) -> None:
        with replacing(self.folder / METRICS) as partial, partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(_names())
            writer.writerows(_row(line) for line in self.lines)


def plot(lines: Sequence[Line], path: Path) -> None:
    """Plot losses, learning rate, gradient norm, likeness and time over the steps, replacing the file completely.

    Raises CannotWrite.
    """
    from matplotlib.figure import Figure  # not pyplot, which keeps every figure and needs a display

    figure = Figure(figsize=(11, 7), layout="constrained")
    axes = figure.subplots(2, 3).flatten()
    steps = [line.step for line in lines]
    panels: list[tuple[str, list[tuple[str, str]]]] = [
        ("Loss of code 0", [("code0", "learnt"), ("held_out_code0", "held out")]),
        ("Loss of codes 1 to 31", [("depth", "learnt"), ("held_out_depth", "held out")]),
        ("Similarity to the speaker", [("likeness", "cosine")]),
        ("Learning rate", [("learning_rate", "")]),
        ("Norm of the gradient", [("gradient", "")]),
        ("Seconds a step", [("seconds", "")]),
    ]
    for axis, (title, curves) in zip(axes, panels, strict=True):
        for number, (name, label) in enumerate(curves):
            points = [(step, value) for step, line in zip(steps, lines, strict=True)
                      if (value := getattr(line, name)) is not None]  # fmt: skip
            marked = "o" if number or name == "likeness" else None
            axis.plot(*zip(*points, strict=True), label=label or None, marker=marked, markersize=4) if points else None
        axis.set_title(title)
        if name == "likeness":
            axis.set_ylim(0, 1)
        axis.set_xlabel("step")
        axis.grid(alpha=0.3)
        if axis.get_legend_handles_labels()[1]:
            axis.legend()
        elif not axis.lines:
            axis.text(0.5, 0.5, "not measured yet", ha="center", transform=axis.transAxes, alpha=0.6)
    with replacing(path) as partial:
        figure.savefig(partial, format="png", dpi=100)


def _read(path: Path) -> list[Line]:
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows = [
            row for row in csv.DictReader(file) if all(row.get(name) for name in _names()[:7])
        ]  # a killed run's last line may be incomplete
    return [Line(int(row["step"]), *(float(row[name]) if row[name] else None for name in _names()[1:])) for row in rows]  # type: ignore[arg-type]


def _row(line: Line) -> list[float | None]:
    return [getattr(line, name) for name in _names()]


def _names() -> list[str]:
    return [field.name for field in fields(Line)]


def _can_draw() -> None:
    """Check for matplotlib before a training begins, not at its first plot."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ValueError("matplotlib, which draws training.png, is not installed: pip install matplotlib.") from error


def _board(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ValueError(
            "TensorBoard is not installed: pip install tensorboard. Or leave out --tensorboard."
        ) from error
    return SummaryWriter(str(folder / "tensorboard"))
