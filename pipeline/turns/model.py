"""End-of-turn model: smart-turn v3.2 hears in the voice whether the user had finished.

The model (BSD-2, Daily) is a small Whisper encoder with one output, in one ONNX file (config/packages.py). Its input is
Whisper's log-mel spectrogram of the last 8 s: Radford et al. 2022, section 2.2, and the constants of OpenAI's published
preprocessing (25 ms windows, 10 ms apart, 80 Slaney mels, 8 decades of range, log10 / 4 + 1).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from config.packages import SMART_TURN
from pipeline.audio import EAR_RATE, Samples
from pipeline.engine import Report
from pipeline.models.fetching import fetched
from pipeline.workers.place import MakePlace, Place, PlacedEngine, Wanted
from pipeline.workers.worker import Worker

SECONDS = 8
SAMPLES = SECONDS * EAR_RATE
"""The model hears at most this many of the latest samples."""
WINDOW, HOP, MELS = 400, 160, 80


def _slaney(mels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Convert mels to hertz as in Slaney's Auditory Toolbox (1998): linear below 1 kHz, logarithmic above."""
    return np.where(mels < 15, mels * 200 / 3, 1000 * np.exp((mels - 15) * np.log(6.4) / 27))


def mel_filters(mels: int = MELS) -> NDArray[np.float32]:
    """Return triangular filters of equal area, shape [WINDOW // 2 + 1, mels]."""
    highest = 15 + 27 * np.log(EAR_RATE / 2 / 1000) / np.log(6.4)
    edges = _slaney(np.linspace(0, highest, mels + 2))
    hertz = np.fft.rfftfreq(WINDOW, 1 / EAR_RATE)[:, None]
    rising = (hertz - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - hertz) / (edges[2:] - edges[1:-1])
    triangles = np.maximum(0, np.minimum(rising, falling)) * 2 / (edges[2:] - edges[:-2])
    return triangles.astype(np.float32)


def mel(sound: Samples, filters: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the mel powers of each whole window of 16 kHz sound, every HOP samples: shape [frames, mels]."""
    frames = np.lib.stride_tricks.sliding_window_view(sound, WINDOW)[::HOP]
    hann = np.hanning(WINDOW + 1)[:-1].astype(np.float32)
    power = np.abs(np.fft.rfft(frames * hann, axis=1)) ** 2
    powers: NDArray[np.float32] = power.astype(np.float32) @ filters
    return powers


def log_mel(sound: Samples, filters: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return Whisper's features of exactly SECONDS of sound, normalised first: shape [MELS, 100 * SECONDS]."""
    sound = (sound - sound.mean()) / np.sqrt(sound.var() + 1e-7)
    decades = np.log10(np.maximum(mel(np.pad(sound, WINDOW // 2, mode="reflect"), filters)[:-1], 1e-10))
    features: NDArray[np.float32] = ((np.maximum(decades, decades.max() - 8) + 4) / 4).T.astype(np.float32)
    return features


class TurnModel:
    """Stateless, so conversations share one. A call takes about 30 ms on one core."""

    def __init__(self, folder: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        file = folder / SMART_TURN.files[0].name
        self._session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        self._filters = mel_filters()

    def finished(self, sound: Samples) -> float:
        """Return the probability, 0 to 1, that the speaker of these 16 kHz samples had finished.

        `sound` includes the silence at the end. Only the last 8 s count; shorter sound is padded in front.
        """
        recent = sound[-SAMPLES:]
        features = log_mel(np.pad(recent, (SAMPLES - len(recent), 0)), self._filters)
        return float(self._session.run(None, {"input_features": features[None]})[0].item())


_AT_ONCE = 2
"""Pauses judged at a time; further ones wait."""


def load(report: Report) -> TurnModel:
    """Load the model, in the worker process. Raises EngineError if it is not here and cannot be fetched."""
    return TurnModel(fetched(SMART_TURN, report))


class WorkerTurnModel(PlacedEngine[Place]):
    """TurnModel as an engine in a worker process, with `finished` as a coroutine."""

    def __init__(self, place: MakePlace = Worker) -> None:
        super().__init__(place(Wanted("smart-turn", f"{__name__}:load", concurrency=_AT_ONCE)))

    async def finished(self, sound: Samples) -> float:
        """Return the probability that the speaker of these 16 kHz samples had finished. Raises EngineError."""
        probability: float = await self._place.call("finished", sound[-SAMPLES:])
        return probability
