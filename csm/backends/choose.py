"""Which way a frame is computed on the device that a model is on, and which way it becomes sound."""

from __future__ import annotations

from ..codec.mimi import Mimi
from ..codec.protocol import Codec, StreamingDecoder
from ..model import Csm
from .cuda_graph import GraphDecoder, GraphEngine, GraphSlotEngine
from .eager import Engine, SlotEngine

__all__ = ["choose_decoder", "choose_engine", "choose_slot_engine"]


def choose_engine(model: Csm, batch: int = 1, length: int | None = None) -> Engine:
    """A new engine for `batch` sequences of up to `length` rows.

    On a GPU one sequence has its graphs made here, some seconds, so that its speech waits for none; the batch of a
    single request is not worth them.
    """
    if model.device.type != "cuda" or batch > 1:
        return Engine(model, batch, length)
    engine = GraphEngine(model, batch, length)
    engine.static.prepare()
    return engine


def choose_decoder(codec: Codec, model: Csm) -> StreamingDecoder:
    """A new stream of one model's codes to sound. Only our own codec's steps can be captured in a graph."""
    decoder = codec.decoder()
    if model.device.type == "cuda" and isinstance(codec, Mimi):
        return GraphDecoder(decoder, 1, codec.codebooks, model.device)
    return decoder


def choose_slot_engine(model: Csm, codec: Codec, count: int, length: int | None = None) -> SlotEngine:
    """A new engine for `count` sequences that speak in any company."""
    kind = GraphSlotEngine if model.device.type == "cuda" else SlotEngine
    return kind(model, codec, count, length)
