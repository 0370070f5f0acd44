"""One utterance, from the first frame to the last: when it ends, and its sound as it is made."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from .backends.protocol import Frames, Spoken
from .codec.protocol import StreamingDecoder
from .errors import NoSpeech
from .sampling import draw_noise

__all__ = [
    "FRAMES_PER_SECOND",
    "Ending",
    "Sampling",
    "SoloTalker",
    "Speech",
    "Talker",
    "Utterance",
    "frames_a_chunk",
    "frames_asked",
    "frames_at_most",
    "frames_likely",
]

FRAMES_PER_SECOND = 12.5
REPEATS = 12
"""Identical frames after which speech counts as stuck: a second of identical codes does not occur in speech."""


@dataclass(frozen=True)
class Sampling:
    """How codes are drawn. A temperature of 0 takes the likeliest code; without a seed, every utterance differs."""

    temperature: float = 0.9
    topk: int = 50
    seed: int | None = None

    def __post_init__(self) -> None:
        if not (isinstance(self.temperature, int | float) and 0 <= self.temperature < math.inf):
            raise ValueError(f"The temperature must be a number, 0 or higher, not {self.temperature!r}.")
        if not (isinstance(self.topk, int) and self.topk >= 1):
            raise ValueError(f"topk must be a whole number, 1 or higher, not {self.topk!r}.")

    def cooler(self) -> Sampling:
        """The sampling for the second attempt after an empty result. The same seed would draw the same first frame only
        by chance."""
        return Sampling(0.75 * self.temperature, max(1, self.topk // 2), self.seed)

    def generator(self, device: torch.device, sequence: int = 0) -> torch.Generator:
        """The random generator for one sequence of a batch."""
        generator = torch.Generator(device)
        if self.seed is None:
            generator.seed()
        else:
            generator.manual_seed(self.seed + sequence)
        return generator


def frames_asked(text: str, max_audio_length_ms: float) -> int:
    """How many frames an utterance of speakable text may take: as requested, but no more than the text can need. Raises
    ValueError for less than one frame.
    """
    asked = int(max_audio_length_ms / 1000 * FRAMES_PER_SECOND)
    if asked < 1:
        raise ValueError(f"max_audio_length_ms must be at least one frame (80 ms), not {max_audio_length_ms!r}.")
    return min(asked, frames_at_most(text))


def frames_a_chunk(chunk_frames: int) -> int:
    """Return the number, or raise ValueError."""
    if chunk_frames < 1:
        raise ValueError(f"chunk_frames must be a whole number, 1 or higher, not {chunk_frames!r}.")
    return chunk_frames


def frames_likely(text: str) -> int:
    """About how many frames the text takes: 15 characters a second, a digit counting for four."""
    return math.ceil(_length(text) / 15 * FRAMES_PER_SECOND)


def frames_at_most(text: str) -> int:
    """An upper bound for the frames of the text: three times the likely number plus two seconds.

    A model that speaks for longer has lost its way.
    """
    return 3 * frames_likely(text) + int(2 * FRAMES_PER_SECOND)


def _length(text: str) -> int:
    # Bytes, because a Chinese character (three bytes) takes about as long to say as three letters.
    return len(text.encode()) + 3 * sum(character.isdigit() for character in text)


class Ending:
    """Decides whether a sequence is over: the model ended it (a frame of zeros), it is stuck, or it has `most` frames.

    Call it with each frame in turn, codes [codebooks] on the host. `frames` are those that belong to the speech.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.frames: list[Tensor] = []
        self.over = most <= 0

    def __call__(self, codes: Tensor) -> bool:
        """Take a frame; return whether it belongs to the speech."""
        if self.over or not codes.any():
            self.over = True
            return False
        self.frames.append(codes)
        last = self.frames[-REPEATS:]
        stuck = len(last) == REPEATS and all(torch.equal(frame, codes) for frame in last)
        self.over = stuck or len(self.frames) >= self.most
        return True


class Speech(ABC):
    """An utterance while it is made: iterate over its sound, float32 [1920] on the host for each frame.

    `frames` are the codes [codebooks] said so far. An utterance without a sound is tried once more at a lower
    temperature. Raises NoSpeech if it stays empty.
    """

    def __init__(self, sampling: Sampling, cancelled: Callable[[], bool]) -> None:
        self.sampling, self.cancelled = sampling, cancelled
        self.frames: list[Tensor] = []

    def __iter__(self) -> Iterator[Tensor]:
        yield from self._attempt(self.sampling)
        if not self.frames and not self.cancelled() and self.sampling.temperature > 0:
            yield from self._attempt(self.sampling.cooler())
        if not self.frames and not self.cancelled():
            raise NoSpeech("The model ended before the first sound. Use other words, or a longer context.")

    @abstractmethod
    def _attempt(self, sampling: Sampling) -> Iterator[Tensor]:
        """Yield the sound of one attempt. It starts `frames` anew and adds its codes to it."""


class Talker(Protocol):
    """Reads rows and speaks: what a `csm.Session` needs from the engine below it."""

    def prefill(self, rows: Tensor) -> None:
        """Read rows [n, codebooks + 1] ahead of time. Leading rows equal to the previous ones are not read again."""

    def utter(self, prompt: Tensor, most: int, sampling: Sampling, cancelled: Callable[[], bool]) -> Speech:
        """Return an utterance of at most `most` frames after the prompt. `cancelled` is called before each frame."""

    def close(self) -> None:
        """Release the talker: it will not speak again."""


class Utterance(Speech):
    """What an engine of one sequence says after a prompt (rows), in at most `most` frames."""

    def __init__(
        self,
        engine: Frames,
        decoder: StreamingDecoder,
        prompt: Tensor,
        most: int,
        sampling: Sampling,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        super().__init__(sampling, cancelled)
        self.engine, self.decoder = engine, decoder
        self.prompt, self.most = prompt, most

    def _attempt(self, sampling: Sampling) -> Iterator[Tensor]:
        ending = Ending(self.most)
        self.frames = ending.frames
        self.engine.prefill([self.prompt])
        self.decoder.reset()
        draws = Noise(self.engine, sampling)
        under_way: deque[Spoken] = deque()
        while not ending.over and not self.cancelled():
            frame = self.engine.speak_frame(self.decoder, sampling.temperature, sampling.topk, draws.next())
            under_way.append(frame)
            if len(under_way) > self.engine.ahead:
                codes, sound = under_way.popleft()()
                if ending(codes):
                    yield sound.clone()


class SoloTalker:
    """A `Talker` with its own engine."""

    def __init__(self, engine: Frames, decoder: StreamingDecoder) -> None:
        self.engine, self.decoder = engine, decoder

    def prefill(self, rows: Tensor) -> None:
        self.engine.prefill([rows])

    def utter(self, prompt: Tensor, most: int, sampling: Sampling, cancelled: Callable[[], bool]) -> Utterance:
        return Utterance(self.engine, self.decoder, prompt, most, sampling, cancelled)

    def close(self) -> None:
        pass


class Noise:
    """Draws for each frame in turn, [batch, codebooks, codes]. Every sequence has its own random generator."""

    def __init__(self, engine: Frames, sampling: Sampling) -> None:
        config, device = engine.config, engine.device
        self.buffer = torch.empty(engine.batch, config.audio_codebooks, config.codes, device=device)
        self.generators = [sampling.generator(device, index) for index in range(engine.batch)]
        self.greedy = sampling.temperature == 0

    def next(self) -> Tensor | None:
        """Return the next draws, in a buffer that later draws overwrite; None if the likeliest code is taken."""
        if self.greedy:
            return None
        for row, generator in zip(self.buffer, self.generators, strict=True):
            draw_noise(tuple(row.shape), generator, out=row)
        return self.buffer
