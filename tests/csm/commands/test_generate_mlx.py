"""csm-generate-mlx, with MLX and without it."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import soundfile
import torch

from csm import load_csm_1b
from csm.commands.cli import generate_mlx_command
from tests.csm.mlx_here import mlx_is_here
from tests.csm.tiny import voice, write_checkpoint

with_mlx = pytest.mark.skipif(not mlx_is_here(), reason="MLX is not installed, or SKIP_MLX_TESTS=1")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files go into a folder of the test's own; there are no weights of the watermark."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for name in ("MLX_AUTOTUNE", "MLX_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(write_checkpoint(tmp_path / "model"))


def test_without_mlx_it_says_so_and_speaks_all_the_same(
    model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("csm.devices.has_mlx", lambda: False)
    asked = ["--model", model, "--text", "Hello", "--max-audio-length-ms", "400", "--seed", "1"]
    assert generate_mlx_command(asked) == 0
    said = capsys.readouterr().err
    assert "MLX" in said and "is not installed, so csm-generate is used instead." in said
    expected = load_csm_1b("cpu", model).generate("Hello", 0, [], 400, seed=1)
    assert torch.from_numpy(soundfile.read("audio.wav", dtype="float32")[0]).allclose(expected.clamp(-1, 1), atol=1e-4)


@with_mlx
def test_it_takes_the_options_that_people_give_and_shows_what_each_stage_took(
    model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLX_AUTOTUNE", "1")
    monkeypatch.setenv("MLX_NUM_THREADS", "6")
    for number in (1, 2):
        soundfile.write(f"{number}.wav", voice(1.0, seed=number).numpy(), 24_000)
    asked = ["--text", "Hello there", "--speaker", "1", "--output", "said.wav", "--context-audio", "1.wav", "2.wav"]
    asked += ["--context-text", "Who is there?", "It is me.", "--context-speaker", "0", "1"]
    asked += ["--max-audio-length-ms", "400", "--temperature", "0.8", "--topk", "20", "--seed", "1", "--debug"]
    assert generate_mlx_command([*asked, "--model", model]) == 0
    assert len(soundfile.read("said.wav")[0]) == 5 * 1920
    shown = capsys.readouterr().err
    assert "MLX_AUTOTUNE has no effect" in shown and "MLX_NUM_THREADS has no effect" in shown
    for stage, times in (("prompt", 1), ("backbone", 4), ("depth decoder", 5), ("codec", 5)):
        assert f" ms, {times} times" in next(line for line in shown.splitlines() if line.startswith(stage))
    for figure in ("loading", "first sound after", "frames a second", "real-time factor", "memory, MLX"):
        assert figure in shown
    assert "cpu" not in shown


@with_mlx
@pytest.mark.parametrize(
    "line",
    [
        'csm-generate-mlx --text "Hello, this is a test of the CSM speech model."',
        'csm-generate-mlx --text "Benchmarking" --debug',
        'csm-generate-mlx --text "Accelerated with Apple Silicon"',
        'MLX_AUTOTUNE=1 MLX_NUM_THREADS=6 csm-generate-mlx --text "Fully optimized for Apple Silicon"',
        'csm-generate-mlx --text "Show me the performance metrics" --debug',
        'csm-generate-mlx --text "High temperature and top-k" --temperature 1.3 --topk 80',
        'csm-generate-mlx --text "Low temperature and top-k" --temperature 0.8 --topk 20',
    ],
)
def test_the_lines_that_users_of_a_fork_know(line: str, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All lines of the README of ericflo/csm (Apache-2.0), letter for letter."""
    settings, _, arguments = line.partition("csm-generate-mlx")
    for setting in settings.split():
        monkeypatch.setenv(*setting.split("="))
    assert generate_mlx_command([*shlex.split(arguments), "--model", model, "--max-audio-length-ms", "160"]) == 0
    assert len(soundfile.read("audio.wav")[0]) == 2 * 1920


@with_mlx
def test_it_speaks_in_4_bits(model: str) -> None:
    asked = ["--model", model, "--text", "Hello", "--max-audio-length-ms", "400", "--quantize", "int4"]
    assert generate_mlx_command(asked) == 0
    assert Path("audio.wav").is_file()
