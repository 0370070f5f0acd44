"""What is kept is there whole or not at all, and a disk that does not take it is told in one sentence."""

from __future__ import annotations

import errno
import os
import resource
import shutil
from collections import namedtuple
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from csm.checkpoint.adapter_formats import write_adapter
from csm.checkpoint.checkpoint import save
from csm.checkpoint.merging import merge_checkpoint
from csm.codec.checkpoint import ORIGINAL_FILE, save_mimi
from csm.commands.merging import merge_command
from csm.commands.parser import Parser, run
from csm.commands.preparing import prepare_command
from csm.commands.training import train_command
from csm.commands.voices import Voices
from csm.sound.audio_files import SpeechFile
from csm.training.checkpoints import Checkpoints, Progress
from csm.training.dataset import write_codes
from csm.training.journal import Line, plot
from csm.training.page import write_page
from csm.training.prepare import _write_sound
from csm.writing import CannotWrite, make_folder, replacing, writing
from tests.csm.tiny import TINY, make_mimi, make_model, voice, write_checkpoint
from tests.csm.training.lessons import random_adapter
from tests.csm.training.test_preparing import clip, write


@contextmanager
def small_files() -> Iterator[None]:
    """The system takes no file above a kilobyte, as a full disk would not: torch, safetensors and libsndfile are told
    so by the system, and each puts it in its own words."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def keep_checkpoint(folder: Path) -> None:
    Checkpoints(folder, 2).save(Progress(1, None, 1, {}), {"weights": [torch.zeros(9_000)]}, lambda beside: None)


def keep_voice(folder: Path) -> None:
    Voices(folder).add("anna", folder.parent / "recording.wav", "Hello.")


WRITERS: list[Callable[[Path], object]] = [
    lambda folder: _write_sound(folder / "a.flac", voice(1)),
    lambda folder: write_codes(folder, clip(), torch.zeros(500, 8, dtype=torch.int64)),
    lambda folder: write_page(folder, [clip()] * 50),
    lambda folder: plot([Line(1, 0.1, 2.0, 3.0, 1e-4, 1.0, 0.5)], folder / "training.png"),
    lambda folder: write_adapter(random_adapter(), folder, TINY),
    lambda folder: save(make_model(), folder),
    lambda folder: save_mimi(make_mimi(), folder / "mimi.safetensors"),
    lambda folder: SpeechFile(folder / "a.wav", 24_000).write(voice(1)),
    keep_checkpoint,
    keep_voice,
]
NAMES = ["clip", "codes", "page", "plot", "adapter", "model", "codec", "speech", "checkpoint", "voice"]


@pytest.mark.parametrize("write_into", WRITERS, ids=NAMES)
def test_whoever_writes_says_in_a_sentence_what_the_disk_does_not_take(
    write_into: Callable[[Path], object], tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    write(tmp_path / "recording.wav", voice(1.5))
    with pytest.raises(CannotWrite, match=rf"^{folder}.* cannot be written: .+\.$"), small_files():
        write_into(folder)
    kept = [path.name for path in folder.rglob("*") if path.is_file()]
    assert kept in ([], ["a.wav"])  # speech is kept as far as it came


def test_a_merge_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, adapter, out = (tmp_path / name for name in ("model", "adapter", "out"))
    write_checkpoint(model)
    save_mimi(make_mimi(), model / ORIGINAL_FILE)
    write_adapter(random_adapter(), adapter, TINY)

    def full(*_: object, **__: object) -> None:
        assert (out / ORIGINAL_FILE).is_file(), "the codec is written first"
        raise CannotWrite("full")

    monkeypatch.setattr("csm.checkpoint.merging.save", full)
    with pytest.raises(CannotWrite):
        merge_checkpoint(model, adapter, out)
    assert list(out.iterdir()) == []
    monkeypatch.undo()
    merge_checkpoint(model, adapter, out)
    assert (out / ORIGINAL_FILE).is_file()


class TestReplacing:
    def test_what_was_there_stays_until_all_of_the_new_is(self, tmp_path: Path) -> None:
        path = tmp_path / "new" / "file.txt"
        with replacing(path) as partial:
            partial.write_text("one")
        with pytest.raises(KeyboardInterrupt), replacing(path) as partial:
            partial.write_text("tw")
            raise KeyboardInterrupt
        assert path.read_text() == "one" and [kept.name for kept in path.parent.iterdir()] == ["file.txt"]

    def test_two_processes_write_the_same_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "file.txt"
        with replacing(path) as ours:
            ours.write_text("ours")
            monkeypatch.setattr(os, "getpid", lambda: 1)
            with replacing(path) as theirs:
                theirs.write_text("theirs")
            assert path.read_text() == "theirs"
        assert path.read_text() == "ours" and list(tmp_path.iterdir()) == [path]

    def test_a_mistake_of_ours_is_not_the_disks(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="ours"), replacing(tmp_path / "file"):
            raise ValueError("ours")


class TestReasons:
    @pytest.mark.parametrize(
        ("number", "told"),
        [
            (errno.EACCES, "you are not allowed to write there"),
            (errno.EROFS, "that disk is read-only"),
            (errno.ENOSPC, "the disk is full. Free some space"),
            (errno.ENOTDIR, "there is a file where a folder should be"),
            (errno.EIO, "Input/output error. Choose another place."),
        ],
    )
    def test_of_the_system(self, number: int, told: str, tmp_path: Path) -> None:
        with pytest.raises(CannotWrite, match=told) as raised, writing(tmp_path / "a"):
            raise OSError(number, os.strerror(number))
        assert "Errno" not in str(raised.value)

    def test_of_libraries_that_do_not_say_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        disk = namedtuple("disk", "free")
        monkeypatch.setattr(shutil, "disk_usage", lambda place: disk(free=100))
        with pytest.raises(CannotWrite, match="the disk is full"), writing(tmp_path / "not there" / "a"):
            raise RuntimeError("unexpected pos 576 vs 534")

    def test_a_folder_is_tried_before_there_is_anything_to_lose(self, tmp_path: Path) -> None:
        make_folder(tmp_path / "a" / "b")
        assert list((tmp_path / "a" / "b").iterdir()) == []
        (tmp_path / "file").touch()
        with pytest.raises(CannotWrite, match="there is a file where a folder should be"):
            make_folder(tmp_path / "file")


class TestCommands:
    @pytest.mark.parametrize(
        "command",
        [
            lambda out: prepare_command(["in", "--out", out, "--model", "model", "--no-whisper",
                                         "--one-speaker-unchecked"]),
            lambda out: train_command(["data", "--out", out, "--model", "model", "--consent", "Anna"]),
            lambda out: merge_command(["adapter", out, "--model", "model"]),
        ],
        ids=["csm-prepare", "csm-train", "csm-merge"],
    )  # fmt: skip
    def test_a_place_that_takes_nothing(
        self, command: Callable[[str], int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:  # fmt: skip
        monkeypatch.chdir(tmp_path)
        for folder in ("model", "in"):
            Path(folder).mkdir()
        save_mimi(make_mimi(), Path("model/tokenizer-e351c8d8-checkpoint125.safetensors"))
        Path("file").touch()
        for out in ("file", "file/out"):
            assert command(out) == 2
            told = capsys.readouterr().err
            assert f"{out} cannot be written: there is a file where a folder should be." in told
            assert told.count("\n") == 1 and "Errno" not in told

    def test_a_graphics_card_that_vanishes(self, capsys: pytest.CaptureFixture[str]) -> None:
        def vanish(given: object) -> int:
            raise torch.AcceleratorError("CUDA error: device lost\nmore lines")

        assert run(Parser("csm-x"), vanish, []) == 2
        assert "csm-x: The graphics card failed (CUDA error: device lost). Start again" in capsys.readouterr().err

    def test_what_the_system_says_of_anything_else(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(Parser("csm-x"), lambda given: int(Path("/nowhere/at/all").read_text()), []) == 2
        assert capsys.readouterr().err == "csm-x: /nowhere/at/all cannot be used: it does not exist. Check its name.\n"
