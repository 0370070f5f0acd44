"""CSM in MLX against ours in PyTorch: the same weights, drawn at random, say the same. On a Mac this is its GPU."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from csm import DeviceMissing, Generator, Segment, Session, load_csm_1b
from csm.backends.eager import Engine
from csm.backends.protocol import Frames
from csm.batch import Slots
from csm.checkpoint.adapter_formats import write_adapter
from csm.checkpoint.checkpoint import load
from csm.codec.mimi import Mimi
from csm.codec.seanet import MimiConfig
from csm.errors import CheckpointError, OutOfMemory
from csm.model import Csm, CsmConfig, TransformerConfig
from csm.sampling import draw_noise
from csm.training.adapters import adapter_of
from csm.utterance import Sampling
from tests.csm.backends.test_cuda_graph import prompt
from tests.csm.backends.test_quantize import logits, relative
from tests.csm.backends.test_quantize import prompt as judged_prompt
from tests.csm.mlx_here import need_mlx
from tests.csm.test_batch import Listener, alone
from tests.csm.tiny import FEW_LAYERS, TINY, make_mimi, make_model, make_tokenizer, voice, write_checkpoint
from tests.csm.training.lessons import learnt

need_mlx()
import mlx.core as mx  # noqa: E402
from mlx.utils import tree_flatten  # noqa: E402

from csm.backends.mlx.arrays import to_mlx, to_torch  # noqa: E402
from csm.backends.mlx.engine import MlxEngine  # noqa: E402
from csm.backends.mlx.loaded import CsmMlx  # noqa: E402
from csm.backends.mlx.memory import Memory, Stepping  # noqa: E402
from csm.backends.mlx.mimi import MlxDecoder, MlxMimi  # noqa: E402
from csm.backends.mlx.model import CsmArrays  # noqa: E402

SOUND = 1e-4
"""How much samples may differ."""
VOICE = Segment("This is my voice.", 0, voice(2.0))

PACKABLE = CsmConfig(
    backbone=TransformerConfig(layers=2, heads=4, kv_heads=2, dim=128, ffn=192, context=512),
    decoder=TransformerConfig(layers=2, heads=4, kv_heads=2, dim=64, ffn=128, context=9),
    text_vocab_size=600,
    audio_vocab_size=67,
    audio_codebooks=8,
)
"""A tiny model all of whose matrices can be packed: 64 divides their widths."""


@pytest.fixture(scope="module")
def model() -> Csm:
    return make_model()


@pytest.fixture(scope="module")
def mimi() -> Mimi:
    return make_mimi()


@pytest.fixture(scope="module")
def arrays(model: Csm) -> CsmMlx:
    return CsmMlx.of(model)


@pytest.fixture(scope="module")
def codec(arrays: CsmMlx, mimi: Mimi) -> MlxMimi:
    return MlxMimi(mimi, arrays.thread)


@pytest.fixture(scope="module")
def plain(model: Csm, mimi: Mimi) -> Generator:
    return Generator(model, make_tokenizer(), mimi)


@pytest.fixture(scope="module")
def generator(arrays: CsmMlx, codec: MlxMimi) -> Generator:
    return Generator(arrays, make_tokenizer(), codec)


def spoken(engine: Frames, prompts: Sequence[Tensor], frames: int, *noise: Any) -> Tensor:
    """Codes [frames, batch, codebooks] after prompts; noise: temperature, topk and the draws of each frame."""
    engine.prefill(prompts)
    if not noise:
        return torch.stack([engine.next_frame(0, 1) for _ in range(frames)])
    temperature, topk, draws = noise
    return torch.stack([engine.next_frame(temperature, topk, draws[frame]) for frame in range(frames)])


def same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.allclose(one, other, rtol=0, atol=SOUND)


# -- frames -----------------------------------------------------------------------------------------------------------


def test_greedy_codes_are_pytorchs_beyond_the_first_length_of_keys_and_values(model: Csm, arrays: CsmMlx) -> None:
    """And a second prompt that begins as the first is heard from where it differs."""
    ours, theirs = MlxEngine(arrays), Engine(model)
    rows = prompt(252, 0)
    assert torch.equal(spoken(ours, [rows], 8), spoken(theirs, [rows], 8))
    longer = torch.cat((rows, prompt(30, 1)))
    assert torch.equal(spoken(ours, [longer], 3), spoken(theirs, [longer], 3))


def test_codes_drawn_with_the_same_noise_are_pytorchs(model: Csm, arrays: CsmMlx) -> None:
    prompts, source = [prompt(7, 1), prompt(21, 2)], torch.Generator().manual_seed(5)
    draws = [draw_noise((2, TINY.audio_codebooks, TINY.codes), source) for _ in range(5)]
    for temperature, topk in ((0.9, 5), (1.3, 500)):
        ours = spoken(MlxEngine(arrays, 2), prompts, 5, temperature, topk, draws)
        assert torch.equal(ours, spoken(Engine(model, 2), prompts, 5, temperature, topk, draws))


@pytest.mark.parametrize("drawn", [True, False])
def test_a_frame_asks_the_device_nothing(arrays: CsmMlx, drawn: bool) -> None:
    """While a step is traced MLX refuses to evaluate an array: there is no waiting for a code before the next."""
    config = arrays.config

    def trace() -> None:
        memory = Memory(config.backbone, 16, arrays.dtype)

        def step(codes: mx.array, noise: mx.array) -> mx.array:
            attend = Stepping(config.backbone, [memory.arrays], mx.array([3]))
            hidden = arrays.arrays.advance(codes, mx.array([3]), attend)
            return arrays.frame(hidden, mx.array([[0.9]]), mx.array([[5]]), noise if drawn else None)

        codes = mx.zeros((1, config.audio_codebooks), mx.int32)
        noise = mx.ones((1, config.audio_codebooks, config.codes))
        assert mx.compile(step)(codes, noise).shape == (1, config.audio_codebooks)

    arrays.thread.run(trace)


def forced(model: CsmMlx, codes: Tensor) -> Tensor:
    """What `tests.csm.backends.test_quantize.logits` gives, every code forced: [frames, codebooks, codes]."""
    config = model.config

    def work() -> Tensor:
        memory, judged = Memory(config.backbone, 64, model.dtype), []
        hidden = model.arrays.hear(to_mlx(judged_prompt(cast(Csm, model))[None]), 0, memory.hearing(0, 20))[:, -1]
        for frame in range(len(codes)):
            given = to_mlx(codes[frame][None])

            def choose(scores: mx.array, codebook: int, given: mx.array = given) -> mx.array:
                judged.append(to_torch(scores[0]))
                return given[:, codebook]

            model.arrays.frame(hidden, choose)
            attend = Stepping(config.backbone, [memory.arrays], mx.array([20 + frame]))
            hidden = model.arrays.advance(given, mx.array([20 + frame]), attend)
            memory.take(attend.memories[0])
        return torch.stack(judged).view(len(codes), config.audio_codebooks, -1)

    return model.thread.run(work)


def test_a_layer_of_the_published_shape_chooses_the_same_codes() -> None:
    shape = replace(FEW_LAYERS, backbone=replace(FEW_LAYERS.backbone, layers=1), audio_codebooks=4)
    model = make_model(replace(shape, decoder=replace(FEW_LAYERS.decoder, layers=1)))
    expected, codes = logits(model, 2)
    found = forced(CsmMlx.of(model), codes)
    assert torch.equal(found.argmax(-1), codes)
    assert relative(found, expected) < 1e-4


@pytest.fixture(scope="module")
def full_shapes() -> tuple[Csm, Tensor, Tensor]:
    """Two layers of a kind, of the published shape, and all codebooks: a model, its logits, and its codes."""
    model = make_model(FEW_LAYERS)
    return model, *logits(model, 2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scheme", "error", "agreement"), [(None, 1e-4, 0.999), ("int8", 0.05, 0.9), ("int4", 0.35, 0.4)]
)
def test_logits_and_likeliest_codes_are_those_of_float32_and_packed_stay_near(
    full_shapes: tuple[Csm, Tensor, Tensor], scheme: str | None, error: float, agreement: float
) -> None:
    """The measure, and the bounds, of tests/csm/backends/test_quantize.py."""
    plain, expected, codes = full_shapes
    found = forced(CsmMlx.of(plain, scheme), codes)
    assert relative(found, expected) < error
    assert (found.argmax(-1) == codes).float().mean() > agreement


@pytest.mark.parametrize(("scheme", "bits", "error"), [("int8", 8, 0.05), ("int4", 4, 0.35)])
def test_all_matrices_are_packed_and_no_embeddings(scheme: str, bits: int, error: float) -> None:
    plain = make_model(PACKABLE)
    packed = CsmMlx.of(plain, scheme)
    names = [name for name, _ in tree_flatten(packed.arrays.parameters())]
    found = {name.removesuffix(".scales") for name in names if name.endswith(".scales")}
    layers = [f"{stack}.layers.{layer}.{part}" for stack in ("backbone", "decoder") for layer in range(2)
              for part in ("attn.qkv", "attn.output", "mlp.gate_up", "mlp.down")]  # fmt: skip
    assert found == {*layers, "projection", "codebook0_head", *(f"audio_heads.{number}" for number in range(7))}
    assert packed.arrays.backbone.layers[0].attn.qkv.bits == bits
    assert {packed.arrays.projection.bits, packed.arrays.audio_heads[3].bits} == {8}
    expected, codes = logits(plain, 2)
    assert relative(forced(packed, codes), expected) < error


def test_bfloat16_stays_near_float32(model: Csm) -> None:
    expected, codes = logits(model, 2)
    half = CsmMlx.of(make_model().bfloat16())
    assert half.dtype == mx.bfloat16
    assert relative(forced(half, codes), expected) < 0.05


# -- sound ------------------------------------------------------------------------------------------------------------


def test_sound_of_300_steps_is_pytorchs_beyond_the_window(arrays: CsmMlx) -> None:
    mimi = make_mimi(replace(make_mimi().config, window=250))
    codes = torch.randint(0, 64, (1, 8, 300), generator=torch.Generator().manual_seed(0))
    expected = mimi.decode(codes)
    decoder = MlxMimi(mimi, arrays.thread).decoder()
    found = torch.cat([decoder.step(frame) for frame in torch.split(codes, 1, dim=2)], dim=1)
    assert expected.std() > 0.05
    assert same(found, expected)


@pytest.mark.slow
def test_sound_of_300_steps_is_pytorchs_by_a_codec_of_the_published_shape(arrays: CsmMlx) -> None:
    mimi = make_mimi(MimiConfig())
    codes = torch.randint(0, 2048, (1, mimi.codebooks, 300), generator=torch.Generator().manual_seed(0))
    expected = mimi.decode(codes)
    decoder = MlxMimi(mimi, arrays.thread).decoder()
    found = torch.cat([decoder.step(frame) for frame in torch.split(codes, 1, dim=2)], dim=1)
    assert expected.std() > 0.05
    assert same(found, expected)


def test_recordings_become_the_same_codes_and_the_same_sound(codec: MlxMimi, mimi: Mimi) -> None:
    recordings = torch.stack([voice(2.03, seed=0), voice(2.03, seed=1)])  # beyond the window, and a partial frame
    codes = mimi.encode(recordings)
    assert len(set(codes.flatten().tolist())) > 20
    assert torch.equal(codec.encode(recordings), codes)
    assert same(codec.decode(codes), mimi.decode(codes))
    with pytest.raises(ValueError, match="was given"):
        codec.encode(torch.zeros(1, 0))


def test_sound_becomes_codes_while_it_is_spoken(codec: MlxMimi, mimi: Mimi) -> None:
    recording = voice(1.0)[None]
    encoder = codec.encoder()
    for _ in range(2):
        pieces = [encoder.step(piece) for piece in torch.split(recording, 700, dim=1)]
        assert torch.equal(torch.cat([*pieces, encoder.flush()], dim=2), mimi.encode(recording))
        encoder.reset()


def test_one_slot_of_a_stream_starts_afresh_and_leaves_the_other(codec: MlxMimi, mimi: Mimi) -> None:
    codes = torch.randint(0, 64, (2, 8, 6), generator=torch.Generator().manual_seed(1))
    decoder = codec.decoder(batch=2)
    decoder.step(codes[:, :, :3])
    decoder.reset(0)
    rest = decoder.step(codes[:, :, 3:])
    assert same(rest[:1], mimi.decode(codes[:1, :, 3:]))
    assert same(rest[1:], mimi.decode(codes[1:])[:, 3 * 1920 :])


# -- the library ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampling", [{"temperature": 0.0}, {"topk": 5, "seed": 3}], ids=["greedy", "seed"])
def test_speech_with_a_context_is_pytorchs(plain: Generator, generator: Generator, sampling: dict[str, Any]) -> None:
    asked: tuple[Any, ...] = ("Hello there, all of you.", 1, [VOICE], 1000)
    expected = plain.generate(*asked, **sampling)
    assert expected.std() > 0.05
    assert same(generator.generate(*asked, **sampling), expected)


def test_sound_comes_from_the_first_frame_on_and_ends_when_nobody_wants_it(generator: Generator) -> None:
    asked = count()
    chunks = generator.generate_stream(
        "Hello there", 0, [], 4000, seed=1, chunk_frames=3, cancelled=lambda: next(asked) == 7
    )
    assert [len(chunk) // 1920 for chunk in chunks] == [1, 3, 3]
    whole = generator.generate("Hello there", 0, [], 800, seed=1)
    stream = generator.generate_stream("Hello there", 0, [], 800, seed=1)
    first = next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert torch.equal(first, whole[:1920])


def test_a_batch_of_unequal_length_is_pytorchs(plain: Generator, generator: Generator) -> None:
    texts = ["Hello.", "And now something longer, to be said by another."]
    asked: Any = {"contexts": [[VOICE], []], "max_audio_length_ms": 500, "seed": 4}
    ours, expected = (one.generate_batch(texts, [0, 1], **asked) for one in (generator, plain))
    assert all(same(*pair) for pair in zip(ours, expected, strict=True))


def test_a_session_says_what_pytorchs_does_and_hears_only_what_is_new(
    plain: Generator, generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[int] = []
    original = CsmArrays.hear

    def counted(self: Any, rows: mx.array, *rest: Any) -> mx.array:
        heard.append(rows.shape[1])
        return original(self, rows, *rest)

    monkeypatch.setattr(CsmArrays, "hear", counted)

    def talk(one: Generator) -> list[Tensor]:
        session = Session(one, VOICE)
        said = [torch.cat(list(session.speak("Where shall we begin?", seed=1, max_audio_length_ms=400)))]
        session.heard(0.2)
        listener = session.listen(1)
        listener.hear(voice(0.5, seed=2))
        listener.done("At the beginning.")
        return [*said, torch.cat(list(session.speak("Well then.", seed=2, max_audio_length_ms=400)))]

    assert all(same(*pair) for pair in zip(talk(generator), talk(plain), strict=True))
    assert heard[0] > 40 and max(heard[1:]) < 40  # the voice once


def test_slots_that_join_and_leave_say_what_each_would_say_alone(
    model: Csm, mimi: Mimi, arrays: CsmMlx, codec: MlxMimi
) -> None:
    slots = Slots(arrays, codec, 3)
    listener = Listener(slots)
    requests = [(prompt(9 + 5 * index, index), 4 + index, Sampling(0.9, 20, index)) for index in range(4)]
    expected = [alone(model, mimi, *request)[0] for request in requests]
    for request in requests[:2]:
        slots.say(slots.join(), *request)
    listener.step()
    slots.say(slots.join(), *requests[2])
    while 0 not in listener.done:
        listener.step()
    assert same(listener.take(0), expected[0])
    # The next prompt begins as another slot's: what that one holds is copied.
    rows = torch.cat((requests[2][0], requests[3][0]))
    slots.say(0, rows, *requests[3][1:])
    while listener.done != {0, 1, 2}:
        listener.step()
    again = alone(model, mimi, rows, *requests[3][1:])[0]
    for slot, wanted in ((0, again), (1, expected[1]), (2, expected[2])):
        assert same(listener.take(slot), wanted)


def test_a_codec_of_pytorch_serves_too(plain: Generator, arrays: CsmMlx, mimi: Mimi) -> None:
    mixed = Generator(arrays, make_tokenizer(), mimi)
    expected = plain.generate("Hello.", 0, [], 300, seed=1)
    assert same(mixed.generate("Hello.", 0, [], 300, seed=1), expected)
    slots = Slots(arrays, mimi, 1)
    slots.say(slots.join(), prompt(9, 0), 3, Sampling(seed=1))
    heard = torch.cat([slots.step()[0].samples for _ in range(3)])
    assert same(heard, alone(plain.csm, mimi, prompt(9, 0), 3, Sampling(seed=1))[0])


def test_it_is_used_from_any_thread_and_by_several(generator: Generator) -> None:
    """MLX alone refuses what another thread has queued."""
    expected = [generator.generate("Hello.", 0, [], 300, seed=seed) for seed in range(3)]
    with ThreadPoolExecutor(3) as threads:
        spoken = threads.map(lambda seed: generator.generate("Hello.", 0, [], 300, seed=seed), range(3))
        assert all(torch.equal(*pair) for pair in zip(spoken, expected, strict=True))


def test_the_frame_ahead_changes_nothing(generator: Generator, codec: MlxMimi, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU the next frame is under way while one is waited for."""
    expected = generator.generate("Hello.", 0, [], 500, seed=1)
    ahead = generator.engine()
    monkeypatch.setattr(ahead, "ahead", 1)
    monkeypatch.setattr(generator, "_idle", [(ahead, generator.decoder())])
    left = generator.generate_stream("Somebody else", 1, [], 4000, seed=2)
    next(left)
    left.close()  # type: ignore[attr-defined]  # with a frame of it under way
    assert torch.equal(generator.generate("Hello.", 0, [], 500, seed=1), expected)
    assert isinstance(generator.decoder(), MlxDecoder)


def test_memory_that_is_used_up_is_told_and_the_generator_stays_usable(
    generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise RuntimeError("[metal::malloc] Attempting to allocate 99 bytes which is greater than the maximum")

    with monkeypatch.context() as patch:
        patch.setattr(MlxEngine, "_next", full)
        with pytest.raises(OutOfMemory):
            generator.generate("Hello.", 0, [], 300)
    assert len(generator.generate("Hello.", 0, [], 300, seed=1)) > 0


# -- loading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["original", "transformers"])
def test_both_formats_are_loaded(tmp_path: Path, form: Any) -> None:
    folder = write_checkpoint(tmp_path, form)
    expected = load_csm_1b("cpu", folder).generate("Hello there", 0, [], 400, temperature=0)
    found = load_csm_1b("mlx", folder, torch.float32)
    assert same(found.generate("Hello there", 0, [], 400, temperature=0), expected)
    assert load_csm_1b("mlx", folder).model.dtype == mx.bfloat16
    with pytest.raises(DeviceMissing, match="PyTorch only"):
        _ = found.csm


def test_an_adapter_is_merged_before_packing_and_can_be_changed(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "model", model=make_model(PACKABLE))
    adapters: list[Path | None] = [None, tmp_path / "anna", tmp_path / "ben"]
    for seed, place in enumerate(adapters):
        if place is not None:
            write_adapter(adapter_of(learnt(make_model(PACKABLE), seed=seed)), place, PACKABLE)

    def said(generator: Generator) -> Tensor:
        return generator.generate("Hello there", 0, [], 240, seed=1)

    alone = [said(load_csm_1b("mlx", folder, quantize="int4", adapter=place)) for place in adapters]
    assert not any(torch.equal(*pair) for pair in ((alone[0], alone[1]), (alone[1], alone[2]), (alone[2], alone[0])))
    generator = load_csm_1b("mlx", folder, quantize="int4", adapter=adapters[1])
    for which in (2, 0, 1):
        generator.use_adapter(adapters[which])
        assert torch.equal(said(generator), alone[which])
    write_adapter(adapter_of(learnt(make_model())), tmp_path / "other", TINY)
    with pytest.raises(CheckpointError, match="another model"):
        generator.use_adapter(tmp_path / "other")


def test_pytorchs_model_is_let_go_when_its_weights_were_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[weakref.ref[Csm]] = []

    def noted(*details: Any) -> Csm:
        taken.append(weakref.ref(loaded := load(*details)))
        return loaded

    monkeypatch.setattr("csm.loading.load", noted)
    generator = load_csm_1b("mlx", write_checkpoint(tmp_path))
    gc.collect()
    assert generator.model and [there() for there in taken] == [None]


def test_another_scheme_is_refused(model: Csm) -> None:
    with pytest.raises(ValueError, match="int3"):
        CsmMlx.of(model, "int3")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_traced_step_says_the_same_and_is_traced_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU; on a processor MLX has a C++ compiler make every kernel."""
    traced_steps: list[str] = []
    for name in ("advance", "frame"):
        original = getattr(CsmArrays, name)

        def counted(self: Any, *details: Any, name: str = name, original: Any = original) -> mx.array:
            traced_steps.append(name)
            return original(self, *details)

        monkeypatch.setattr(CsmArrays, name, counted)
    layer: Any = {"backbone": replace(TINY.backbone, layers=1), "decoder": replace(TINY.decoder, layers=1)}
    model, mimi = (
        make_model(replace(TINY, **layer, audio_codebooks=3)),
        make_mimi(replace(make_mimi().config, codebooks=3)),
    )
    plain = Generator(model, make_tokenizer(), mimi)
    traced = CsmMlx.of(model, compiled=True)
    generator = Generator(traced, make_tokenizer(), MlxMimi(mimi, traced.thread, compiled=True))
    for options in ({"temperature": 0.0}, {"seed": 1}):
        asked: Any = {"max_audio_length_ms": 500, **options}
        assert same(generator.generate("Hello", 0, [VOICE], **asked), plain.generate("Hello", 0, [VOICE], **asked))
    assert sorted(traced_steps) == ["advance", "frame", "frame"]  # the latter greedy, and drawn
