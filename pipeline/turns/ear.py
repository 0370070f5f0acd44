"""Cuts blocks of sound of any length into frames, and tracks frame by frame whether there is speech or silence."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable

import numpy as np

from pipeline.audio import EAR_RATE, Samples
from pipeline.turns.judges import FRAME_MS, SpeechDetector
from pipeline.turns.vad import FRAME, VoiceActivityLike

BACKLOG = 120 * EAR_RATE
"""Samples that may wait to be processed. A file is fed at once; a microphone never comes near this."""

LEVEL_EVERY = 3
"""Frames between two reports to the meters, which makes about ten a second."""

FRAMES_AT_ONCE = 32
"""About a second of sound, after which the loop may do other work."""


class Ear:
    def __init__(self, vad: VoiceActivityLike, sensitivity: float, on_level: Callable[[float, float], None]) -> None:
        """`on_level` gets the peak and the largest probability of speech about ten times a second."""
        self.detector = SpeechDetector(sensitivity)
        self.samples = 0
        """The conversation's clock: 16 kHz samples processed so far."""
        self._vad = vad
        self._on_level = on_level
        self._inbox: asyncio.Queue[Samples] = asyncio.Queue()
        self._backlog = 0
        self._before: deque[Samples] = deque()
        self._levels: list[tuple[float, float]] = []

    @property
    def talking(self) -> bool:
        return self.detector.speaking

    @property
    def speech(self) -> bool:
        """Whether the newest frame itself is speech, and not the hang-over after it."""
        return self.detector.speaking and self.detector.silence_frames == 0

    def hear(self, samples: Samples) -> bool:
        """Take a block; return False if it is dropped because processing cannot keep up."""
        if self._backlog + len(samples) > BACKLOG:
            return False
        self._backlog += len(samples)
        self._inbox.put_nowait(samples)
        return True

    async def caught_up(self) -> None:
        """Wait until everything taken has been processed."""
        await self._inbox.join()

    async def frames(self) -> AsyncIterator[Samples]:
        """Yield frame after frame; each is judged just before it is yielded."""
        rest: Samples = np.zeros(0, np.float32)
        while True:
            block = await self._inbox.get()
            self._backlog -= len(block)
            sound = np.concatenate([rest, block])
            count = len(sound) // FRAME
            for number in range(count):
                frame = sound[number * FRAME : (number + 1) * FRAME]
                self._judge(frame)
                yield frame
                if number % FRAMES_AT_ONCE == FRAMES_AT_ONCE - 1:
                    await asyncio.sleep(0)
            rest = sound[count * FRAME :]
            self._inbox.task_done()

    def hold(self, frame: Samples, milliseconds: float) -> None:
        """Keep a frame from before a turn, so that no first word is clipped."""
        self._before.append(frame)
        while len(self._before) * FRAME_MS > milliseconds:
            self._before.popleft()

    def pre_roll(self) -> list[Samples]:
        """Return the frames that were held, and forget them."""
        held = list(self._before)
        self._before.clear()
        return held

    def rest(self) -> None:
        """Make the network forget the turn that has ended."""
        self._vad.reset()

    def _judge(self, frame: Samples) -> None:
        self.samples += FRAME
        probability = self._vad.probability(frame)
        self.detector.update(probability)
        self._levels.append((float(np.abs(frame).max()), probability))
        if len(self._levels) == LEVEL_EVERY:
            peak, likely = (max(values) for values in zip(*self._levels, strict=True))
            self._levels.clear()
            self._on_level(min(peak, 1.0), likely)
