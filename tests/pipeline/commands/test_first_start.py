"""What the very first start chooses, with and without a network, on machines that are made up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TextIO

import pytest

from config.hardware import GB, Hardware
from pipeline.commands.first_start import first_profile

MACHINE = Hardware("Linux", "a small computer", 2, frozenset({"avx2"}), 4 * GB, 2 * GB, free_disk_bytes=9 * GB)


@pytest.fixture(autouse=True)
def no_models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))


def fetching(status: int, asked: list[int]) -> Callable[[TextIO], int]:
    def fetch(out: TextIO) -> int:
        asked.append(status)
        return status

    return fetch


def test_what_is_fetched_is_used(tmp_path: Path) -> None:
    asked: list[int] = []
    assert first_profile(tmp_path, MACHINE, fetching(0, asked)) == "small"
    assert asked == [0]


def test_what_is_here_is_not_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.commands.first_start.is_here", lambda source: True)
    asked: list[int] = []
    assert first_profile(tmp_path, MACHINE, fetching(1, asked)) == "small"
    assert not asked


def test_without_a_network_it_is_said_and_offline_remains(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert first_profile(tmp_path, MACHINE, fetching(1, [])) is None
    assert "engines that need no download" in capsys.readouterr().out


def test_who_stops_the_fetching_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        first_profile(tmp_path, MACHINE, fetching(130, []))


def test_only_a_first_start_on_a_machine_that_keeps_up_chooses(tmp_path: Path) -> None:
    asked: list[int] = []
    assert first_profile(tmp_path, replace(MACHINE, cores=1), fetching(0, asked)) is None
    assert first_profile(tmp_path, replace(MACHINE, instructions=frozenset()), fetching(0, asked)) is None
    (tmp_path / "settings.json").write_text("{}")
    assert first_profile(tmp_path, MACHINE, fetching(0, asked)) is None
    assert not asked
