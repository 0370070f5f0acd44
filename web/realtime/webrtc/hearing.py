"""What a client's RTP packets say, as the ears want it: 16 kHz, without waiting for packets that are late.

A player smooths what comes unevenly and pays for it with a delay. Nobody plays this: each packet is heard as it comes,
one that comes after its successor is left out, and what is missing is silence.
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
"""Of Opus in RTP: RFC 7587, section 4.1."""
SEQUENCES = 1 << 16
FAR = 100
"""Packets by which a sequence that goes back has begun anew, as in aiortc."""
QUIET_S = 0.4
"""Without a packet; from then on there is silence, so that a turn ends where a client stops sending."""
LONGEST_GAP = RTP_RATE
"""Samples of silence for what is missing; a phone that slept for an hour has not said an hour of silence."""


class Arrivals:
    """In place of aiortc's jitter buffer, which holds 80 ms back, and 300 ms from the first packet that is lost."""

    def __init__(self) -> None:
        self._next: int | None = None

    def add(self, packet: RtpPacket) -> tuple[bool, JitterFrame | None]:
        """Whether a picture is wanted, as aiortc asks; and what can be decoded now."""
        ahead = 0 if self._next is None else (packet.sequence_number - self._next) % SEQUENCES
        if ahead > SEQUENCES - FAR:
            return False, None  # late, or twice
        self._next = (packet.sequence_number + 1) % SEQUENCES
        data: bytes = packet._data  # type: ignore[attr-defined]  # aiortc's receiver puts it there
        return False, JitterFrame(data, packet.timestamp) if data else None


class TrackHearing:
    """One track, until it ends."""

    def __init__(self, track: MediaStreamTrack, hear: Callable[[Samples], None]) -> None:
        self._track = track
        self._hear = hear
        self._resampler = AudioResampler(format="s16", layout="mono", rate=EAR_RATE)
        """FFmpeg's, which is a millisecond late; soxr's is up to 36."""
        self._expected: int | None = None
        """The RTP time of the next packet."""
        self._filled = 0
        """Samples of silence that were put there since the last one."""

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
        """Opus as it is decoded: 48 kHz, 16 bits, two channels."""
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
