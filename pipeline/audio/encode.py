"""Encodes sound to a file format while it is made, with one encoder per recording, by FFmpeg's libraries (PyAV).

The file does not state its length, which is unknown when its first bytes are sent: a WAV states the greatest length
possible (0xFFFFFFFF), as FFmpeg does in a pipe.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import cast

import av
import numpy as np
from av.audio.stream import AudioStream

from pipeline.audio import MOUTH_RATE, Samples

REST_S = 0.03
"""Seconds of silence, as heard, added after sound whose pace is changed: atempo drops what it holds back at the end."""

SLOWEST, FASTEST = 0.25, 4.0
"""Range of the speed factor: OpenAI's limits (API reference, "Create speech", `speed`)."""


@dataclass(frozen=True, slots=True)
class Format:
    container: str
    codec: str
    """Container and codec, by FFmpeg's names."""
    media_type: str
    bits_per_second: int | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    """Options of the container."""


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "mp3": Format("mp3", "libmp3lame", "audio/mpeg", 96_000, {"write_xing": "0", "id3v2_version": "0"}),
        # The default page of one second would delay the sound by as much.
        "opus": Format("ogg", "libopus", "audio/ogg", 48_000, {"page_duration": "60000"}),
        "aac": Format("adts", "aac", "audio/aac", 96_000),
        "flac": Format("flac", "flac", "audio/flac"),
        "wav": Format("wav", "pcm_s16le", "audio/wav"),
        "pcm": Format("s16le", "pcm_s16le", "audio/pcm"),
    }
)
"""By OpenAI's names; pcm is bare 16-bit little-endian samples at 24 kHz."""


class _Pipe:
    """Holds what FFmpeg wrote until it is taken. Like a network connection, it cannot seek."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def write(self, data: bytes) -> int:
        self._bytes += data
        return len(data)

    def taken(self) -> bytes:
        taken = bytes(self._bytes)
        self._bytes.clear()
        return taken


class SoundEncoder:
    """Feed it sound until it ends, then call `finish`. Every call returns the bytes that are ready, perhaps none."""

    def __init__(self, format: str, speed: float = 1.0) -> None:
        """
        Args:
            format: one of FORMATS.
            speed: the speed factor, SLOWEST to FASTEST; the pitch stays the same.
        """
        chosen = FORMATS[format]
        self._pipe = _Pipe()
        self._container = av.open(
            self._pipe, "w", chosen.container,
            container_options={**chosen.options, "flush_packets": "1", "fflags": "+bitexact"},
        )  # fmt: skip
        self._stream = cast(AudioStream, self._container.add_stream(chosen.codec, rate=MOUTH_RATE, layout="mono"))
        if chosen.bits_per_second is not None:
            self._stream.bit_rate = chosen.bits_per_second
        self._speed = speed
        self._tempo = _tempo(speed) if speed != 1 else None
        self._samples = 0

    def feed(self, samples: Samples) -> bytes:
        """Encode 24 kHz mono."""
        if len(samples):
            self._take(samples)
        return self._pipe.taken()

    def finish(self) -> bytes:
        """Return the end: what filters and codecs still held, and the container's last bytes."""
        if self._tempo is not None:
            self._take(np.zeros(round(REST_S * MOUTH_RATE * max(1.0, self._speed)), np.float32))
        self._pass(None)
        for packet in self._stream.encode(None):
            self._container.mux(packet)
        self._container.close()
        return self._pipe.taken()

    def _take(self, samples: Samples) -> None:
        frame = av.AudioFrame.from_ndarray(samples[np.newaxis], format="fltp", layout="mono")
        frame.sample_rate, frame.pts = MOUTH_RATE, self._samples
        self._samples += len(samples)
        self._pass(frame)

    def _pass(self, frame: av.AudioFrame | None) -> None:
        if self._tempo is None:
            if frame is not None:
                self._encode(frame)
            return
        self._tempo.push(frame)
        while True:
            try:
                changed = cast(av.AudioFrame, self._tempo.pull())
            except (av.BlockingIOError, av.EOFError):
                return
            changed.pts = None
            self._encode(changed)

    def _encode(self, frame: av.AudioFrame) -> None:
        for packet in self._stream.encode(frame):
            self._container.mux(packet)


def _tempo(speed: float) -> av.filter.Graph:
    """Build FFmpeg's atempo, which accepts 0.5 and more; slower speeds use two of them."""
    graph = av.filter.Graph()
    steps = [speed] if speed >= 0.5 else [0.5, speed / 0.5]
    nodes = [graph.add_abuffer(sample_rate=MOUTH_RATE, format="fltp", layout="mono")]
    nodes += [graph.add("atempo", f"{step:.4f}") for step in steps]
    nodes.append(graph.add("abuffersink"))
    graph.link_nodes(*nodes).configure()
    return graph


def encoded(samples: Samples, format: str, speed: float = 1.0) -> bytes:
    """Encode a whole recording, 24 kHz mono."""
    encoder = SoundEncoder(format, speed)
    return encoder.feed(samples) + encoder.finish()
