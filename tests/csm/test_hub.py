"""Models by the name they have on the hub, fetched by its protocol from a small server on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from csm.checkpoint.checkpoint import save
from tests.csm.tiny import make_mimi, make_model, write_checkpoint
from tests.support.hub import Hub, serve

SCRIPT = """
import sys
import torch
from csm import CheckpointError, load_csm_1b
torch.set_num_threads(1)
try:
    generator = load_csm_1b("cpu", sys.argv[1])
    print(float(generator.generate("Hello.", 0, [], 400, temperature=0.0).double().sum()))
except CheckpointError as error:
    print(f"CheckpointError: {error}")
"""


def speak(model: str, endpoint: str, cache: Path, **more: str) -> str:
    """In a process of its own, for huggingface_hub reads its settings when it is imported."""
    settings = {"HF_ENDPOINT": endpoint, "HF_HOME": str(cache), "HF_HUB_DISABLE_PROGRESS_BARS": "1", "NO_PROXY": "*"}
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")} | settings | more
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, model], env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return result.stdout.strip()


@pytest.fixture(scope="module")
def both_formats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As sesame/csm-1b: the original's file, the shards of transformers' format, and one config.json with both."""
    folder = write_checkpoint(tmp_path_factory.mktemp("csm"), "transformers", shard_bytes=100_000)
    (folder / "model.safetensors.index.json").rename(folder / "transformers.safetensors.index.json")
    save(make_model(), folder, described=json.loads((folder / "config.json").read_text()))
    (folder / "prompts").mkdir()
    (folder / "prompts" / "read_speech_a.wav").write_bytes(b"RIFF")
    (folder / "ckpt.pt").write_bytes(b"pickle")
    return folder


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_checkpoint(tmp_path_factory.mktemp("mimi"), mimi=make_mimi())
    for file in folder.iterdir():
        if not file.name.startswith("tokenizer-"):
            file.unlink()
    return folder


def test_a_model_and_its_codec_are_fetched_once(both_formats: Path, codec: Path, tmp_path: Path) -> None:
    with serve({"sesame/csm-1b": both_formats, "kyutai/moshiko-pytorch-bf16": codec}) as hub:
        first = speak("sesame/csm-1b", hub.url, tmp_path)
        assert float(first)
        assert "model.safetensors" in hub.fetched
        assert "tokenizer-e351c8d8-checkpoint125.safetensors" in hub.fetched
        unwanted = {name for name in hub.fetched if name.startswith("model-0") or name.endswith((".pt", ".wav"))}
        assert not unwanted, "only one format is fetched, and nothing that is not needed"
        fetched = len(hub.fetched)
        assert speak("sesame/csm-1b", hub.url, tmp_path) == first
        assert len(hub.fetched) == fetched
    # The hub is gone; what was fetched is still here.
    assert speak("sesame/csm-1b", hub.url, tmp_path) == first


def test_a_model_in_transformers_format_brings_its_codec(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "model", "transformers", shard_bytes=100_000)
    with serve({"someone/csm-tuned": folder}) as hub:
        assert float(speak("someone/csm-tuned", hub.url, tmp_path / "cache"))


@pytest.mark.parametrize("model", ["nobody/nothing", "not a name"])
def test_a_name_that_nobody_has(model: str, tmp_path: Path) -> None:
    with serve({}) as hub:
        said = speak(model, hub.url, tmp_path)
    assert said.startswith(f"CheckpointError: Expected a checkpoint named '{model}' as a local folder or on the")


def test_a_hub_that_does_not_answer(tmp_path: Path) -> None:
    hub = Hub("http://127.0.0.1:9")
    assert speak("sesame/csm-1b", hub.url, tmp_path).startswith("CheckpointError: Expected a checkpoint named")


def test_a_model_without_a_codec_anywhere(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "model")
    next(folder.glob("tokenizer-*.safetensors")).unlink()
    with serve({"someone/csm": folder}) as hub:
        said = speak("someone/csm", hub.url, tmp_path / "cache")
    assert said.startswith("CheckpointError: Expected the codec Mimi beside the model in")
