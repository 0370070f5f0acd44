"""Mimi, the audio codec: the interface the model needs (protocol.py), our implementation, and moshi's."""

from .protocol import FRAME_SIZE, SAMPLE_RATE, Codec, StreamingDecoder, StreamingEncoder

__all__ = ["FRAME_SIZE", "SAMPLE_RATE", "Codec", "StreamingDecoder", "StreamingEncoder"]
