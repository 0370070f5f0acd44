"""Removes from the microphone's sound what the loudspeakers play, so that Parley's own voice never starts a turn.

It uses WebRTC's echo canceller (AEC3) from the package livekit; browsers do the same for the page. AEC3 adapts to the
delay and the room, and lets the user through when both speak at once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import soxr

from pipeline.audio import EAR_RATE, MOUTH_RATE, Samples
from pipeline.audio.pcm import from_pcm16, to_pcm16

BLOCK = EAR_RATE // 100
"""WebRTC works on 10 ms blocks."""


class EchoCanceller:
    """Not thread-safe. Takes about 0.3 ms per 10 ms of sound."""

    def __init__(self) -> None:
        """Raises ImportError if the package is missing. Takes 0.2 s the first time, so keep it off the event loop."""
        from livekit.rtc import AudioFrame
        from livekit.rtc.apm import AudioProcessingModule

        self._frame: Any = AudioFrame
        self._module: Any = AudioProcessingModule(echo_cancellation=True)
        self._to_ear = soxr.ResampleStream(MOUTH_RATE, EAR_RATE, 1, dtype="float32", quality="LQ")
        self._playing: Samples = np.zeros(0, np.float32)
        self._hearing: Samples = np.zeros(0, np.float32)

    def play(self, samples: Samples) -> None:
        """Take what goes to the loudspeakers (24 kHz), including silence, before the microphone can hear it."""
        sound = np.concatenate([self._playing, self._to_ear.resample_chunk(samples)])
        self._playing = sound[len(sound) // BLOCK * BLOCK :]
        for block in _blocks(sound):
            self._module.process_reverse_stream(self._framed(block))

    def hear(self, samples: Samples) -> Samples:
        """Return the microphone's sound (16 kHz) without the echo; up to 10 ms are held for the next call."""
        sound = np.concatenate([self._hearing, samples])
        self._hearing = sound[len(sound) // BLOCK * BLOCK :]
        clean: list[Samples] = []
        for block in _blocks(sound):
            frame = self._framed(block)
            self._module.process_stream(frame)
            clean.append(from_pcm16(bytes(frame.data)))
        return np.concatenate(clean) if clean else np.zeros(0, np.float32)

    def _framed(self, block: Samples) -> Any:
        return self._frame(to_pcm16(block), EAR_RATE, 1, BLOCK)


def _blocks(sound: Samples) -> list[Samples]:
    return [sound[start : start + BLOCK] for start in range(0, len(sound) - BLOCK + 1, BLOCK)]
