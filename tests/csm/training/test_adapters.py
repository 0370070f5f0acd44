"""Adapters: peft's in both directions, the others' formats, merged, switched, packed; and what is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor

from csm.backends.quantize import QuantizedCsm
from csm.checkpoint.adapter_formats import STACKS, read_adapter, write_adapter
from csm.checkpoint.adapters import Adapter, AdapterSwitch, LowRank, base_reader, merge
from csm.checkpoint.checkpoint import load
from csm.errors import CheckpointError
from csm.generator import load_csm_1b
from csm.model import Csm
from csm.synthesis import Generator
from csm.training.adapters import CONSENT_WORDS, Consent, ConsentMissing, adapter_of
from csm.training.lora import EXTRAS, LoraShape, attach, lora_modules
from csm.training.loss import Batch, frame_losses, pick_depth
from tests.csm.oracle import make_reference, reference_embeds
from tests.csm.tiny import TINY, make_model, write_checkpoint
from tests.csm.training.lessons import example, learnt, random_adapter

SEVEN = "q_proj k_proj v_proj o_proj gate_proj down_proj up_proj".split()
ROWS = example(1, words=5, frames=12).rows


@torch.inference_mode()
def judged(model: Csm) -> Tensor:
    """Logits of both stacks: they tell two models apart."""
    hidden = model.hidden_states(ROWS[None].clamp(min=0), ROWS[None] >= 0)[0]
    return model.depth_logits(hidden[-9:-1], ROWS[-8:, :-1])


@torch.inference_mode()
def judged_by(reference: Any) -> Tensor:
    inner: Any = reference.get_base_model() if isinstance(reference, PeftModel) else reference
    out = reference(inputs_embeds=reference_embeds(inner, ROWS)[None], output_hidden_states=True)
    hidden = out.hidden_states[-1][0, -9:-1]
    codes = torch.nn.functional.pad(ROWS[-8:, :-2], (1, 0))
    depth = inner.depth_decoder(input_ids=codes, backbone_last_hidden_state=hidden).logits
    return torch.cat((out.logits[0, -9:-1, None], depth), dim=1)


def merged(adapter: Adapter) -> Csm:
    model = make_model()
    merge(model, adapter)
    return model


def test_merged_equals_unmerged() -> None:
    model = learnt(make_model(), extras=("projection", "codebook0_head", "audio_head"))
    base = judged(make_model())
    assert (judged(model) - base).abs().max() > 0.05
    torch.testing.assert_close(judged(merged(adapter_of(model))), judged(model), atol=1e-4, rtol=1e-4)


def test_the_base_stays_frozen_and_everything_else_gets_a_gradient() -> None:
    model = make_model()
    trained = attach(model, LoraShape(rank=4, alpha=8, extras=("projection", "codebook0_head", "audio_head")))
    with torch.no_grad():
        for _, lora in lora_modules(model):
            lora.b.fill_(0.01)
    one = example(1, words=5, frames=12)
    batch = Batch.of([one], [pick_depth(one.frames, 1.0, torch.Generator())])
    frame_losses(model, batch).mean(batch.counts).backward()  # type: ignore[no-untyped-call]
    layers = TINY.backbone.layers + TINY.decoder.layers
    assert len(trained) == 2 * (7 * layers + 2) + 1
    for parameter in trained:
        assert parameter.grad is not None and parameter.grad.abs().max() > 0
    frozen = [parameter for parameter in model.parameters() if not parameter.requires_grad]
    assert len(frozen) + len(trained) == len(list(model.parameters()))
    assert all(parameter.grad is None for parameter in frozen)


def test_lora_begins_at_the_base_model() -> None:
    model = make_model()
    attach(model, LoraShape())
    assert torch.equal(judged(model), judged(make_model()))


class TestPeft:
    """transformers with peft, on the same weights."""

    @pytest.mark.parametrize("extras", [(), ("projection", "codebook0_head", "audio_head")], ids=["stacks", "all"])
    def test_loads_what_we_write(self, extras: tuple[str, ...], tmp_path: Path) -> None:
        adapter = random_adapter(extras=extras)
        write_adapter(adapter, tmp_path, TINY)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("warnings.warn", _no_missing_keys)
            theirs = PeftModel.from_pretrained(make_reference(make_model()), str(tmp_path)).eval()
        torch.testing.assert_close(judged_by(theirs), judged(merged(adapter)), atol=2e-4, rtol=1e-4)

    @pytest.mark.parametrize(
        "options",
        [
            {"target_modules": SEVEN},
            {"target_modules": [*SEVEN, "lm_head"], "use_rslora": True},
            {"target_modules": STACKS, "use_dora": True},
            {
                "target_modules": STACKS,
                "rank_pattern": {"q_proj": 2, r".*mlp\.up_proj": 3},
                "alpha_pattern": {"q_proj": 5},
            },
            {"target_modules": STACKS, "modules_to_save": ["codebooks_head", "inputs_embeds_projector"]},
        ],
        ids=["all seven, Mimi too", "rslora and the head", "DoRA", "patterns", "modules_to_save"],
    )
    def test_what_it_writes_is_loaded(self, options: dict[str, Any], tmp_path: Path) -> None:
        torch.manual_seed(0)
        config = LoraConfig(r=4, lora_alpha=8, **options)
        theirs = get_peft_model(make_reference(make_model()), config).eval()
        with torch.no_grad():
            for name, parameter in theirs.named_parameters():
                if parameter.requires_grad and "codec_model" not in name:
                    parameter.add_(0.1 * torch.randn(parameter.shape))
        theirs.save_pretrained(str(tmp_path))
        ours = merged(read_adapter(tmp_path, TINY))
        assert (judged(ours) - judged(make_model())).abs().max() > 0.05
        torch.testing.assert_close(judged(ours), judged_by(theirs), atol=5e-4, rtol=1e-3)

    def test_an_adapter_that_changes_the_codec_is_refused(self, tmp_path: Path) -> None:
        theirs = get_peft_model(make_reference(make_model()), LoraConfig(target_modules=SEVEN))
        with torch.no_grad():
            for name, parameter in theirs.named_parameters():
                if "codec_model" in name and "lora_B" in name:
                    parameter.add_(1)
        theirs.save_pretrained(str(tmp_path))
        with pytest.raises(CheckpointError, match="changes the codec"):
            read_adapter(tmp_path, TINY)


def _no_missing_keys(message: object, *_: object, **__: object) -> None:
    assert "missing" not in str(message), message


class TestOthers:
    """What csm-mlx and csm-streaming write, made here from the same adapter."""

    def test_csm_mlx(self, tmp_path: Path) -> None:
        adapter = random_adapter()
        names = {"attn.output_proj": "self_attn.o_proj", "attn.": "self_attn.", "mlp.w1": "mlp.gate_proj",
                 "mlp.w2": "mlp.down_proj", "mlp.w3": "mlp.up_proj"}  # fmt: skip
        tensors = {}
        for module, matrix in adapter.matrices.items():
            theirs = module
            for ours, name in names.items():
                theirs = theirs.replace(ours, name) if name not in theirs else theirs
            tensors[f"{theirs}.lora_a"] = matrix.a.T.contiguous()
            tensors[f"{theirs}.lora_b"] = matrix.b.T.contiguous()
        save_file(tensors, tmp_path / "adapters.safetensors")
        described = {"lora_parameters": {"rank": 4, "scale": 2.0, "dropout": 0.0, "keys": ["attn"]}}
        (tmp_path / "adapter_config.json").write_text(json.dumps(described))
        torch.testing.assert_close(judged(merged(read_adapter(tmp_path, TINY))), judged(merged(adapter)))

    def streaming(self, folder: Path, bias: float = 0.0) -> Path:
        adapter = random_adapter()
        tensors = {name: tensor.clone() for name, tensor in make_model().state_dict().items()}
        for module, matrix in adapter.matrices.items():
            tensors |= {f"{module}.lora_A": matrix.a, f"{module}.lora_B": matrix.b}
            tensors[f"{module}.bias"] = torch.full((len(matrix.b),), bias)
        tensors["bridge.weight"] = torch.zeros(32, 64)
        save_file(tensors, folder / "model.safetensors")
        return folder

    def test_csm_streaming(self, tmp_path: Path) -> None:
        folder = self.streaming(tmp_path)
        expected = judged(merged(random_adapter()))
        for place in (folder, folder / "model.safetensors"):
            torch.testing.assert_close(judged(merged(read_adapter(place, TINY, alpha=8))), expected)
        with pytest.raises(CheckpointError, match="does not store its alpha"):
            read_adapter(folder, TINY)

    def test_its_biases_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match="bias"):
            read_adapter(self.streaming(tmp_path, bias=0.1), TINY, alpha=8)


class TestRefused:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        write_adapter(random_adapter(), tmp_path, TINY)
        return tmp_path

    def change(self, folder: Path, tensors: dict[str, Tensor] | None = None, **described: object) -> None:
        path = folder / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | described))
        held = {name: tensor.clone() for name, tensor in load_file(folder / "adapter_model.safetensors").items()}
        save_file(held | (tensors or {}), folder / "adapter_model.safetensors")

    @pytest.mark.parametrize(
        ("name", "tensor", "told"),
        [
            ("base_model.model.lm_head.lora_X.weight", torch.zeros(2), "lora_X.weight, which is not supported"),
            ("base_model.model.other.lora_A.weight", torch.zeros(2, 2), "changes other, which CSM does not have"),
            ("base_model.model.lm_head.lora_A.weight", torch.zeros(4, 64), "Expected A and B of codebook0_head"),
            ("base_model.model.backbone_model.layers.0.self_attn.q_proj.bias", torch.ones(64), "a bias"),
            (
                "base_model.model.backbone_model.embed_tokens.embed_audio_tokens.weight",
                torch.zeros(8 * 67, 64),
                "separate audio embeddings",
            ),
        ],
    )  # fmt: skip
    def test_what_is_not_understood_by_its_name(self, folder: Path, name: str, tensor: Tensor, told: str) -> None:
        self.change(folder, {name: tensor})
        with pytest.raises(CheckpointError, match=told):
            read_adapter(folder, TINY)

    @pytest.mark.parametrize(
        ("described", "told"),
        [
            ({"peft_type": "LOHA"}, "peft_type LORA, found LOHA"),
            ({"use_qalora": True}, "use_qalora"),
            ({"use_dora": True}, "DoRA's magnitudes"),
            ({"r": 5}, "Expected rank 5"),
        ],
    )
    def test_other_kinds(self, folder: Path, described: dict[str, Any], told: str) -> None:
        self.change(folder, **described)
        with pytest.raises(CheckpointError, match=told):
            read_adapter(folder, TINY)

    def test_another_shape(self, folder: Path) -> None:
        from csm.model import CsmConfig

        with pytest.raises(CheckpointError, match="for another model: its backbone"):
            read_adapter(folder, CsmConfig.csm_1b())

    def test_no_numbers(self, folder: Path) -> None:
        key = "base_model.model.backbone_model.layers.0.self_attn.q_proj.lora_B.weight"
        self.change(folder, {key: torch.full((64, 4), torch.nan)})
        with pytest.raises(CheckpointError, match="not numbers"):
            read_adapter(folder, TINY)

    def test_no_adapter(self, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match="found none"):
            read_adapter(tmp_path / "nowhere", TINY)
        with pytest.raises(CheckpointError, match="found none"):
            read_adapter(tmp_path, TINY)
        write_checkpoint(tmp_path / "model")
        with pytest.raises(CheckpointError, match="pass it as the model"):
            read_adapter(tmp_path / "model", TINY)

    def test_a_pickle(self, folder: Path) -> None:
        (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
        with pytest.raises(CheckpointError, match="a pickle, which csm does not open"):
            read_adapter(folder, TINY)

    def test_a_magnitude_is_not_written(self, tmp_path: Path) -> None:
        matrix = LowRank(torch.zeros(1, 64), torch.zeros(64, 1), 1.0, torch.ones(64))
        with pytest.raises(CheckpointError, match="merge this one into a checkpoint"):
            write_adapter(Adapter({"backbone.layers.0.attn.q_proj": matrix}), tmp_path, TINY)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    matrices = dict(random_adapter(extras=("audio_head",)).matrices)
    name = "decoder.layers.1.mlp.w2"
    matrices[name] = LowRank(torch.randn(7, 48), torch.randn(32, 7), 3.0)
    adapter = Adapter(matrices, {"audio_head": torch.randn(7, 32, 67)}, Consent("Anna").described())
    write_adapter(adapter, tmp_path, TINY)
    again = read_adapter(tmp_path, TINY)
    assert again.matrices.keys() == adapter.matrices.keys()
    for module, matrix in adapter.matrices.items():
        assert torch.equal(again.matrices[module].a, matrix.a) and torch.equal(again.matrices[module].b, matrix.b)
        assert again.matrices[module].scale == matrix.scale
    assert torch.equal(again.whole["audio_head"], adapter.whole["audio_head"])
    assert again.described == adapter.described
    assert "Anna agreed" in (tmp_path / "adapter_config.json").read_text()


def test_consent_has_a_name() -> None:
    with pytest.raises(ConsentMissing, match="A voice belongs to a person"):
        Consent("  ")
    assert CONSENT_WORDS in Consent("Anna").described()["csm_consent"]


class TestSpeaking:
    """A generator with an adapter, on a checkpoint of its own."""

    @pytest.fixture
    def model(self, tmp_path: Path) -> Path:
        return write_checkpoint(tmp_path / "model", "transformers")

    @pytest.fixture
    def adapters(self, tmp_path: Path) -> list[Path]:
        folders = [tmp_path / name for name in ("anna", "ben")]
        for seed, folder in enumerate(folders):
            write_adapter(random_adapter(seed), folder, TINY)
        return folders

    def said(self, generator: Any) -> Tensor:
        sound: Tensor = generator.generate("Hello there", 0, [], 240, seed=1)
        return sound

    def test_is_loaded_and_switched_without_loading_anew(self, model: Path, adapters: list[Path]) -> None:
        alone = [self.said(load_csm_1b("cpu", model, adapter=folder)) for folder in (None, *adapters)]
        assert not any(torch.equal(one, other) for one, other in zip(alone, [*alone[1:], alone[0]], strict=True))
        generator = load_csm_1b("cpu", model, adapter=adapters[1])
        pointers = [parameter.data_ptr() for parameter in generator.csm.parameters()]
        for folder, expected in [(adapters[1], alone[2]), (None, alone[0]), (adapters[0], alone[1]), (None, alone[0])]:
            generator.use_adapter(folder)
            assert torch.equal(self.said(generator), expected)
        assert [parameter.data_ptr() for parameter in generator.csm.parameters()] == pointers

    def test_the_checkpoint_is_never_written_to(self, model: Path, adapters: list[Path]) -> None:
        before = (model / "model.safetensors").read_bytes()
        generator = load_csm_1b("cpu", model)
        generator.use_adapter(adapters[0])
        assert (model / "model.safetensors").read_bytes() == before

    @pytest.mark.slow
    def test_is_merged_before_weights_are_packed(self, model: Path, adapters: list[Path]) -> None:
        plain = self.said(load_csm_1b("cpu", model, quantize="int8"))
        spoken = [self.said(load_csm_1b("cpu", model, quantize="int8", adapter=folder)) for folder in adapters * 2]
        assert torch.equal(spoken[0], spoken[2]) and torch.equal(spoken[1], spoken[3])
        assert not torch.equal(spoken[0], spoken[1]) and not torch.equal(spoken[0], plain)
        assert len(list((adapters[0] / "quantized").iterdir())) == 1

    @pytest.mark.parametrize("scheme", ["int8", "int4"])
    def test_packed_weights_are_switched_in_their_place(self, model: Path, adapters: list[Path], scheme: str) -> None:
        write_adapter(random_adapter(2, extras=EXTRAS), adapters[0], TINY)
        loaded = [load_csm_1b("cpu", model, quantize=scheme, adapter=folder) for folder in (None, *adapters)]
        files = {file: file.read_bytes() for file in model.parent.rglob("quantized/*")}
        assert len(files) == 3
        generator = load_csm_1b("cpu", model, quantize=scheme, adapter=adapters[1])
        tensors = packed(generator)
        pointers = [tensor.data_ptr() for tensor in tensors.values()]
        for folder, fresh in zip((adapters[0], None, adapters[1]), (loaded[1], loaded[0], loaded[2]), strict=True):
            generator.use_adapter(folder)
            assert all(torch.equal(tensors[name], expected) for name, expected in packed(fresh).items())
        assert torch.equal(self.said(generator), self.said(loaded[2]))
        assert [tensor.data_ptr() for tensor in packed(generator).values()] == pointers
        assert {file: file.read_bytes() for file in files} == files

        (made,) = (adapters[0] / "quantized").iterdir()
        made.unlink()
        generator.use_adapter(adapters[0])
        assert made.read_bytes() == files[made], "packed anew, and kept for the next time"


def packed(generator: Generator) -> Mapping[str, Tensor]:
    assert isinstance(generator.model, QuantizedCsm)
    return generator.model.tensors


def test_a_switch_refuses_another_shape_and_changes_nothing(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path)
    model = load(folder)
    before = judged(model)
    switch = AdapterSwitch(model, base_reader(folder, model))
    with pytest.raises(CheckpointError, match="for another model"):
        switch.prepared(Adapter({"projection": LowRank(torch.ones(1, 3), torch.ones(32, 1), 1.0)}))
    assert torch.equal(judged(model), before)
