"""What is heard of packets that come late, twice, or not at all."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from aiortc.mediastreams import MediaStreamTrack
from aiortc.rtp import RtpPacket
from av import AudioFrame

from pipeline.audio import EAR_RATE, Samples
from tests.support import virtual_time
from web.realtime.webrtc.hearing import QUIET_S, Arrivals, TrackHearing

FRAME = 960


def frame(at: int) -> AudioFrame:
    sound = np.full((1, 2 * FRAME), 8000, np.int16)
    made = AudioFrame.from_ndarray(sound, format="s16", layout="stereo")
    made.sample_rate, made.pts = 48_000, at
    return made


class Track(MediaStreamTrack):
    kind = "audio"

    def __init__(self) -> None:
        super().__init__()
        self.frames: asyncio.Queue[AudioFrame] = asyncio.Queue()

    async def recv(self) -> AudioFrame:
        return await self.frames.get()


@pytest.mark.parametrize(
    ("sequence", "passed"),
    [
        ([5, 6, 7], [5, 6, 7]),
        ([5, 7, 6, 8], [5, 7, 8]),  # nothing waits for 6
        ([5, 5, 6], [5, 6]),
        ([65_535, 0, 1], [65_535, 0, 1]),
        ([5_000, 10, 11], [5_000, 10, 11]),  # the sender began anew
    ],
)
def test_a_packet_is_heard_as_it_comes_and_a_late_one_never(sequence: list[int], passed: list[int]) -> None:
    arrivals, heard = Arrivals(), []
    for number in sequence:
        packet = RtpPacket(sequence_number=number, timestamp=number)
        packet._data = b"sound"  # type: ignore[attr-defined]  # as aiortc's receiver does
        _, got = arrivals.add(packet)
        heard += [got.timestamp] if got is not None else []
    assert heard == passed


def test_an_empty_packet_is_not_decoded() -> None:
    """The decoder would take it for the end, and be deaf from then on."""
    packet = RtpPacket(sequence_number=1)
    packet._data = b""  # type: ignore[attr-defined]
    assert Arrivals().add(packet) == (False, None)


@pytest.mark.parametrize(("gap_s", "heard_s"), [(0.0, 0.04), (0.1, 0.14), (3600.0, 1.04), (-50.0, 0.04)])
def test_what_is_missing_is_silence_but_never_long(gap_s: float, heard_s: float) -> None:
    heard: list[Samples] = []
    hearing = TrackHearing(Track(), heard.append)
    hearing.take(frame(0))
    hearing.take(frame(FRAME + int(gap_s * 48_000)))
    assert abs(sum(map(len, heard)) / EAR_RATE - heard_s) < 0.003
    assert abs(float(np.abs(np.concatenate(heard)).max()) - 8000 / 32768) < 0.05


def test_where_nothing_comes_time_goes_on_in_silence_and_is_not_counted_twice() -> None:
    async def scene() -> None:
        heard: list[Samples] = []
        track = Track()
        running = asyncio.create_task(TrackHearing(track, heard.append).run())
        track.frames.put_nowait(frame(0))
        await asyncio.sleep(10 * QUIET_S + 0.1)  # nothing comes: a phone sleeps
        slept = sum(map(len, heard)) / EAR_RATE
        assert abs(slept - 10 * QUIET_S - 0.02) < 0.003
        track.frames.put_nowait(frame(FRAME + 48_000 // 2))  # half a second of what was said is lost
        await asyncio.sleep(0.1)
        assert abs(sum(map(len, heard)) / EAR_RATE - slept - 0.02) < 0.003
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    virtual_time.run(scene())
