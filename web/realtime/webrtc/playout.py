"""The sound of replies on its way to a client: encoded ahead, sent when it is due, stopped at once."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from aiortc.mediastreams import MediaStreamTrack
from av import AudioCodecContext, AudioFrame, CodecContext, Packet
from av.stream import Stream

from pipeline.audio import MOUTH_RATE, Samples
from pipeline.audio.pcm import to_pcm16
from web.realtime import events as wire
from web.realtime.pace import ClientPlayback
from web.realtime.webrtc.hearing import RTP_RATE

FRAME_MS = 20
FRAME = MOUTH_RATE * FRAME_MS // 1000
TICKS = RTP_RATE * FRAME_MS // 1000
"""RTP clock ticks per packet."""
TIME_BASE = Fraction(1, RTP_RATE)
BIT_RATE = 48_000
"""RFC 7587 recommends 28 to 40 kbit/s for full-band speech; a local network has room for more."""
HELD = MOUTH_RATE * 65 // 10_000
"""The samples that Opus's encoder looks ahead."""
SILENCE = b"\xf8\xff\xfe"
"""20 ms of silence in Opus: mono, full band, one empty frame (RFC 6716, section 3.1)."""
LATE_S = 0.2
"""Seconds by which a packet may be late and is still sent; after a longer stall playback skips to the present."""


@dataclass(frozen=True, slots=True)
class Sound:
    """20 ms of a reply."""

    packet: bytes
    samples: int
    """Samples of the reply's own sound; the last packets hold fewer."""
    last: bool = False


class ReplyEncoder:
    """Encodes one reply in Opus, which takes 24 kHz sound as it is."""

    def __init__(self) -> None:
        self._codec = _encoder()
        self._rest = np.zeros(0, np.float32)

    def feed(self, samples: Samples) -> list[Sound]:
        """Encode samples. Takes a millisecond or two per 20 ms."""
        whole = np.concatenate([self._rest, samples])
        cut = len(whole) - len(whole) % FRAME
        self._rest = whole[cut:]
        frames = (whole[start : start + FRAME] for start in range(0, cut, FRAME))
        return [Sound(packet, FRAME) for frame in frames for packet in self._encoded(frame)]

    def finish(self) -> list[Sound]:
        """Return the rest, and what the encoder still holds."""
        own = len(self._rest)
        rest = self.feed(np.zeros(HELD + -(own + HELD) % FRAME, np.float32))
        sizes = [min(FRAME, own), *(0 for _ in rest[1:])]
        return [replace(each, samples=size, last=each is rest[-1]) for each, size in zip(rest, sizes, strict=True)]

    def _encoded(self, samples: Samples) -> Iterator[bytes]:
        frame = AudioFrame.from_ndarray(
            np.frombuffer(to_pcm16(samples), "<i2")[np.newaxis, :], format="s16", layout="mono"
        )
        frame.sample_rate = MOUTH_RATE
        for packet in self._codec.encode(frame):
            yield bytes(packet)


def _encoder() -> AudioCodecContext:
    codec = CodecContext.create("libopus", "w")
    assert isinstance(codec, AudioCodecContext)
    codec.sample_rate, codec.layout, codec.format = MOUTH_RATE, "mono", "s16"
    codec.bit_rate, codec.time_base = BIT_RATE, Fraction(1, MOUTH_RATE)
    codec.options = {"application": "voip", "frame_duration": str(FRAME_MS), "compression_level": "5"}
    return codec


class Playout(ClientPlayback):
    """The queue of packets, and thereby the count of those sent: RTP's own clock takes out one every 20 ms."""

    def __init__(self, tell: Callable[[wire.ServerEvent], None]) -> None:
        self._tell = tell
        self._queues: dict[str, deque[Sound]] = {}
        """By reply, in the order in which they are played."""
        self._following = ""
        self._played = 0
        """Samples played of that reply."""
        self._due = 0
        """Samples of that reply that were announced but not sent yet."""
        self._paused = False
        self._sounding = ""
        """The reply whose start the client was told of last."""
        self._dropped: deque[str] = deque(maxlen=8)
        """The last few dropped replies: some of their sound may still be on its way here."""

    def begin(self, reply: str) -> None:
        self._following, self._played, self._due, self._paused = reply, 0, 0, False

    def sent(self, samples: int) -> None:
        self._due += samples

    def add(self, reply: str, sounds: list[Sound]) -> None:
        if reply not in self._dropped:
            self._queues.setdefault(reply, deque()).extend(sounds)

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        self._paused = False

    def drop(self, reply: str) -> None:
        self._dropped.append(reply)
        self._paused = False
        if reply == self._following:
            self._due = 0
        if self._queues.pop(reply, None) is not None:
            self._tell(wire.OutputAudioBufferCleared(response_id=reply))

    @property
    def paused(self) -> bool:
        return self._paused

    @property
    def played(self) -> int:
        return self._played

    @property
    def left(self) -> float:
        return 0.0 if self._paused else self._due / MOUTH_RATE

    def next(self) -> bytes:
        """Return the packet that is due now."""
        reply = next(iter(self._queues), "")
        if self._paused or not self._queues.get(reply):
            return SILENCE
        sound = self._queues[reply].popleft()
        if reply == self._following:
            self._played += sound.samples
            self._due -= sound.samples
        if reply != self._sounding:
            self._sounding = reply
            self._tell(wire.OutputAudioBufferStarted(response_id=reply))
        if sound.last:
            del self._queues[reply]
            self._tell(wire.OutputAudioBufferStopped(response_id=reply))
        return sound.packet


class Track(MediaStreamTrack):
    """Sends a packet every 20 ms from the first one on, even if the loop is busy, each at its time on the RTP clock."""

    kind = "audio"

    def __init__(self, playout: Playout) -> None:
        super().__init__()
        self._playout = playout
        self._now = asyncio.get_running_loop().time
        self._began: float | None = None
        self._frames = 0

    async def recv(self) -> Packet[Stream]:
        now = self._now()
        if self._began is None:
            self._began = now
        late = now - self._began - self._frames * FRAME_MS / 1000
        if late > LATE_S:
            self._frames += int(late * 1000 / FRAME_MS)
        elif late < 0:
            await asyncio.sleep(-late)
        packet = Packet(self._playout.next())
        packet.pts, packet.time_base = self._frames * TICKS, TIME_BASE
        self._frames += 1
        return packet
