"""Choose how a frame is computed on a model's device, and how it is decoded to sound."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias, Union

from ..codec.mimi import Mimi
from ..codec.protocol import Codec, StreamingDecoder
from ..model import Csm
from .cuda_graph import GraphDecoder, GraphEngine, GraphSlotEngine
from .eager import Engine, SlotEngine
from .kernel_decoder import new_decoder
from .protocol import Frames, SlotFrames

if TYPE_CHECKING:  # few machines have mlx
    from .mlx.loaded import CsmMlx

__all__ = ["Model", "choose_decoder", "choose_engine", "choose_slot_engine"]

Model: TypeAlias = Union[Csm, "CsmMlx"]
"""The speech model, in PyTorch or in MLX."""


def choose_engine(model: Model, batch: int = 1, length: int | None = None) -> Frames:
    """Return a new engine for `batch` sequences of up to `length` rows.

    On a GPU, the CUDA graphs for a single sequence are captured here, which takes some seconds, so that its speech
    never waits for one. For a batch, which serves a single request, they are not worth capturing.
    """
    if not isinstance(model, Csm):
        from .mlx.engine import MlxEngine

        return MlxEngine(model, batch, length)
    if model.device.type != "cuda" or batch > 1:
        return Engine(model, batch, length)
    engine = GraphEngine(model, batch, length)
    engine.static.prepare()
    return engine


def choose_decoder(codec: Codec, model: Model) -> StreamingDecoder:
    """Return a new stream of one model's codes to sound. Only csm's own codec can be captured in a graph."""
    decoder = new_decoder(codec, model)
    if model.device.type == "cuda" and isinstance(codec, Mimi):
        return GraphDecoder(decoder, 1, codec.codebooks, model.device)
    return decoder


def choose_slot_engine(model: Model, codec: Codec, count: int, length: int | None = None) -> SlotFrames:
    """Return a new engine for `count` sequences, any subset of which may speak in a step."""
    if not isinstance(model, Csm):
        from .mlx.engine import MlxSlotEngine

        return MlxSlotEngine(model, codec, count, length)
    kind = GraphSlotEngine if model.device.type == "cuda" else SlotEngine
    return kind(model, codec, count, length)
