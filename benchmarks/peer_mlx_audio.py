"""mlx-audio's CSM-1B on random weights, run frame by frame as its `generate` does. benchmarks/csm.py runs it with a
Python that has mlx-audio. It prints one line of JSON.

    python benchmarks/peer_mlx_audio.py none|8|4 ROWS FRAMES LAYERS DEPTH_LAYERS CODEBOOKS
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_map
from mlx_audio.codec.models.mimi import Mimi, MimiStreamingDecoder
from mlx_audio.codec.models.mimi.mimi import mimi_202407
from mlx_audio.lm.sample_utils import make_sampler
from mlx_audio.tts.models.sesame.sesame import SesameModel

CONFIG = {
    "backbone_flavor": "llama-1B",
    "decoder_flavor": "llama-100M",
    "text_vocab_size": 128_256,
    "audio_vocab_size": 2051,
}
SAMPLER = {"temp": 0.9, "top_k": 50}  # its own default
TEXT = 20


def half(parameters: Any) -> Any:
    """Small random numbers in bfloat16 instead of a checkpoint's weights."""
    return tree_map(lambda array: (mx.random.normal(array.shape) * 0.02).astype(mx.bfloat16), parameters)


def timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return (time.perf_counter() - begun) * 1e3


def main(bits: str, rows: int, frames: int, layers: int, depth_layers: int, codebooks: int) -> None:
    model = SesameModel(CONFIG | {"audio_num_codebooks": codebooks})
    model.backbone.layers, model.decoder.layers = model.backbone.layers[:layers], model.decoder.layers[:depth_layers]
    model.update(half(model.parameters()))
    if bits != "none":
        nn.quantize(model, 64, int(bits))  # its predicate leaves out only the codec
    mx.eval(model.parameters())
    model.setup_caches(1)
    mimi = Mimi(mimi_202407(codebooks))
    mx.eval(mimi.parameters())
    decoder, sampler = MimiStreamingDecoder(mimi), make_sampler(**SAMPLER)
    sound = mx.arange(codebooks + 1) < codebooks
    text = min(TEXT, rows // 2)
    prompt = mx.random.randint(1, 2000, (1, rows, codebooks + 1))
    mask = mx.where((mx.arange(rows) < rows - text)[:, None], sound, mx.logical_not(sound))[None]
    now: list[mx.array] = []

    def step(tokens: mx.array, columns: mx.array) -> None:
        positions = mx.arange(tokens.shape[1])[None]
        sample = model.generate_frame(tokens, columns, positions, sampler)
        assert bool(sample.any())  # this is how it tells whether the utterance is over
        now[:] = [mx.concatenate([sample, mx.zeros((1, 1), sample.dtype)], axis=1)[:, None]]
        mx.eval(decoder.decode_frames(mx.minimum(sample, 2047)[..., None]))

    first = []
    for _ in range(3):
        model.reset_caches()
        decoder.reset()
        first.append(timed(lambda: step(prompt, mask)))
    taken = [timed(lambda: step(now[0], sound[None, None])) for _ in range(frames + 1)][1:]
    found = {"frame": statistics.median(taken), "best": min(taken), "first": statistics.median(first[1:])}
    print(json.dumps(found | {"memory": mx.get_peak_memory() / 1e9}))


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
