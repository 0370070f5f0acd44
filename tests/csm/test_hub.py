"""Models by the name they have on the hub, fetched by its protocol from a small server on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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
for line in sys.stdin:
    try:
        generator = load_csm_1b("cpu", line.strip())
        print(float(generator.generate("Hello.", 0, [], 400, temperature=0.0).double().sum()), flush=True)
    except CheckpointError as error:
        print("CheckpointError:", *str(error).split(), flush=True)
"""


@dataclass(frozen=True, slots=True)
class Library:
    """In a process of its own, for huggingface_hub reads its settings when it is imported."""

    process: subprocess.Popen[str]

    def speak(self, model: str) -> str:
        """The sum of what is said, or why nothing is."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(f"{model}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, "the library has ended"
        return line.strip()


@contextmanager
def library(endpoint: str, cache: Path) -> Iterator[Library]:
    settings = {"HF_ENDPOINT": endpoint, "HF_HOME": str(cache), "HF_HUB_DISABLE_PROGRESS_BARS": "1", "NO_PROXY": "*"}
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")} | settings
    command = [sys.executable, "-c", SCRIPT]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield Library(process)


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


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def hub(both_formats: Path, codec: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    tuned = write_checkpoint(tmp_path_factory.mktemp("tuned"), "transformers", shard_bytes=100_000)
    with serve(
        {"sesame/csm-1b": both_formats, "kyutai/moshiko-pytorch-bf16": codec, "someone/csm-tuned": tuned}
    ) as hub:
        yield hub


@pytest.fixture(scope="module")
def there(hub: Hub, cache: Path) -> Iterator[Library]:
    with library(hub.url, cache) as library_:
        yield library_


def test_a_model_and_its_codec_are_fetched_once(hub: Hub, there: Library, cache: Path) -> None:
    first = there.speak("sesame/csm-1b")
    assert float(first)
    assert "model.safetensors" in hub.fetched
    assert "tokenizer-e351c8d8-checkpoint125.safetensors" in hub.fetched
    unwanted = {name for name in hub.fetched if name.startswith("model-0") or name.endswith((".pt", ".wav"))}
    assert not unwanted, "only one format is fetched, and nothing that is not needed"
    fetched = len(hub.fetched)
    assert there.speak("sesame/csm-1b") == first
    assert len(hub.fetched) == fetched
    with library("http://127.0.0.1:9", cache) as alone:
        assert alone.speak("sesame/csm-1b") == first, "the hub is gone; what was fetched is still here"
        assert alone.speak("someone/csm-tuned").startswith("CheckpointError: Expected a checkpoint named")


def test_a_model_in_transformers_format_brings_its_codec(there: Library) -> None:
    assert float(there.speak("someone/csm-tuned"))


@pytest.mark.parametrize("model", ["nobody/nothing", "not a name"])
def test_a_name_that_nobody_has(there: Library, model: str) -> None:
    said = there.speak(model)
    assert said.startswith(f"CheckpointError: Expected a checkpoint named '{model}' as a local folder or on the")


def test_a_model_without_a_codec_anywhere(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "model")
    next(folder.glob("tokenizer-*.safetensors")).unlink()
    with serve({"someone/csm": folder}) as hub, library(hub.url, tmp_path / "cache") as without:
        said = without.speak("someone/csm")
    assert said.startswith("CheckpointError: Expected the codec Mimi beside the model in")
