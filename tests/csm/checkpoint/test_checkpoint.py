"""Checkpoints in both published formats, in and out."""

from __future__ import annotations

import json
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CsmForConditionalGeneration

from csm.checkpoint.checkpoint import Weights, find_weights, load, save
from csm.checkpoint.formats import FORMATS, Original, Transformers, read_config
from csm.errors import CheckpointError
from csm.model import Csm, CsmConfig
from tests.csm.oracle import reference_frames
from tests.csm.test_model import greedy, prompt
from tests.csm.tiny import TINY, FormatName, make_model, write_checkpoint

REFERENCE: Any = CsmForConditionalGeneration


def same(one: Csm, other: Csm) -> bool:
    pairs = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    return all(name == again and torch.equal(tensor, twin) for (name, tensor), (again, twin) in pairs)


@pytest.mark.parametrize("form", ["original", "transformers"])
@pytest.mark.parametrize("shard_bytes", [None, 50_000], ids=["one file", "shards"])
def test_what_was_saved_is_loaded(form: FormatName, shard_bytes: int | None, tmp_path: Path) -> None:
    model = make_model()
    folder = write_checkpoint(tmp_path, form, model=model, shard_bytes=shard_bytes)
    assert len(list(folder.glob("model*.safetensors"))) > 3 or shard_bytes is None
    loaded = load(folder)
    assert loaded.config == TINY or form == "transformers"
    assert same(loaded, model)
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


@pytest.mark.parametrize("tied", ["backbone", "decoder", "both"])
def test_the_tied_embedding_is_taken_from_where_it_is(
    tied: Literal["backbone", "decoder", "both"], tmp_path: Path
) -> None:
    model = make_model()
    folder = write_checkpoint(tmp_path, "transformers", model=model, tied=tied)
    assert same(load(folder), model)


@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("wanted", [None, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("form", ["original", "transformers"])
def test_every_type_becomes_every_type(
    form: FormatName, stored: torch.dtype, wanted: torch.dtype | None, tmp_path: Path
) -> None:
    model = make_model()
    loaded = load(write_checkpoint(tmp_path, form, model=model, dtype=stored), dtype=wanted)
    assert same(loaded, model.to(stored).to(wanted or stored))
    assert loaded.dtype == (wanted or stored)


def test_logits_of_the_two_formats_are_equal(tmp_path: Path) -> None:
    model = make_model()
    prompts = [prompt(TINY, 1, words=5, frames=9)]
    rows = prompts[0][None]
    hidden = []
    for form in ("original", "transformers"):
        loaded = load(write_checkpoint(tmp_path / form, form, model=model))
        with torch.inference_mode():
            hidden.append(loaded.prefill(rows.clamp(min=0), rows >= 0, slice(0, rows.shape[1]), loaded.cache(1)))
        assert torch.equal(greedy(loaded, prompts, 8), greedy(model, prompts, 8))
    # Not bit for bit: the two config.json state the rotary scaling in different, equivalent numbers.
    torch.testing.assert_close(hidden[0], hidden[1], atol=1e-5, rtol=0)


@pytest.mark.parametrize("shard_bytes", [None, 50_000], ids=["one file", "shards"])
def test_transformers_itself_loads_what_is_saved_in_its_format(shard_bytes: int | None, tmp_path: Path) -> None:
    model = make_model()
    folder = write_checkpoint(tmp_path, "transformers", model=model, shard_bytes=shard_bytes)
    reference, notes = REFERENCE.from_pretrained(folder, output_loading_info=True)
    assert not notes["missing_keys"]
    assert not notes["unexpected_keys"]
    prompts = [prompt(TINY, 1, words=5, frames=9)]
    assert torch.equal(greedy(model, prompts, 20), reference_frames(reference.eval(), model, prompts, 20))


def test_what_transformers_saves_is_loaded(tmp_path: Path) -> None:
    model = make_model()
    reference = REFERENCE.from_pretrained(write_checkpoint(tmp_path / "a", "transformers", model=model))
    reference.save_pretrained(tmp_path / "b")
    assert same(load(tmp_path / "b"), model)


def test_a_folder_with_both_formats_is_read_in_the_original(tmp_path: Path) -> None:
    """As sesame/csm-1b on the hub: model.safetensors beside the shards of transformers' format, and one config.json."""
    model, other = make_model(), make_model(seed=1)
    write_checkpoint(tmp_path, "transformers", model=other, shard_bytes=100_000)
    (tmp_path / "model.safetensors.index.json").rename(tmp_path / "transformers.safetensors.index.json")
    described = json.loads((tmp_path / "config.json").read_text())
    save(model, tmp_path, described=described)
    assert find_weights(tmp_path).format is FORMATS[0]
    assert same(load(tmp_path), model)


def test_a_model_mapped_from_a_file_survives_being_saved_over_it(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path)
    loaded = load(folder)
    save(make_model(seed=1), folder)
    assert same(loaded, make_model())
    assert same(load(folder), make_model(seed=1))
    assert not list(folder.glob("*.partial"))


def test_a_written_weight_stays_in_memory(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path)
    before = (folder / "model.safetensors").read_bytes()
    load(folder).projection.weight.zero_()
    assert (folder / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize("form", ["original", "transformers"])
@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("wanted", [torch.float32, torch.bfloat16, None], ids=str)
def test_the_peak_stays_near_what_is_kept(
    form: FormatName, stored: torch.dtype, wanted: torch.dtype | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of what is read but not kept, two pieces are alive at a time: the newest, and the one that it takes the place of.

    A matrix whose rows are turned is read whole; it has gone when the next tensor is read.
    """
    folder = write_checkpoint(tmp_path, form, dtype=stored)
    monkeypatch.setattr("csm.checkpoint.checkpoint.PIECE", piece := 10 << 10)
    read: list[tuple[weakref.ref[Tensor], int, int]] = []
    alive: list[list[tuple[int, int]]] = []

    def count() -> None:
        alive.append([(address, size) for tensor, address, size in read if tensor() is not None])

    def take(tensor: Tensor) -> Tensor:
        read.append((weakref.ref(tensor), tensor.data_ptr(), tensor.nbytes))
        return tensor

    pieces, whole = Weights.pieces, Weights.__getitem__

    def counted_pieces(self: Weights, name: str) -> Iterator[tuple[slice, Tensor]]:
        for part, tensor in pieces(self, name):
            take(tensor)
            count()
            yield part, tensor
            del tensor

    def counted_whole(self: Weights, name: str) -> Tensor:
        count()
        return take(whole(self, name))

    monkeypatch.setattr(Weights, "pieces", counted_pieces)
    monkeypatch.setattr(Weights, "__getitem__", counted_whole)
    model = load(folder, dtype=wanted)
    kept = {parameter.data_ptr() for parameter in model.parameters()}
    beside = [sum(size for address, size in each if address not in kept) for each in alive]
    converted = wanted is not None and wanted != stored
    assert max(beside) <= 2 * piece
    assert (max(beside) > 0) == converted, "and pieces were counted"
    assert max(parameter.nbytes for parameter in model.parameters()) > 4 * piece, "or else nothing is shown"


def edit(folder: Path, change: str) -> None:
    """Spoils a checkpoint."""
    file = folder / "model.safetensors"
    tensors = {name: tensor.clone() for name, tensor in load_file(file).items()}
    match change:
        case "cut short":
            file.write_bytes(file.read_bytes()[:-1000])
        case "cut in the header":
            file.write_bytes(file.read_bytes()[:100])
        case "empty":
            file.write_bytes(b"")
        case "text":
            file.write_text("<html>Sign in to download</html>" * 10)
        case "a tensor missing":
            del tensors["backbone.layers.1.mlp.w2.weight"]
            save_file(tensors, file)
        case "a tensor too many":
            save_file(tensors | {"backbone.layers.1.attn.q_proj.lora_A.weight": torch.zeros(3)}, file)
        case "another shape":
            save_file(tensors | {"projection.weight": torch.zeros(3, 4)}, file)
        case "another model":
            save_file({"model.layers.0.self_attn.q_proj.weight": torch.zeros(3)}, file)
            (folder / "tokenizer-e351c8d8-checkpoint125.safetensors").unlink()
        case "no weights":
            for weights in folder.glob("*.safetensors"):
                weights.unlink()
        case "a pickle":
            for weights in folder.glob("*.safetensors"):
                weights.unlink()
            (folder / "ckpt.pt").write_bytes(b"pickle")
        case "a foreign config":
            (folder / "config.json").write_text('{"model_type": "llama"}')
        case "a config that is no JSON":
            (folder / "config.json").write_text("{")
        case "a config that is a list":
            (folder / "config.json").write_text("[]")
        case "an unknown flavour":
            (folder / "config.json").write_text('{"backbone_flavor": "llama-8B"}')
        case "half a config":
            (folder / "config.json").write_text('{"hidden_size": 64}')
        case "whole numbers":
            save_file({name: tensor.to(torch.int32) for name, tensor in tensors.items()}, file)
        case "a missing shard":
            file.rename(folder / "model-00002-of-00002.safetensors")
            index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
            (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        case "an index without a map":
            (folder / "model.safetensors.index.json").write_text("{}")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("cut short", "Expected [0-9,]+ bytes in .*, found [0-9,]+: it was cut short"),
        ("cut in the header", "Expected a safetensors file, found something else, or a piece of one"),
        ("empty", "Expected a safetensors file, found something else, or a piece of one"),
        ("text", "Expected a safetensors file, found something else"),
        ("a tensor missing", "Expected the 43 tensors of a CSM .* found no backbone.layers.1.mlp.w2.weight"),
        ("a tensor too many", "found also backbone.layers.1.attn.q_proj.lora_A.weight"),
        ("another shape", r"Expected projection.weight of shape \[32, 64\] in .*, found \[3, 4\]"),
        ("another model", "Expected a CSM checkpoint .* found tensors named model.layers.0.self_attn.q_proj.weight"),
        ("no weights", "Expected a CSM checkpoint .* found no .safetensors file"),
        ("a pickle", "found ckpt.pt, a pickle, which csm does not open"),
        ("a foreign config", "Expected a config.json of model_type csm, found 'llama'"),
        ("a config that is no JSON", "Expected a JSON object in .*config.json, found something else"),
        ("a config that is a list", "Expected a JSON object in .*config.json, found a list"),
        ("an unknown flavour", "Expected one of llama-1B, llama-100M as backbone_flavor, found 'llama-8B'"),
        ("half a config", "Expected the shape of a CSM in config.json"),
        ("whole numbers", "Expected numbers of float32, bfloat16 or float16"),
        ("a missing shard", "Expected model-00001-of-00002.safetensors in .*, as its index says, found none"),
        ("an index without a map", "Expected a weight_map in"),
    ],
)
def test_a_spoilt_checkpoint_says_what_was_expected_and_what_was_found(
    change: str, message: str, tmp_path: Path
) -> None:
    folder = write_checkpoint(tmp_path)
    edit(folder, change)
    with pytest.raises(CheckpointError, match=message):
        load(folder)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"Expected a folder with a CSM checkpoint at .*nowhere, found none"):
        load(tmp_path / "nowhere")


def test_an_index_cannot_point_out_of_its_folder(tmp_path: Path) -> None:
    outside = write_checkpoint(tmp_path / "outside")
    folder = tmp_path / "inside"
    folder.mkdir()
    index = {"weight_map": {"a": f"../outside/{next(outside.glob('model.safetensors')).name}"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=r"Expected model\.safetensors in .*inside"):
        load(folder)


def test_packed_weights_are_not_saved(tmp_path: Path) -> None:
    model = make_model()
    model.projection = torch.nn.Identity()  # type: ignore[assignment]
    with pytest.raises(CheckpointError, match="Save it before it is quantised"):
        save(model, tmp_path)


def test_names_of_the_published_checkpoint_in_transformers_format() -> None:
    form = Transformers()
    with torch.device("meta"):
        names = {form.names(name)[0] for name in Csm(CsmConfig.csm_1b()).state_dict()}
    assert len(names) == 187
    assert {
        "embed_text_tokens.weight",
        "backbone_model.embed_tokens.embed_audio_tokens.weight",
        "backbone_model.layers.15.self_attn.o_proj.weight",
        "backbone_model.layers.0.post_attention_layernorm.weight",
        "backbone_model.norm.weight",
        "depth_decoder.codebooks_head.weight",
        "depth_decoder.model.inputs_embeds_projector.weight",
        "depth_decoder.model.layers.3.mlp.gate_proj.weight",
        "depth_decoder.model.layers.3.input_layernorm.weight",
        "depth_decoder.model.norm.weight",
        "lm_head.weight",
    } <= names


def test_configs_of_the_published_model() -> None:
    published = {
        "backbone_flavor": "llama-1B",
        "decoder_flavor": "llama-100M",
        "text_vocab_size": 128_256,
        "audio_vocab_size": 2051,
        "audio_num_codebooks": 32,
    }
    full = CsmConfig.csm_1b()
    assert read_config(published) == full
    assert read_config({}) == full
    assert Original().config(full) == published
    theirs = Transformers().config(full)
    rope = theirs["rope_parameters"]
    assert [rope[key] for key in ("factor", "low_freq_factor", "high_freq_factor")] == [32, 0.125, 0.5]
    assert rope["original_max_position_embeddings"] == 1024
    depth = theirs["depth_decoder_config"]["rope_parameters"]
    assert [depth[key] for key in ("low_freq_factor", "high_freq_factor")] == [0.001953125, 0.0078125]
    assert depth["original_max_position_embeddings"] == 16
    again = read_config(theirs)
    assert (again.backbone.layers, again.decoder.head_dim, again.codes) == (16, 128, 2048)


def test_the_older_way_to_write_the_rotary_scaling() -> None:
    theirs = Transformers().config(TINY)
    old = json.loads(json.dumps(theirs))
    for stack in (old, old["depth_decoder_config"]):
        rope = stack.pop("rope_parameters")
        stack |= {"rope_theta": rope.pop("rope_theta"), "rope_scaling": rope}
    assert read_config(old) == read_config(theirs)


def test_weights_are_a_mapping(tmp_path: Path) -> None:
    weights = Weights.open([write_checkpoint(tmp_path) / "model.safetensors"])
    assert len(weights) == len(list(weights)) == 43
    assert torch.equal(weights["codebook0_head.weight"], make_model().codebook0_head.weight)
    pieces = torch.cat([piece for _, piece in weights.pieces("audio_head")])
    assert torch.equal(pieces, make_model().audio_head)
