"""Transcribe a clip with Whisper (faster-whisper), and report its confidence."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import CsmError
from ..sound.recording import SAMPLE_RATE

__all__ = ["Heard", "Transcriber", "Whisper", "WhisperMissing"]

RATE = 16_000


class WhisperMissing(CsmError):
    """Whisper is not installed, or its model cannot be loaded."""


@dataclass(frozen=True)
class Heard:
    """The words, and a confidence from 0 to 1: mean token probability times probability of speech."""

    text: str
    confidence: float


Transcriber = Callable[[Tensor], Heard]
"""A function that transcribes speech, float32 [samples] at 24 kHz."""


class Whisper:
    """model: one of faster-whisper's names ("base", "large-v3-turbo") or a folder; language: None detects it."""

    def __init__(self, model: str = "base", language: str | None = None) -> None:
        try:
            from faster_whisper import WhisperModel
        except ImportError as error:
            raise WhisperMissing("Whisper is not installed: pip install faster-whisper. Or give texts.") from error
        folder = Path(model).expanduser()
        try:
            self._model: Any = WhisperModel(str(folder) if folder.is_dir() else model, compute_type="int8")
        except Exception as error:  # the errors of the hub and CTranslate2 share no narrower base class
            raise WhisperMissing(
                f"The Whisper model {model!r} cannot be loaded ({error}). Give its folder with --whisper."
            ) from error
        self._language = language

    def __call__(self, samples: Tensor) -> Heard:
        import soxr

        sound = soxr.resample(samples.numpy(), SAMPLE_RATE, RATE)
        # Not conditioned on its previous text: otherwise a loop would continue from one window into the next.
        found, _ = self._model.transcribe(
            sound, language=self._language, beam_size=1, condition_on_previous_text=False, without_timestamps=True
        )
        segments = list(found)
        if not segments:
            return Heard("", 0.0)
        sure = [math.exp(segment.avg_logprob) * (1 - segment.no_speech_prob) for segment in segments]
        return Heard(" ".join(segment.text.strip() for segment in segments), sum(sure) / len(sure))
