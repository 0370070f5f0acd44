"""Mimi, the audio codec: what the model asks of one (protocol.py), ours, and moshi's."""

from .protocol import FRAME_SIZE, SAMPLE_RATE, Codec, StreamingDecoder, StreamingEncoder

__all__ = ["FRAME_SIZE", "SAMPLE_RATE", "Codec", "StreamingDecoder", "StreamingEncoder"]
