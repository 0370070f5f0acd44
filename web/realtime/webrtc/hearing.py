"""A client's RTP packets as the ears want them: 16 kHz, without waiting for late packets.

A player smooths uneven arrival and pays for it with delay. Nobody plays this sound: each packet is used as it arrives,
a packet that comes after its successor is dropped, and what is missing becomes silence.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import numpy as np
from aiortc.jitterbuffer import JitterFrame
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from aiortc.rtp import RtpPacket
from av import AudioFrame, AudioResampler

from pipeline.audio import EAR_RATE, Samples
from pipeline.audio.pcm import from_pcm16

RTP_RATE = 48_000
"""The clock rate of Opus in RTP: RFC 7587, section 4.1."""
SEQUENCES = 1 << 16
FAR = 100
"""A sequence number that goes back by more packets than this has restarted, as in aiortc."""
QUIET_S = 0.4
"""Seconds without a packet before silence is fed, so that a turn ends when a client stops sending."""
LONGEST_GAP = RTP_RATE
"""Samples of silence that replace missing sound; a phone that slept for an hour has not said an hour of silence."""


class Arrivals:
    """Replaces aiortc's jitter buffer, which holds back 80 ms, and 300 ms after the first lost packet."""

    def __init__(self) -> None:
        self._next: int | None = None

    def add(self, packet: RtpPacket) -> tuple[bool, JitterFrame | None]:
        """Return whether a picture is wanted, which aiortc asks, and the frame that can be decoded now."""
        ahead = 0 if self._next is None else (packet.sequence_number - self._next) % SEQUENCES
        if ahead > SEQUENCES - FAR:
            return False, None  # late or duplicate
        self._next = (packet.sequence_number + 1) % SEQUENCES
        data: bytes = packet._data  # type: ignore[attr-defined]  # aiortc's receiver puts it there
        return False, JitterFrame(data, packet.timestamp) if data else None


class TrackHearing:
    """Feeds one track to the ears until it ends."""

    def __init__(self, track: MediaStreamTrack, hear: Callable[[Samples], None]) -> None:
        self._track = track
        self._hear = hear
        self._resampler = AudioResampler(format="s16", layout="mono", rate=EAR_RATE)
        """FFmpeg's resampler, which lags by a millisecond; soxr's lags by up to 36."""
        self._expected: int | None = None
        """The RTP time of the next packet."""
        self._filled = 0
        """Samples of silence fed since the last packet."""

    async def run(self) -> None:
        while True:
            try:
                async with asyncio.timeout(QUIET_S):
                    frame = await self._track.recv()
            except TimeoutError:
                self._silence(int(QUIET_S * RTP_RATE))
            except MediaStreamError:
                return
            else:
                assert isinstance(frame, AudioFrame)
                self.take(frame)

    def take(self, frame: AudioFrame) -> None:
        """Take decoded Opus: 48 kHz, 16 bits, two channels."""
        at = frame.pts or 0
        missing = 0 if self._expected is None else min(at - self._expected, LONGEST_GAP) - self._filled
        if missing > 0:
            self._silence(missing)
        self._expected, self._filled = at + frame.samples, 0
        for resampled in self._resampler.resample(frame):
            self._hear(from_pcm16(resampled.to_ndarray().tobytes()))

    def _silence(self, samples: int) -> None:
        self._filled += samples
        self._hear(np.zeros(samples * EAR_RATE // RTP_RATE, np.float32))
