"""Packed weights: what is rounded, what is computed with it, and how it is kept. All weights are random."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest
import torch
from torch import Tensor

from csm.backends.cpu_kernel import Kernel, KernelUnavailable
from csm.backends.eager import Engine
from csm.backends.quantize import (
    SCHEMES,
    KernelPacking,
    Packing,
    QuantizedCsm,
    TorchPacking,
    pick_packing,
    quantize,
)
from csm.backends.rounding import restore, round_weight
from csm.checkpoint.checkpoint import load
from csm.model import Csm, CsmConfig
from csm.sampling import Chooser, draw_noise
from tests.csm.tiny import FEW_LAYERS, TINY, make_model, write_checkpoint


@pytest.fixture(params=["kernel", "torch"])
def packing(request: pytest.FixtureRequest) -> Packing:
    return KernelPacking(request.getfixturevalue("kernel")) if request.param == "kernel" else TorchPacking()


@pytest.fixture(scope="module")
def full_shapes() -> tuple[Csm, Tensor, Tensor]:
    """A model with layers of the published shape, its logits, and its codes."""
    model = make_model(FEW_LAYERS)
    return model, *logits(model, 2)


def prompt(model: Csm, rows: int = 20) -> Tensor:
    drawn = torch.randint(0, 64, (rows, model.config.audio_codebooks + 1), generator=torch.Generator().manual_seed(1))
    drawn[: rows // 2, :-1] = -1
    drawn[rows // 2 :, -1] = -1
    return drawn


def rounded_in_place(model: Csm, scheme: str) -> Csm:
    """The plain model with the weights that the kernel's layout stands for: only the arithmetic differs then."""
    for name, matrix in model.named_modules():
        if isinstance(matrix, torch.nn.Linear):
            bits = SCHEMES[scheme] if name.startswith(("backbone", "decoder")) else 8
            matrix.weight.data = restore(*round_weight(matrix.weight, bits), matrix.in_features)
    for head in model.audio_head:
        head.data = restore(*round_weight(head.T, 8), head.shape[0]).T
    return model


@torch.inference_mode()
def logits(model: Csm, frames: int, forced: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Logits [frames, codebooks, codes] after a prompt, and the likeliest codes; every code can be forced."""
    cache, judged, chosen = model.cache(1, 64), [], []
    rows = prompt(model)[None]
    hidden = model.prefill(rows.clamp(min=0), rows >= 0, slice(0, 20), cache)[:, -1]
    for frame in range(frames):

        def choose(scores: Tensor, codebook: int, frame: int = frame) -> Tensor:
            judged.append(scores[0].float())
            return scores.argmax(-1) if forced is None else forced[frame, codebook][None]

        codes = model.frame(hidden, model.depth_cache(), choose)
        chosen.append(codes[0])
        hidden = model.advance(codes, torch.tensor([20 + frame]), cache)
    return torch.stack(judged).view(frames, model.config.audio_codebooks, -1), torch.stack(chosen)


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize(("bits", "group", "most"), [(4, 64, 0.11), (8, 64, 0.008), (8, 200, 0.011)])
def test_rounding_a_weight_leaves_the_error_that_so_many_bits_must_leave(bits: int, group: int, most: float) -> None:
    weight = torch.randn(300, 200, generator=torch.Generator().manual_seed(0))
    codes, scales = round_weight(weight, bits, group)
    assert relative(restore(codes, scales, 200), weight) < most
    assert int(codes.min()) >= -(2 ** (bits - 1)) and int(codes.max()) < 2 ** (bits - 1)


@pytest.mark.parametrize("bits", [4, 8])
def test_zeros_and_rows_of_one_large_weight_are_rounded_without_loss(bits: int) -> None:
    weight = torch.zeros(3, 128)
    weight[1, 5], weight[2, 70] = 2.0, -0.5
    assert torch.allclose(restore(*round_weight(weight, bits), 128), weight, rtol=0.005)


@pytest.mark.parametrize(
    ("config", "scheme"),
    [(TINY, "int8"), (TINY, "int4"), pytest.param(FEW_LAYERS, "int4", marks=pytest.mark.slow)],
    ids=["tiny-int8", "tiny-int4", "full-shapes-int4"],
)
def test_the_kernel_computes_what_the_plain_model_does_on_the_same_rounded_weights(
    kernel: Kernel, config: CsmConfig, scheme: str
) -> None:
    plain = rounded_in_place(make_model(config), scheme)
    packed = quantize(plain, scheme, packing=KernelPacking(kernel))
    frames = 2
    expected, codes = logits(plain, frames)
    found, _ = logits(packed, frames, codes)
    # What is left: activations in 8 bits, and bfloat16 between modules.
    assert relative(found, expected) < 0.05


@pytest.mark.parametrize(("scheme", "error", "agreement"), [("int8", 0.05, 0.9), ("int4", 0.35, 0.4)])
def test_logits_and_likeliest_codes_stay_near_those_of_float32(
    packing: Packing, full_shapes: tuple[Csm, Tensor, Tensor], scheme: str, error: float, agreement: float
) -> None:
    # Random weights are a worst case: no structure makes up for an error, and many codes are nearly as likely.
    plain, expected, codes = full_shapes
    found, _ = logits(quantize(plain, scheme, packing=packing), 2, codes)
    assert relative(found, expected) < error
    assert (found.argmax(-1) == codes).float().mean() > agreement


def test_sequences_of_a_batch_are_heard_as_if_alone(packing: Packing) -> None:
    model = quantize(make_model(), "int8", packing=packing)
    prompts = [prompt(model, 7), prompt(model, 60), prompt(model, 21)]
    together = Engine(model, batch=3)
    together.prefill(prompts)
    codes = torch.stack([together.next_frame(0, 1) for _ in range(4)], dim=1)
    for index, rows in enumerate(prompts):
        alone = Engine(model)
        alone.prefill([rows])
        assert torch.equal(torch.stack([alone.next_frame(0, 1)[0] for _ in range(4)]), codes[index])


@pytest.mark.parametrize(
    ("temperature", "topk", "noisy"), [(0.9, 3, True), (0.9, 5, True), (1.3, 64, True), (0.0, 5, True), (1.0, 5, False)]
)
def test_a_frame_spelt_in_one_call_is_the_one_spelt_code_by_code(
    kernel: Kernel, temperature: float, topk: int, noisy: bool
) -> None:
    model = quantize(make_model(), "int8", packing=KernelPacking(kernel))
    config, draw = model.config, torch.Generator().manual_seed(3)
    for _ in range(10):
        hidden = torch.randn(1, config.backbone.dim, generator=draw).bfloat16()
        chooser = Chooser(
            temperature, topk, draw_noise((1, config.audio_codebooks, config.codes), draw) if noisy else None
        )
        codes = model.frame(hidden, model.depth_cache(), chooser)
        assert torch.equal(codes, Csm.frame(model, hidden, model.depth_cache(), chooser))


@pytest.mark.parametrize("count", [2, 5, 9])
def test_frames_of_several_in_one_call_are_those_of_each_alone(kernel: Kernel, count: int) -> None:
    model = quantize(make_model(), "int4", packing=KernelPacking(kernel))
    config, draw = model.config, torch.Generator().manual_seed(4)
    hidden = torch.randn(count, config.backbone.dim, generator=draw).bfloat16()
    noise = draw_noise((count, config.audio_codebooks, config.codes), draw)
    temperature = torch.arange(count)[:, None] * 0.3
    topk = torch.arange(1, count + 1)[:, None] * 7
    together = model.frame(hidden, model.depth_cache(count), Chooser(temperature, topk, noise))
    assert torch.equal(together, Csm.frame(model, hidden, model.depth_cache(count), Chooser(temperature, topk, noise)))
    for index in range(count):
        chooser = Chooser(float(temperature[index]), int(topk[index]), noise[[index]])
        assert torch.equal(model.frame(hidden[[index]], model.depth_cache(), chooser)[0], together[index])


@pytest.mark.parametrize("threads", [1, 3])
def test_the_number_of_threads_does_not_change_the_result(kernel: Kernel, threads: int) -> None:
    model = quantize(make_model(), "int4", packing=KernelPacking(kernel))
    before = torch.get_num_threads()
    expected, _ = logits(model, 1)
    try:
        torch.set_num_threads(threads)
        assert torch.equal(logits(model, 1)[0], expected)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    "flags", [["-march=haswell"], pytest.param(["-march=x86-64"], marks=pytest.mark.slow)], ids=["AVX2", "plain"]
)
def test_the_kernel_of_a_lesser_processor_computes_the_same(kernel: Kernel, flags: list[str], tmp_path: Path) -> None:
    if os.uname().machine != "x86_64":
        pytest.skip("these are flags of x86-64")
    lesser = KernelPacking(Kernel.build(tmp_path, flags))
    lesser.check()
    model = make_model()
    for scheme in SCHEMES:
        expected, codes = logits(quantize(model, scheme, packing=KernelPacking(kernel)), 1)
        assert relative(logits(quantize(model, scheme, packing=lesser), 1, codes)[0], expected) < 0.01


def test_a_kernel_that_computes_wrongly_is_not_used(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    packing = KernelPacking(kernel)
    pack = packing.pack
    monkeypatch.setattr(packing, "pack", lambda weight, bits: pack(weight * 1.1, bits))
    with pytest.raises(KernelUnavailable, match="off by"):
        packing.check()


def test_a_kernel_whose_codec_computes_wrongly_is_not_used(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "codec", lambda *arguments: None)
    with pytest.raises(KernelUnavailable, match="codec"):
        KernelPacking(kernel).check()


@pytest.mark.parametrize(("compiler", "reason"), [("", "no C"), ("false", "cannot build")])
def test_without_a_kernel_pytorch_is_used_and_it_is_said_why(
    compiler: str, reason: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("CXX", compiler)
    if not compiler:
        monkeypatch.setenv("PATH", str(tmp_path))
    with caplog.at_level(logging.WARNING, "csm"):
        assert pick_packing().name == "torch"
    assert reason in caplog.text


def test_packed_weights_are_kept_beside_the_checkpoint_and_found_again(
    packing: Packing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_checkpoint(tmp_path / "csm")
    first = quantize(load(folder), "int4", folder, packing)
    (kept,) = (folder / "quantized").iterdir()
    with monkeypatch.context() as patch:
        patch.setattr(type(packing), "pack", lambda *_: pytest.fail("packed once more"))
        again = quantize(load(folder), "int4", folder, packing)
    in_memory = quantize(load(folder), "int4", packing=packing)
    expected, codes = logits(in_memory, 2)
    for model in (first, again):
        assert torch.equal(logits(model, 2, codes)[0], expected)
    assert kept.stat().st_size > 0
    load(folder)  # what lies in the folder now does not disturb the checkpoint


def test_another_checkpoint_in_the_same_folder_is_packed_anew(packing: Packing, tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "csm", model=make_model(seed=0))
    quantize(load(folder), "int8", folder, packing)
    write_checkpoint(folder, model=make_model(seed=1))
    model = quantize(load(folder), "int8", folder, packing)
    expected, codes = logits(quantize(make_model(seed=1), "int8", packing=packing), 1)
    assert torch.equal(logits(model, 1, codes)[0], expected)
    assert len(list((folder / "quantized").iterdir())) == 1  # what nobody will ask for again is not kept


def test_where_nothing_can_be_written_packed_weights_stay_in_memory(
    packing: Packing, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_checkpoint(tmp_path / "csm")
    (folder / "quantized").write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING, "csm"):
        model = quantize(load(folder), "int8", folder, packing)
    assert "cannot be saved" in caplog.text
    assert isinstance(model, QuantizedCsm)
    assert logits(model, 1)[0].isfinite().all()


def test_an_unknown_scheme_is_named_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="'int8', 'int4', not 'int3'"):
        quantize(make_model(), "int3")
