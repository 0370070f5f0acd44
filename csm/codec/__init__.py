"""Mimi, the audio codec: what the model requires (protocol.py), our implementation, and moshi's."""

from .protocol import FRAME_SIZE, SAMPLE_RATE, Codec, StreamingDecoder, StreamingEncoder

__all__ = ["FRAME_SIZE", "SAMPLE_RATE", "Codec", "StreamingDecoder", "StreamingEncoder"]
