"""NVIDIA's cards: what nvidia-smi says, in all the ways in which it goes wrong."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from config import nvidia
from config.nvidia import Gpu, nvidia_cards, one_card, parse_nvidia, visible

TABLE = """0, GPU-aa11, NVIDIA GeForce RTX 4090, 24564, 23010, 560.35.03, 8.9
1, GPU-bb22, NVIDIA H100 80GB HBM3, 81559, 40000, 560.35.03, 9.0
2, GPU-cc33, NVIDIA GB10, [N/A], [N/A], 580.0, 12.1
Some warning
3, GPU-dd44, Tesla K80, 11441, 11000, 470.0, [Not Supported]
"""


def test_the_table_is_read_row_by_row() -> None:
    gpus = parse_nvidia(TABLE)
    assert [gpu.name for gpu in gpus] == ["NVIDIA GeForce RTX 4090", "NVIDIA H100 80GB HBM3", "Tesla K80"]
    assert gpus[0].memory_bytes == 24564 * 1024**2
    assert gpus[0].free_bytes == 23010 * 1024**2
    assert [gpu.capability for gpu in gpus] == [8.9, 9.0, 0.0]
    assert [(gpu.index, gpu.uuid) for gpu in gpus] == [(0, "GPU-aa11"), (1, "GPU-bb22"), (3, "GPU-dd44")]


@pytest.mark.parametrize(
    ("devices", "names"),
    [
        (None, [0, 1, 3]),
        ("0", [0]),
        ("3,0", [0, 3]),
        ("GPU-bb", [1]),
        ("", []),
        ("-1", []),
        ("MIG-1234", [0, 1, 3]),
    ],
)
def test_cards_that_programs_may_not_use_are_none(devices: str | None, names: list[int]) -> None:
    assert [gpu.index for gpu in visible(parse_nvidia(TABLE), devices)] == names


def failing(error: Exception) -> Callable[[list[str]], str]:
    def run(command: list[str]) -> str:
        raise error

    return run


MISMATCH = "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 580.95\n"
NOT_THERE, THERE = (lambda: False), (lambda: True)


@pytest.mark.parametrize(
    ("run", "on_the_bus", "words"),
    [
        (failing(FileNotFoundError("nvidia-smi")), NOT_THERE, ""),
        (failing(FileNotFoundError("nvidia-smi")), THERE, "but no driver for it: install the driver"),
        (failing(subprocess.TimeoutExpired("nvidia-smi", 10)), THERE, "not answer within 10 s: restart the computer"),
        (failing(subprocess.CalledProcessError(18, "nvidia-smi", MISMATCH)), THERE, "version mismatch): restart the"),
        (failing(subprocess.CalledProcessError(2, "nvidia-smi", "\n")), THERE, "(it says nothing): restart"),
        (failing(subprocess.CalledProcessError(6, "nvidia-smi", "No devices were found")), NOT_THERE, ""),
        (failing(subprocess.CalledProcessError(6, "nvidia-smi", "No devices were found")), THERE, "No devices were"),
        (failing(subprocess.CalledProcessError(2, "nvidia-smi", 'Field "compute_cap" is not a valid field to query.')),
         THERE, "too old: update it"),
        (failing(PermissionError(13, "Permission denied")), THERE, "Permission denied"),
        (lambda command: "\x00\ufffd<html>", THERE, "cannot be understood"),
        (lambda command: "0, GPU-cc33, NVIDIA GB10, [N/A], [N/A], 580.0, 12.1", THERE, "does not report its memory"),
        (lambda command: "", NOT_THERE, ""),
    ],
)  # fmt: skip
def test_why_there_is_no_card_is_one_sentence(
    run: Callable[[list[str]], str], on_the_bus: Callable[[], bool], words: str
) -> None:
    gpus, trouble = nvidia_cards(run, {}, on_the_bus)
    assert gpus == ()
    assert words in trouble
    if words:
        assert trouble.endswith(".")
        assert "\n" not in trouble
    else:
        assert trouble == ""


def script(folder: Path, text: str) -> list[str]:
    file = folder / "nvidia-smi"
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)
    return [str(file)]


def test_a_real_program_that_hangs_is_not_waited_for(tmp_path: Path) -> None:
    """Its child holds the pipe open, as one that the driver keeps does."""
    command = script(tmp_path, "sleep 300 & echo $! > " + str(tmp_path / "child") + "; sleep 300")
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            nvidia._run(command, patience_s=0.5)
    finally:
        subprocess.run(["kill", (tmp_path / "child").read_text().strip()], check=True)


def test_a_real_program_that_prints_rubbish_or_fails(tmp_path: Path) -> None:
    assert nvidia._run(script(tmp_path, "printf '\\377\\000card'")).endswith("card")
    assert nvidia_cards(partial(ask, script(tmp_path, "printf '\\377\\000card'")), {})[0] == ()
    gpus, trouble = nvidia_cards(partial(ask, script(tmp_path, "echo No driver here.; exit 9")), {})
    assert (gpus, trouble.partition(":")[0]) == ((), "NVIDIA’s driver does not work (No driver here)")


def ask(command: list[str], asked: list[str]) -> str:
    return nvidia._run(command)


def test_of_two_cards_all_engines_use_the_one_with_most_room(monkeypatch: pytest.MonkeyPatch) -> None:
    cards = (Gpu("small", 12, 11, index=0), Gpu("large", 24, 20, index=1))
    monkeypatch.setattr(nvidia, "ask_nvidia", lambda: cards)
    assert one_card({}) == {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "1"}
    assert one_card({"CUDA_VISIBLE_DEVICES": "0"}) == {}, "the user has chosen"
    monkeypatch.setattr(nvidia, "ask_nvidia", lambda: cards[:1])
    assert one_card({}) == {}
