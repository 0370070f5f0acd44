"""Files as phones, browsers and Windows make them, encoded by FFmpeg (PyAV)."""

from __future__ import annotations

import io

import av

from pipeline.audio import Samples

KINDS = {
    "m4a": ("ipod", "aac"),
    "aac": ("adts", "aac"),
    "webm": ("webm", "libopus"),
    "3gp": ("3gp", "amr_nb"),
    "wma": ("asf", "wmav2"),
    "mka": ("matroska", "aac"),
    "caf": ("caf", "alac"),
}
"""By ending: the container and the codec."""


def encoded(kind: str, sound: Samples, rate: int) -> bytes:
    """Mono sound as a file of that kind."""
    container, codec = KINDS[kind]
    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        stream = out.add_stream(codec, rate=rate)
        assert isinstance(stream, av.AudioStream)
        stream.layout = "mono"
        stream.bit_rate = 12_200 if codec == "amr_nb" else 64_000
        frame = av.AudioFrame.from_ndarray(sound[None], format="fltp", layout="mono")
        frame.rate = rate
        for each in (frame, None):
            out.mux(stream.encode(each))
    return file.getvalue()
