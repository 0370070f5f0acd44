"""What the commands do with speech while it is made: show progress, play, watermark, write and measure it."""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from ..model import Csm
from ..sound.audio_files import open_output
from ..sound.playback import NoSoundDevice, Playback
from ..sound.watermark import Watermark, WatermarkMissing, load_watermark
from ..synthesis import Generator

__all__ = ["Clock", "Metrics", "SpeechOutput", "find_watermark", "most_held", "say"]

Clock = Callable[[], float]


def say(message: str) -> None:
    """Print one line for the person at the terminal, on standard error: standard output may be a pipe of sound."""
    print(message, file=sys.stderr, flush=True)


def find_watermark(wanted: bool, stream: bool) -> Watermark | None:
    """Load the watermark if it is wanted and installed; otherwise print why the speech carries none."""
    if not wanted:
        say("The speech carries no watermark, as asked.")
    elif stream:
        say("The speech carries no watermark, because a watermark needs the whole recording and this one is streamed.")
    else:
        try:
            return load_watermark()
        except WatermarkMissing as missing:
            say(f"The speech carries no watermark. {missing}")
    return None


@dataclass
class Metrics:
    """When things happened, in seconds of `clock`."""

    clock: Clock = time.perf_counter
    loading: float = 0.0
    asked: float = 0.0
    first_sound: float | None = None
    ended: float = 0.0
    speech: float = 0.0
    stages: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """Seconds that each stage took, every time, if stages are measured."""

    def watch(self, generator: Generator) -> None:
        """Measure the stages of a frame if MLX computes it; each stage is then waited for."""
        if not isinstance(generator.model, Csm):
            self.stages = generator.model.stages = defaultdict(list)

    def lines(self) -> list[str]:
        """Lines for people. Memory is the peak."""
        took = self.ended - self.asked
        lines = [f"loading          {self.loading:8.2f} s"]
        if self.first_sound is not None:
            lines += [
                f"first sound after{self.first_sound - self.asked:8.3f} s",
                f"speech           {self.speech:8.2f} s, {round(self.speech * 12.5)} frames, made in {took:.2f} s",
                f"frames a second  {self.speech * 12.5 / took:8.2f}",
                f"real-time factor {took / self.speech:8.3f}",
            ]
        for stage, seconds in self.stages.items():
            lines.append(f"{stage:<17}{1e3 * sum(seconds) / len(seconds):8.1f} ms, {len(seconds)} times")
        memory = most_held()
        if self.stages:
            import mlx.core as mx

            memory[", MLX"] = mx.get_peak_memory()
        lines += [f"{f'memory{where}':16}{held / 2**30:9.2f} GB" for where, held in memory.items()]
        return lines


def most_held() -> dict[str, int]:
    """The peak memory in bytes: under "" that of this process, and under ", GPU" that of the GPU, if there is one."""
    held = {}
    if sys.platform != "win32":
        import resource

        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # in KiB; macOS counts bytes
        held[""] = most * (1 if sys.platform == "darwin" else 1024)
    if torch.cuda.is_available():
        held[", GPU"] = torch.cuda.max_memory_allocated()
    return held


@dataclass
class SpeechOutput:
    """Where speech goes. Use it as a context manager; what was said before an interruption is kept.

    Without `stream` the file is written at the end, watermarked; with `stream` every piece is written as it is made.
    """

    output: Path
    sample_rate: int
    likely_seconds: float
    stream: bool
    play: bool
    watermark: Watermark | None
    metrics: Metrics
    _said: list[Tensor] = field(default_factory=list)

    def __enter__(self) -> SpeechOutput:
        self._stack = ExitStack()
        with ExitStack() as opening:
            self._output = opening.enter_context(open_output(self.output, self.sample_rate))
            self._playback = self._open_playback(opening)
            self._bar = opening.enter_context(
                tqdm(
                    total=round(self.likely_seconds, 1),
                    desc="Speaking",
                    disable=None,
                    bar_format="{desc}: {bar:24} {n:.1f} s of speech in {elapsed}",
                )
            )
            self._stack = opening.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self.metrics.ended = self.metrics.clock()
        # Speech made before an error or an interruption is kept; a reader who closed the pipe needs no more.
        with self._stack:
            if self._said and not isinstance(error, BrokenPipeError):
                whole = torch.cat(self._said)
                self._output.write(self.watermark.write(whole, self.sample_rate) if self.watermark else whole)

    def say(self, chunks: Iterable[Tensor]) -> None:
        """Take the pieces of an utterance, float32 [samples], as they are made."""
        for chunk in chunks:
            if self.metrics.first_sound is None:
                self.metrics.first_sound = self.metrics.clock()
            self.metrics.speech += len(chunk) / self.sample_rate
            self._bar.update(len(chunk) / self.sample_rate)
            self._put(chunk)

    def pause(self, seconds: float) -> None:
        """Add silence between two lines."""
        self._put(torch.zeros(round(seconds * self.sample_rate)))

    def _put(self, chunk: Tensor) -> None:
        if self._playback is not None:
            self._playback.play(chunk)
        if self.stream:
            self._output.write(chunk)
        else:
            self._said.append(chunk)

    def _open_playback(self, opening: ExitStack) -> Playback | None:
        if not self.play:
            return None
        try:
            return opening.enter_context(Playback(self.sample_rate))
        except NoSoundDevice as error:
            say(f"{error}. The speech is written to {self.output} only.")
            return None
