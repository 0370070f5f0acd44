"""csm-merge, and adapters on the commands that speak."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
from transformers import CsmForConditionalGeneration

from csm.checkpoint.adapter_formats import write_adapter
from csm.checkpoint.checkpoint import load
from csm.commands.cli import dialogue_command, generate_command, voice_command
from csm.commands.merging import merge_command
from csm.generator import load_csm_1b
from tests.csm.tiny import TINY, FormatName, voice, write_checkpoint
from tests.csm.training.lessons import random_adapter
from tests.csm.training.test_adapters import judged, judged_by, merged

REFERENCE: Any = CsmForConditionalGeneration


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CSM_VOICES", str(tmp_path / "voices"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    write_adapter(random_adapter(), tmp_path / "learnt", TINY)
    return tmp_path / "learnt"


@pytest.mark.parametrize(
    ("given", "form"),
    [
        ("original", "transformers"),
        ("transformers", "original"),
        pytest.param("original", "original", marks=pytest.mark.slow),
        pytest.param("transformers", "transformers", marks=pytest.mark.slow),
    ],
)
def test_a_model_of_its_own_in_either_format(given: FormatName, form: FormatName, adapter: Path) -> None:
    write_checkpoint(Path("model"), given)
    assert merge_command([str(adapter), "merged", "--model", "model", "--format", form]) == 0
    torch.testing.assert_close(judged(load(Path("merged"))), judged(merged(random_adapter())))
    # It speaks as the model does with the adapter beside it: tokenizer and codec have come along.
    one, other = load_csm_1b("cpu", "merged"), load_csm_1b("cpu", "model", adapter=adapter)
    assert torch.equal(*(generator.generate("Hello", 0, [], 400, seed=2) for generator in (one, other)))
    if form == "transformers":
        theirs = REFERENCE.from_pretrained("merged").eval()
        torch.testing.assert_close(judged_by(theirs), judged(load(Path("merged"))), atol=2e-4, rtol=1e-4)


def test_what_is_there_is_not_written_over(adapter: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_checkpoint(Path("model"))
    assert merge_command([str(adapter), "model", "--model", "model"]) == 2
    assert "model is not empty" in capsys.readouterr().err


def test_the_commands_speak_with_an_adapter_and_voices_bring_theirs(
    adapter: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_checkpoint(Path("model"))
    soundfile.write("anna.wav", voice(2.0).numpy(), 24_000)
    assert voice_command(["add", "anna", "anna.wav", "--text", "Hello there.", "--adapter", str(adapter)]) == 0
    assert voice_command(["add", "plain", "anna.wav", "--text", "Hello there."]) == 0
    common = ["--text", "Hi", "--model", "model", "--max-audio-length-ms", "400", "--seed", "1"]
    said = {}
    for name, options in {
        "learnt": ["--voice", "anna"],
        "named": ["--voice", "plain", "--adapter", str(adapter)],
        "plain": ["--voice", "plain"],
    }.items():
        assert generate_command([*common, *options, "--output", f"{name}.wav"]) == 0
        said[name] = soundfile.read(f"{name}.wav")[0].tolist()
    assert said["learnt"] == said["named"] != said["plain"]

    Path("talk.txt").write_text("Anna = anna\nAnna: Hello.\n")
    capsys.readouterr()
    assert dialogue_command(["talk.txt", "--model", "model", "--max-audio-length-ms", "160"]) == 0
    assert "does not use the adapters of Anna" in capsys.readouterr().err


def test_a_folder_that_is_no_adapter_is_no_part_of_a_voice(capsys: pytest.CaptureFixture[str]) -> None:
    soundfile.write("anna.wav", voice(2.0).numpy(), 24_000)
    Path("empty").mkdir()
    assert voice_command(["add", "anna", "anna.wav", "--text", "Hello.", "--adapter", "empty"]) == 2
    assert "contains no adapter_config.json" in capsys.readouterr().err
