"""Reading and writing both published formats of Mimi, and saying what is wrong with a file."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from csm.codec.checkpoint import (
    PREFIX_IN_CSM,
    Format,
    config_from_transformers,
    load_mimi,
    mimi_from_tensors,
    save_mimi,
    transformers_config,
)
from csm.codec.mimi import Mimi
from csm.codec.moshi import MoshiCodec, load_moshi_codec, moshi_config
from csm.codec.seanet import MimiConfig
from csm.errors import CheckpointError
from tests.csm.tiny_mimi import TINY, random_mimi, write_tiny_mimi

FORMATS: tuple[Format, ...] = ("original", "transformers")


def assert_same(one: Mimi, other: Mimi) -> None:
    assert one.config == other.config
    theirs = dict(other.named_parameters())
    for name, parameter in one.named_parameters():
        assert torch.equal(parameter, theirs[name]), name


@pytest.mark.parametrize("format", FORMATS)
def test_what_is_saved_is_loaded(tmp_path: Path, format: Format) -> None:
    mimi = random_mimi()
    save_mimi(mimi, tmp_path / "mimi.safetensors", format)
    assert_same(load_mimi(tmp_path / "mimi.safetensors"), mimi)


@pytest.mark.parametrize("format", FORMATS)
def test_a_folder_is_loaded(tmp_path: Path, format: Format) -> None:
    write_tiny_mimi(tmp_path, format)
    assert_same(load_mimi(tmp_path), random_mimi())


def test_the_published_files_have_these_many_tensors(tmp_path: Path) -> None:
    mimi = random_mimi(replace(MimiConfig(), codebook_size=2, ffn=8))
    for format, count in (("original", 318), ("transformers", 350)):
        save_mimi(mimi, tmp_path / format, format)  # type: ignore[arg-type]
        assert len(load_file(tmp_path / format)) == count


@torch.no_grad()
def test_what_moshi_saves_is_loaded(tmp_path: Path) -> None:
    """moshi's own initialisation and its names in memory; no config stated, but for the number of heads."""
    loaders = pytest.importorskip("moshi.models.loaders")
    torch.manual_seed(3)
    theirs = loaders.get_mimi(None, moshi_config(TINY), num_codebooks=32)
    for name, buffer in theirs.named_buffers():
        if name.endswith("embedding_sum"):
            buffer.normal_()
        elif name.endswith("cluster_usage"):
            buffer.uniform_(0.5, 3)
            buffer[0] = 0  # an entry never used
    save_file(theirs.state_dict(), tmp_path / "moshi.safetensors")
    tensors = load_file(tmp_path / "moshi.safetensors")
    mimi = mimi_from_tensors(tensors, config=TINY)
    never_used = theirs.quantizer.rvq_rest.vq.layers[2]._codebook.embedding[0]
    torch.testing.assert_close(mimi.quantiser.codebooks[3, 0], never_used)
    codes = torch.randint(1, 64, (1, 32, 5))
    torch.testing.assert_close(mimi.decode(codes), theirs.decode(codes)[:, 0], rtol=0, atol=1e-5)


def test_sizes_are_read_from_the_shapes(tmp_path: Path) -> None:
    """All but the heads, which are 64 wide in the published model, and the window."""
    wide = MimiConfig(codebook_size=4, codebook_dim=6, dim=128, heads=2, layers=3, ffn=10, filters=4, ratios=(5, 4, 3))
    path = tmp_path / "mimi.safetensors"
    save_mimi(random_mimi(wide), path)
    assert mimi_from_tensors(load_file(path)).config == wide


@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize("format", FORMATS)
def test_inside_a_checkpoint_of_csm(tmp_path: Path, format: Format, sharded: bool) -> None:
    path = write_tiny_mimi(tmp_path / "alone", format)
    tensors = {PREFIX_IN_CSM + name: tensor for name, tensor in load_file(path).items()}
    tensors["backbone_model.norm.weight"] = torch.ones(3)
    names = sorted(tensors)
    shards = {"a.safetensors": names[::2], "b.safetensors": names[1::2]} if sharded else {"model.safetensors": names}
    for file, part in shards.items():
        save_file({name: tensors[name] for name in part}, tmp_path / file)
    if sharded:
        weight_map = {name: file for file, part in shards.items() for name in part}
        index = {"metadata": {}, "weight_map": weight_map}
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "csm", "codec_config": transformers_config(TINY)}))
    assert_same(load_mimi(tmp_path), random_mimi())


def test_half_precision_files_are_widened(tmp_path: Path) -> None:
    path = write_tiny_mimi(tmp_path)
    save_file({name: tensor.half() for name, tensor in load_file(path).items()}, path)
    mimi = load_mimi(path, config=TINY)
    assert {parameter.dtype for parameter in mimi.parameters()} == {torch.float32}


def test_transformers_config_there_and_back() -> None:
    assert config_from_transformers(transformers_config(TINY)) == TINY
    assert config_from_transformers({"model_type": "mimi"}) == MimiConfig()


def break_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def take_away(path: Path) -> None:
    tensors = load_file(path)
    del tensors["decoder.model.5.convtr.convtr.weight"]
    save_file(tensors, path)


def reshape(path: Path) -> None:
    tensors = load_file(path)
    tensors["decoder.model.5.convtr.convtr.weight"] = torch.ones(3, 2, 1)
    save_file(tensors, path)


def exchange(path: Path) -> None:
    save_file({"model.weight": torch.ones(3)}, path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (break_off, "should be a whole safetensors file"),
        (Path.unlink, "should be a whole safetensors file"),
        (take_away, r"a tensor decoder.model.5.convtr.convtr.weight .* found \d+ tensors without it"),
        (reshape, r"decoder.model.5.convtr.convtr.weight should have the shape \[32, 16, 12\]; found \[3, 2, 1\]"),
        (exchange, r"should hold the codec Mimi, .* found 1 tensors without it"),
    ],
)
def test_a_file_that_is_not_whole(tmp_path: Path, damage: Any, message: str) -> None:
    path = write_tiny_mimi(tmp_path)
    damage(path)
    with pytest.raises(CheckpointError, match=message):
        load_mimi(path, config=TINY)


def test_a_folder_without_a_codec(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="found neither"):
        load_mimi(tmp_path)


class TestMoshiCodec:
    @pytest.fixture
    def moshi(self, tmp_path: Path) -> MoshiCodec:
        pytest.importorskip("moshi")
        return load_moshi_codec(write_tiny_mimi(tmp_path), config=replace(TINY, window=250))

    @pytest.fixture
    def mimi(self) -> Mimi:
        return random_mimi(replace(TINY, window=250))

    def test_it_decodes_as_ours_whole_and_in_steps(self, moshi: MoshiCodec, mimi: Mimi) -> None:
        codes = torch.randint(0, 64, (2, 32, 5))
        torch.testing.assert_close(moshi.decode(codes), mimi.decode(codes), rtol=0, atol=1e-5)
        theirs, ours = moshi.decoder(2), mimi.decoder(2)
        for frames in (codes[..., :1], codes[..., 1:4]):
            torch.testing.assert_close(theirs.step(frames), ours.step(frames), rtol=0, atol=1e-5)
        theirs.reset(1)
        ours.reset(1)
        torch.testing.assert_close(theirs.step(codes), ours.step(codes), rtol=0, atol=1e-5)

    def test_it_encodes_as_ours_whole_and_in_steps(self, moshi: MoshiCodec, mimi: Mimi) -> None:
        audio = torch.randn(2, 8000) / 3
        assert torch.equal(moshi.encode(audio), mimi.encode(audio))
        theirs, ours = moshi.encoder(2), mimi.encoder(2)
        for samples in (audio[:, :100], audio[:, 100:6000], audio[:, 6000:]):
            assert torch.equal(theirs.step(samples), ours.step(samples))
        assert torch.equal(theirs.flush(), ours.flush())
