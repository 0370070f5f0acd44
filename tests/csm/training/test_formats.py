"""csm-prepare, run as people run it, on what people have: each format, and what is no use in any."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest
import soundfile
import torch
from torch import Tensor

from csm.commands.preparing import prepare_command
from csm.prompt import Prompter
from csm.training import prepare as preparation
from csm.training.dataset import Clip, lessons, read_clips
from tests.csm.tiny import make_mimi, make_tokenizer, voice, write_checkpoint

RATE = 24_000
TEXT = "This is what is said."
CHINESE = "今天天气很好，我们出去走走吧。"
"""The example of docs/TRAINING.md."""

Make = Callable[[Path], None]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("model"))


def sound(number: int, kind: str = "FLAC") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, voice(1.5, seed=number).numpy(), RATE, format=kind)
    return file.getvalue()


def ljspeech(folder: Path) -> None:
    (folder / "wavs").mkdir()
    for number in range(2):
        (folder / "wavs" / f"LJ-{number}.wav").write_bytes(sound(number, "WAV"))
    (folder / "metadata.csv").write_text(f"LJ-0|Abbr.|{TEXT}\nLJ-1|{TEXT}\n")


def jsonl(folder: Path) -> None:
    for number in range(2):
        (folder / f"{number}.flac").write_bytes(sound(number))
    lines = ({"audio": f"{number}.flac", "text": TEXT, "speaker": "Anna"} for number in range(2))
    # The recordings lie beside the list, and are not taken a second time.
    (folder / "list.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))


def columns(folder: Path) -> None:
    rows = [{"audio": {"bytes": sound(0), "path": "a"}, "text": TEXT}, {"audio": {"bytes": sound(1)}, "text": TEXT}]
    parquet.write_table(arrow.Table.from_pylist(rows), folder / "train-00000.parquet")


def emilia(folder: Path) -> None:
    with tarfile.open(folder / "EN-B000000.tar", "w") as shard:
        for number in range(2):
            name = f"EN_B00000_S0000_W{number:06}"
            about = {"id": name, "wav": f"{name}.mp3", "text": TEXT, "duration": 1.5, "speaker": "EN_B00000_S00000",
                     "language": "en", "dnsmos": 3.3}  # fmt: skip
            for kind, content in (("mp3", sound(number, "MP3")), ("json", json.dumps(about).encode())):
                entry = tarfile.TarInfo(f"{name}.{kind}")
                entry.size = len(content)
                shard.addfile(entry, io.BytesIO(content))


def run(model: Path, folder: Path, *options: str) -> int:
    given = folder / "list.jsonl" if (folder / "list.jsonl").exists() else folder
    out = folder.with_name("data")
    arguments = [str(given), "--out", str(out), "--model", str(model), "--no-whisper", "--one-speaker-unchecked"]
    return prepare_command([*arguments, *options])


def clips(folder: Path) -> list[Clip]:
    return sorted(read_clips(folder.with_name("data")), key=lambda clip: clip.source)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "given"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("make", [ljspeech, jsonl, columns, emilia])
def test_each_format_becomes_clips_with_their_words(make: Make, model: Path, folder: Path) -> None:
    make(folder)
    before = sorted(folder.rglob("*"))
    assert run(model, folder) == 0
    assert [(clip.text, clip.dropped) for clip in clips(folder)] == [(TEXT, ""), (TEXT, "")]
    assert sorted(folder.rglob("*")) == before, "something was unpacked"
    assert len(list((folder.with_name("data") / "codes").iterdir())) == 2


def test_a_conversation_keeps_its_turns_and_speakers(model: Path, folder: Path) -> None:
    said = [("Anna", "Have you heard?"), ("Ben", "Not a word of it."), ("Anna", "Then sit down.")]
    for number in range(3):
        (folder / f"{number}.flac").write_bytes(sound(number))
    entries = (
        {"audio": f"{number}.flac", "text": text, "speaker": who, "conversation": "one"}
        for number, (who, text) in enumerate(said)
    )
    (folder / "list.jsonl").write_text("".join(f"{json.dumps(entry)}\n" for entry in entries))
    assert run(model, folder, "--held-out", "0") == 0
    assert [(clip.name, clip.speaker, clip.turn, clip.text) for clip in clips(folder)] == [
        ("Anna", 0, 0, "Have you heard?"), ("Ben", 1, 1, "Not a word of it."), ("Anna", 0, 2, "Then sit down."),
    ]  # fmt: skip


def test_chinese_is_heard_as_it_is_written(model: Path, folder: Path) -> None:
    (folder / "a.flac").write_bytes(sound(0))
    (folder / "a.txt").write_text(CHINESE, encoding="utf-8")
    assert run(model, folder, "--language", "zh") == 0
    (clip,) = clips(folder)
    assert (clip.text, clip.dropped) == (CHINESE, "")
    tokenizer = make_tokenizer()
    prompter = Prompter(tokenizer, make_mimi(), 512, torch.device("cpu"))
    rows = lessons(folder.with_name("data"), prompter, 0.0).train(0, torch.Generator()).rows
    assert tokenizer.decode([token for token in rows[:, -1].tolist() if token >= 0]) == f"[0]{CHINESE}"


def stereo() -> Tensor:
    quiet = torch.zeros(RATE)
    return torch.stack((torch.cat((voice(2, seed=1), quiet)), torch.cat((quiet, voice(2, seed=2)))))


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        (torch.zeros(3 * RATE), "bad.wav: left out, because there is no voice in it."),
        (stereo(), "two people"),
        (voice(121.0), "too long"),
        (voice(0.5), "too short"),
        (voice(3.0).mul(30).clamp(-1, 1), "clipped"),
    ],
    ids=["silence", "two people", "two minutes", "half a second", "clipped"],
)
def test_what_is_no_use_is_told_and_ends_nothing(
    bad: Tensor, told: str, model: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    soundfile.write(folder / "bad.wav", bad.T.numpy() if bad.dim() > 1 else bad.numpy(), RATE)
    (folder / "bad.txt").write_text(TEXT)
    assert run(model, folder) == 2, "there was nothing else"
    complaint = capsys.readouterr().err.strip().splitlines()[-1]
    assert complaint.startswith("csm-prepare: None of it can be used for training")
    assert told in (folder.with_name("data") / "report.txt").read_text()
    (folder / "good.flac").write_bytes(sound(0))
    (folder / "good.txt").write_text(TEXT)
    assert run(model, folder) == 0, "one clip is enough to begin"
    assert "too few clips to hold any out" in capsys.readouterr().out


def test_a_full_disk_is_told(
    model: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "a.flac").write_bytes(sound(0))
    (folder / "a.txt").write_text(TEXT)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "clips/a.flac")

    monkeypatch.setattr(preparation, "_write_sound", full)
    assert run(model, folder) == 2
    assert capsys.readouterr().err.endswith("the disk is full. Free some space, or choose a place on another disk.\n")
    monkeypatch.undo()
    assert run(model, folder) == 0
    shutil.rmtree(folder.with_name("data"))
