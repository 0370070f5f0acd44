"""Plays sound on a loudspeaker while it is being made."""

from __future__ import annotations

import queue
import threading
from types import TracebackType
from typing import Self

import numpy as np
from torch import Tensor

__all__ = ["NoSoundDevice", "Playback"]


class NoSoundDevice(OSError):
    """There is nothing to play on: no PortAudio, or no output device."""


class Playback:
    """Plays sounds in order without making the caller wait; leaving the context waits for the last one.

    Raises NoSoundDevice if there is nothing to play on.
    """

    def __init__(self, sample_rate: int) -> None:
        try:
            import sounddevice

            self._stream = sounddevice.OutputStream(samplerate=sample_rate, channels=1, dtype="float32")
            self._stream.start()
        except (ImportError, OSError, ValueError) as error:
            raise NoSoundDevice(f"No sound device to play on: {error}") from error
        except Exception as error:
            if type(error).__name__ != "PortAudioError":
                raise
            raise NoSoundDevice(f"No sound device to play on: {error}") from error
        self._waiting: queue.SimpleQueue[np.ndarray | None] = queue.SimpleQueue()
        self._player = threading.Thread(target=self._play, name="csm-playback", daemon=True)
        self._player.start()

    def play(self, samples: Tensor) -> None:
        """Queue float [samples]."""
        self._waiting.put(samples.float().cpu().numpy()[:, None])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Everything is played to its end, unless there was an error: then what still waits is dropped.
        while error is not None and not self._waiting.empty():
            self._waiting.get()
        self._waiting.put(None)
        self._player.join()
        self._stream.stop()
        self._stream.close()

    def _play(self) -> None:
        while (samples := self._waiting.get()) is not None:
            self._stream.write(np.ascontiguousarray(samples))
