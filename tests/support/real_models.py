"""Real weights for tests: from the cache, or fetched into it as the product fetches them."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soxr

from config.cache import folder_of, is_here
from config.packages import WHISPER_BASE, Packaged
from pipeline.audio import EAR_RATE, MOUTH_RATE, Samples
from pipeline.models.downloads import Downloader, DownloadError


def folder(model: Packaged) -> Path:
    """Where a model's files are now. Without a network the test is left out, with the reason; in CI it fails."""
    if not is_here(model):
        downloader = Downloader()
        try:
            downloader.fetch(downloader.plan([model]), lambda tick: None)
        except DownloadError as error:
            if os.environ.get("CI"):
                raise
            pytest.skip(str(error))
    return folder_of(model)


@cache
def _whisper() -> Any:
    from faster_whisper import WhisperModel

    return WhisperModel(str(folder(WHISPER_BASE)), device="cpu", compute_type="int8", cpu_threads=1)


def heard(sound: Samples) -> str:
    """What Whisper base understands of 24 kHz sound, with half a second of silence around it."""
    quiet = np.zeros(EAR_RATE // 2, np.float32)
    listened = np.concatenate([quiet, soxr.resample(sound, MOUTH_RATE, EAR_RATE), quiet])
    segments, _ = _whisper().transcribe(
        listened, language="en", beam_size=1, temperature=0.0, condition_on_previous_text=False, without_timestamps=True
    )
    return " ".join(segment.text.strip() for segment in segments)
