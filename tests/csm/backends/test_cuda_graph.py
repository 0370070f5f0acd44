"""A frame in one piece. Here it runs as it is; that it could be captured is tested by what it does not do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from csm.backends.cuda_graph import GraphDecoder, GraphEngine, capture
from csm.backends.eager import Engine
from csm.sampling import draw_noise
from csm.utterance import Sampling
from tests.csm.tiny import TINY, make_mimi, make_model

BLOCKING = {"item", "_local_scalar_dense", "is_nonzero", "nonzero", "masked_select", "equal", "allclose", "_unique2"}
"""Operations that wait for the device, or whose result has a shape that depends on values."""


class Uncapturable(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Fails at an operation that a CUDA graph cannot hold."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        assert func.overloadpacket.__name__ not in BLOCKING, f"{func} cannot be captured"
        if func.overloadpacket.__name__ in ("index", "index_put", "index_put_"):
            assert not any(index is not None and index.dtype == torch.bool for index in args[1]), "indexed by a mask"
        return func(*args, **(kwargs or {}))


def prompt(rows: int, seed: int) -> Tensor:
    drawn = torch.randint(0, 64, (rows, TINY.audio_codebooks + 1), generator=torch.Generator().manual_seed(seed))
    drawn[: rows // 2, :-1] = -1
    drawn[rows // 2 :, -1] = -1
    return drawn


def say(engine: Engine, prompts: list[Tensor], frames: int, sampling: Sampling) -> Tensor:
    engine.prefill(prompts)
    generator = sampling.generator(torch.device("cpu"))
    shape = (engine.batch, TINY.audio_codebooks, TINY.codes)
    made = []
    for _ in range(frames):
        noise = draw_noise(shape, generator) if sampling.temperature else None
        made.append(engine.next_frame(sampling.temperature, sampling.topk, noise))
    return torch.stack(made)


@pytest.mark.parametrize("sampling", [Sampling(0.9, 20, 1), Sampling(0)], ids=["drawn", "greedy"])
@pytest.mark.parametrize("batch", [1, 3])
def test_frames_are_those_of_the_plain_engine(batch: int, sampling: Sampling) -> None:
    model = make_model()
    plain, static = Engine(model, batch), GraphEngine(model, batch)
    first = [prompt(10 + 7 * index, index) for index in range(batch)]
    spoken = say(plain, first, 5, sampling)
    assert torch.equal(say(static, first, 5, sampling), spoken)
    # The next turn begins with what is known, and was spoken.
    second = [
        torch.cat((rows, torch.nn.functional.pad(spoken[:, index], (0, 1), value=-1), prompt(9, 50 + index)))
        for index, rows in enumerate(first)
    ]
    assert torch.equal(say(static, second, 3, sampling), say(plain, second, 3, sampling))


def test_frames_are_the_same_across_the_lengths_for_which_graphs_are_made() -> None:
    model, sampling = make_model(), Sampling(0.9, 20, 1)
    rows = [prompt(250, 0)]
    assert torch.equal(say(GraphEngine(model), rows, 12, sampling), say(Engine(model), rows, 12, sampling))


def test_a_frame_does_nothing_that_a_graph_cannot_hold() -> None:
    engine = GraphEngine(make_model(), batch=2)
    engine.prefill([prompt(10, 0), prompt(14, 1)])
    buffers = {name: value.data_ptr() for name, value in vars(engine.static).items() if isinstance(value, Tensor)}
    with Uncapturable():  # type: ignore[no-untyped-call]
        engine.static.run(20, topk=5)
        engine.static.run(20, topk=5)
    assert {name: getattr(engine.static, name).data_ptr() for name in buffers} == buffers


def test_the_codec_does_nothing_that_a_graph_cannot_hold() -> None:
    mimi = make_mimi()
    decoder = GraphDecoder(mimi.decoder(2), 2, mimi.codebooks, torch.device("cpu"))
    with Uncapturable(), torch.inference_mode():  # type: ignore[no-untyped-call]
        decoder._work()


def test_the_decoder_gives_the_sound_of_the_plain_one() -> None:
    mimi = make_mimi()
    codes = torch.randint(0, 64, (2, mimi.codebooks, 6), generator=torch.Generator().manual_seed(0))
    static = GraphDecoder(mimi.decoder(2), 2, mimi.codebooks, torch.device("cpu"))
    expected = mimi.decoder(2).step(codes)
    assert torch.equal(torch.cat((static.step(codes[:, :, :4]), static.step(codes[:, :, 4:])), dim=1), expected)
    static.reset(1)
    assert torch.equal(static.step(codes)[1], expected[1])


def test_what_is_run_before_a_capture_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    """The steps of a capture, with a graph that only remembers its work: the frames after it are the same."""
    runs = 0

    def rehearsed(work: Callable[[], None], restore: Callable[[], None], device: torch.device) -> Callable[[], None]:
        nonlocal runs
        for _ in range(4):
            work()
            restore()
            runs += 1
        return capture(work, restore, device)

    monkeypatch.setattr("csm.backends.cuda_graph.capture", rehearsed)
    model, sampling = make_model(), Sampling(0.9, 20, 1)
    static, rows = GraphEngine(model), [prompt(253, 0)]
    static.static.prepare(20)
    assert torch.equal(say(static, rows, 8, sampling), say(Engine(model), rows, 8, sampling))
    assert runs == 8  # 256 positions, and 512
