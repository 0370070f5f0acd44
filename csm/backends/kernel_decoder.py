"""The codec's decoder for a model on packed weights: its transformer runs on the same kernel."""

from __future__ import annotations

from ..codec.mimi import Mimi
from ..codec.protocol import Codec, StreamingDecoder
from ..codec.stream import MimiDecoder
from .cpu_kernel import KernelCodecStream
from .quantize import KernelPacking, QuantizedCsm

__all__ = ["new_decoder"]


def new_decoder(codec: Codec, model: object) -> StreamingDecoder:
    """Return a new stream of a model's codes to sound, which uses the model's kernel if it has one."""
    if isinstance(codec, Mimi) and isinstance(model, QuantizedCsm) and isinstance(model.packing, KernelPacking):
        transformer = codec.decoder_transformer
        return MimiDecoder(
            codec, 1, 1, KernelCodecStream(model.packing.kernel, transformer, 1, codec.config.resampling)
        )
    return codec.decoder()
