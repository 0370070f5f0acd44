"""A server with scripted engines, and recordings to send it."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from pathlib import Path

import av
import httpx
import numpy as np
import pytest
import soundfile

from pipeline.audio import MOUTH_RATE
from tests.web.conftest import Running, served


@pytest.fixture
async def client(running: Running) -> AsyncIterator[httpx.AsyncClient]:
    async with running.client(timeout=30) as client:
        yield client


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[Running]:
    """With a token."""
    async with served(tmp_path, token=TOKEN) as server:
        yield server


TOKEN = "a-token-of-more-than-thirty-two-characters"


def tone(seconds: float = 1.0, format: str = "WAV") -> bytes:
    """A recording in which somebody speaks, for scripted ears."""
    file = io.BytesIO()
    sound = 0.3 * np.sin(2 * np.pi * 220 * np.arange(round(seconds * MOUTH_RATE)) / MOUTH_RATE)
    soundfile.write(file, sound.astype(np.float32), MOUTH_RATE, format=format)
    return file.getvalue()


def silence(seconds: float) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.zeros(round(seconds * MOUTH_RATE), np.float32), MOUTH_RATE, format="WAV")
    return file.getvalue()


def video() -> bytes:
    """A second of film with that sound, as telephones make it."""
    file = io.BytesIO()
    sound, _ = soundfile.read(io.BytesIO(tone()), dtype="float32")
    with av.open(file, "w", format="mp4") as film:
        pictures, voice = film.add_stream("mpeg4", rate=10), film.add_stream("aac", rate=MOUTH_RATE, layout="mono")
        pictures.width = pictures.height = 64
        for _ in range(10):
            film.mux(pictures.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")))
        film.mux(pictures.encode())
        frame = av.AudioFrame.from_ndarray(sound[None], format="fltp", layout="mono")
        frame.sample_rate = MOUTH_RATE
        film.mux(voice.encode(frame))
        film.mux(voice.encode())
    return file.getvalue()
