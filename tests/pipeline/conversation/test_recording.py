"""Both sides of a conversation on one time axis."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from pipeline.audio import EAR_RATE, MOUTH_RATE, Samples
from pipeline.conversation.events import ReplyAudio, ReplyStarted
from pipeline.conversation.recording import REPLY, USER, Recording


def read(folder: Path, side: str) -> Samples:
    samples: Samples = np.fromfile(folder / side, "<i2").astype(np.float32)
    samples /= 32767
    return samples


async def test_replies_lie_where_they_were_heard_and_only_what_was(tmp_path: Path) -> None:
    recording = Recording(tmp_path / "one")
    writing = asyncio.create_task(recording.write())
    recording.hear(np.full(2 * EAR_RATE, 0.5, np.float32))
    recording.follow(ReplyStarted(1, 0))
    for block in range(3):
        recording.follow(ReplyAudio(1, 0, np.full(MOUTH_RATE, 0.1 * (block + 1), np.float32), block * MOUTH_RATE))
    recording.hear(np.zeros(EAR_RATE, np.float32))
    recording.played(MOUTH_RATE)
    recording.hear(np.zeros(EAR_RATE // 2, np.float32))
    recording.played(MOUTH_RATE * 3 // 2)
    recording.follow(ReplyStarted(2, 0))  # the rest was never heard
    recording.hear(np.zeros(2 * EAR_RATE, np.float32))
    recording.follow(ReplyAudio(2, 0, np.full(MOUTH_RATE, 0.9, np.float32), 0))
    recording.played(10 * MOUTH_RATE)
    await asyncio.sleep(0)
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)

    user, reply = read(tmp_path / "one", USER), read(tmp_path / "one", REPLY)
    assert len(user) == 5.5 * EAR_RATE
    seconds = [(0.0, 2.0, 0.0), (2.0, 3.0, 0.1), (3.0, 3.5, 0.2), (3.5, 4.5, 0.0), (4.5, 5.5, 0.9)]
    for start, end, level in seconds:
        stretch = reply[round(start * MOUTH_RATE) : round(end * MOUTH_RATE)]
        assert np.allclose(stretch, level, atol=1e-3), (start, end)
    assert len(reply) == 5.5 * MOUTH_RATE


async def test_a_disk_that_refuses_ends_the_recording_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    recording = Recording(tmp_path / "file" / "one")
    recording.hear(np.zeros(EAR_RATE, np.float32))
    writing = asyncio.create_task(recording.write())
    await asyncio.sleep(0)
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    recording.hear(np.zeros(EAR_RATE, np.float32))
    assert writing.cancelled()
    assert [record.message for record in caplog.records] == [
        "The recording of the conversation has ended: Not a directory."
    ]
