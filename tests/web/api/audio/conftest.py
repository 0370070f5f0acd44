"""A server with scripted engines, and recordings to send it."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from pathlib import Path

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
