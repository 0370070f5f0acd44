"""Models fetched from a hub on this machine: resumed, checked, refused; each in a process of its own, as it is used."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from config.cache import is_here
from config.fetches import MIMI, speech_model_files, whisper_files
from csm.codec.checkpoint import ORIGINAL_FILE
from pipeline.models.downloads import choose
from pipeline.models.plan import FetchPlan, File, Tick, TransferRate, Watch
from tests.csm.tiny import write_checkpoint
from tests.support.hub import Hub, digest, serve

NAME = "someone/whisper-of-noise"
WEIGHTS = 32_000_000
"""Bytes: three of the blocks of ten million in which the hub's library hands on what it gets, and some."""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a model by name and size; what is in them is noise, and nobody loads it."""
    folder = tmp_path_factory.mktemp("hub") / "model"
    folder.mkdir()
    (folder / "model.bin").write_bytes(os.urandom(WEIGHTS))
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer.json").write_bytes(os.urandom(20_000))
    (folder / "vocabulary.txt").write_text("a\nb\n")
    (folder / "README.md").write_text("not wanted")
    return folder


@pytest.fixture
def hub(repository: Path) -> Iterator[Hub]:
    with serve({NAME: repository}) as served:
        yield served


def environment(hub: Hub, home: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    return kept | {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "NO_PROXY": "*"} | more


def command(*arguments: str, patched: str = "") -> list[str]:
    """`patched`: Python that changes a constant of the program before it runs."""
    start = "import sys, pipeline.models.downloads; from pipeline.commands.models import main"
    return [sys.executable, "-c", f"{start}\n{patched}\nsys.exit(main(sys.argv[1:]))", "--json", *arguments]


def fetch(
    hub: Hub,
    home: Path,
    model: str = NAME,
    token: str = "",
    patched: str = "",
    stage: str = "ears:whisper",
    **more: str,
) -> list[dict[str, Any]]:
    """What the downloader told, line by line."""
    arguments = [f"{stage}:{model}", *(["--token-from-stdin"] if token else [])]
    done = subprocess.run(
        command(*arguments, patched=patched),
        input=token,
        env=environment(hub, home, **more),
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.stderr, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@contextmanager
def cache_at(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patched:
        patched.setenv("HF_HOME", str(home))
        patched.delenv("HF_HUB_CACHE", raising=False)
        yield


def test_sizes_come_first_then_every_file_then_the_end(
    hub: Hub, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = fetch(hub, tmp_path)
    plan, *ticks, end = told
    assert plan["kind"] == "plan"
    assert {file["path"]: file["size"] for file in plan["files"]} == {
        "config.json": 2, "model.bin": WEIGHTS, "tokenizer.json": 20_000, "vocabulary.txt": 4,
    }  # fmt: skip
    assert (plan["have"], plan["size"]) == (0, WEIGHTS + 20_006)
    assert end["kind"] == "done"
    have = [tick["have"] for tick in ticks]
    assert have == sorted(have)
    assert have[-1] == plan["size"]
    assert ticks[-1]["speed"] >= 0
    assert "README.md" not in hub.fetched
    with cache_at(tmp_path, monkeypatch):
        assert is_here(whisper_files(NAME))
    got = list(tmp_path.rglob("snapshots/*/model.bin"))
    assert [file.read_bytes() for file in got] == [(repository / "model.bin").read_bytes()]
    assert not list(tmp_path.rglob("*part*"))

    asked = len(hub.fetched)
    again = fetch(hub, tmp_path)
    assert again[0]["have"] == again[0]["size"]
    assert len(hub.fetched) == asked, "nothing is fetched twice"


def test_a_killed_download_goes_on_where_it_was(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    half = 25_000_000
    hub.wait_after["model.bin"] = half
    process = subprocess.Popen(
        command(f"ears:whisper:{NAME}"), env=environment(hub, tmp_path), stdout=subprocess.PIPE, text=True
    )
    assert hub.paused.wait(120)
    (part,) = tmp_path.rglob("*.parley-part")
    until = time.monotonic() + 60
    while part.stat().st_size < 20_000_000 and time.monotonic() < until:
        time.sleep(0.01)
    process.kill()
    process.communicate()
    kept = part.stat().st_size
    assert 20_000_000 <= kept <= half
    with cache_at(tmp_path, monkeypatch):
        assert not is_here(whisper_files(NAME))

    before = hub.sent["model.bin"]
    told = fetch(hub, tmp_path)
    assert told[0]["have"] >= kept
    assert told[-1]["kind"] == "done"
    assert hub.sent["model.bin"] - before == WEIGHTS - kept, "what was here was not sent again"


def test_a_connection_that_drops_is_taken_up_again(hub: Hub, tmp_path: Path) -> None:
    hub.break_off["model.bin"] = WEIGHTS * 6 // 10
    hub.breaks = 1
    assert fetch(hub, tmp_path)[-1]["kind"] == "done"
    assert hub.sent["model.bin"] < WEIGHTS * 1.5


def test_a_connection_that_stays_away_is_said_and_costs_nothing(hub: Hub, repository: Path, tmp_path: Path) -> None:
    hub.break_off["model.bin"] = WEIGHTS * 6 // 10
    told = fetch(hub, tmp_path, patched="pipeline.models.downloads.WAITS_S = (0, 0, 0)")
    assert told[-1]["kind"] == "failed"
    assert "your progress is saved" in told[-1]["message"]
    assert any(tick["waiting"] for tick in told if tick["kind"] == "progress")
    assert hub.fetched.count("model.bin") == 4, "once, and after each wait"
    hub.break_off.clear()
    sent = hub.sent["model.bin"]
    assert fetch(hub, tmp_path)[-1]["kind"] == "done"
    assert hub.sent["model.bin"] - sent < WEIGHTS * 0.8


def test_a_damaged_file_is_not_kept(hub: Hub, tmp_path: Path) -> None:
    hub.damaged.add("model.bin")
    told = fetch(hub, tmp_path)
    assert "model.bin" in told[-1]["message"]
    assert "damaged" in told[-1]["message"]
    assert not list(tmp_path.rglob("*.parley-part"))
    hub.damaged.clear()
    assert fetch(hub, tmp_path)[-1]["kind"] == "done"


def test_a_licence_is_asked_for_and_the_token_kept_for_its_owner_only(hub: Hub, tmp_path: Path) -> None:
    hub.gated.add(NAME)
    hub.tokens.add("hf_right")
    (failed,) = fetch(hub, tmp_path)
    assert failed["kind"] == "failed"
    assert failed["licence"] == f"{hub.url}/{NAME}"
    assert f"{hub.url}/settings/tokens" in failed["message"]
    assert not hub.fetched, "it is said before anything is fetched"

    (wrong,) = fetch(hub, tmp_path, token="hf_wrong")
    assert wrong["message"].startswith("The token is wrong")
    assert not (tmp_path / "token").exists()

    told = fetch(hub, tmp_path, token="hf_right")
    assert told[-1]["kind"] == "done"
    assert (tmp_path / "token").read_text() == "hf_right"
    assert (tmp_path / "token").stat().st_mode & 0o777 == 0o600
    assert "hf_right" not in json.dumps(told)


def test_a_right_token_whose_owner_has_not_accepted(hub: Hub, tmp_path: Path) -> None:
    hub.gated.add(NAME)
    (failed,) = fetch(hub, tmp_path, token="hf_of_another")
    assert failed["message"].startswith(
        f"Your account has no access to {NAME} yet: accept its terms at {hub.url}/{NAME}"
    )


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("nobody/nothing", "There is no model nobody/nothing"),
        ("not a/name", "is not a model’s name"),
    ],
)
def test_a_name_that_nobody_has(hub: Hub, tmp_path: Path, model: str, words: str) -> None:
    (failed,) = fetch(hub, tmp_path, model)
    assert words in failed["message"]


def test_a_model_of_another_kind(tmp_path: Path) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    with serve({"someone/other": folder}) as hub:
        (failed,) = fetch(hub, tmp_path / "home", "someone/other")
    assert "a model of another kind" in failed["message"]


@pytest.mark.parametrize(
    ("stage", "architecture"),
    [("voice:csm", "LlamaForCausalLM"), ("mind:vllm", "BertModel"), ("voice:csm", "WhisperForConditionalGeneration")],
)
def test_a_model_of_another_architecture_is_refused_before_its_weights_are_fetched(
    tmp_path: Path, stage: str, architecture: str
) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "config.json").write_text(json.dumps({"architectures": [architecture]}))
    with serve({"someone/other": folder}) as hub:
        (failed,) = fetch(hub, tmp_path / "home", "someone/other", stage=stage)
        assert failed["message"].startswith(f"someone/other is a {architecture}, which this engine cannot load")
        assert not hub.fetched


@pytest.mark.parametrize("form", ["original", "transformers"])
def test_a_voice_that_brings_no_codec_has_one_fetched_with_it(
    tmp_path: Path, form: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tiny checkpoints with random weights. Sesame's format has the codec in another repository, transformers' not."""
    model, codec = write_checkpoint(tmp_path / "model", form), write_checkpoint(tmp_path / "codec")
    for file in model.glob("tokenizer-*"):
        file.unlink()
    with serve({"someone/csm": model, MIMI.repository: codec}) as hub:
        told = fetch(hub, tmp_path / "home", "someone/csm", stage="voice:csm")
        assert told[-1]["kind"] == "done"
        sizes = {file["path"]: file["size"] for file in told[0]["files"] if file["repository"] == MIMI.repository}
        expected = {} if form == "transformers" else {ORIGINAL_FILE: (codec / ORIGINAL_FILE).stat().st_size}
        assert sizes == expected, "its size is told before"
        with cache_at(tmp_path / "home", monkeypatch):
            assert is_here(speech_model_files("someone/csm"))
            for part in (tmp_path / "home").rglob(ORIGINAL_FILE):
                part.unlink()
            assert is_here(speech_model_files("someone/csm")) == (form == "transformers")


def test_a_mirror_that_sends_whole_files_only(hub: Hub, repository: Path, tmp_path: Path) -> None:
    hub.ranges = False
    hub.break_off["model.bin"] = WEIGHTS * 6 // 10
    hub.breaks = 1
    assert fetch(hub, tmp_path)[-1]["kind"] == "done", "and its checksum is right"
    (got,) = tmp_path.rglob("snapshots/*/model.bin")
    assert got.read_bytes() == (repository / "model.bin").read_bytes()


def test_what_came_too_much_is_thrown_away(hub: Hub, repository: Path, tmp_path: Path) -> None:
    blobs = tmp_path / "hub" / f"models--{NAME.replace('/', '--')}" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / f"{digest(repository / 'tokenizer.json')}.parley-part").write_bytes(bytes(30_000))
    assert fetch(hub, tmp_path)[-1]["kind"] == "done"


def test_a_file_where_models_should_lie(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "home").write_text("not a folder")
    failed = fetch(hub, tmp_path / "home")[-1]
    assert "a part of that path is a file" in failed["message"]
    assert (tmp_path / "home").read_text() == "not a folder"


def test_the_words_of_a_refusal_are_all_that_a_user_sees(hub: Hub, tmp_path: Path) -> None:
    """In the terminal, as in a pipe: the sentence on stderr, and nothing of Python's."""
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.commands.models", "ears:whisper:nobody/nothing"],
        env=environment(hub, tmp_path), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.strip() == (
        f"There is no model nobody/nothing at {hub.url}: check its name; a private one needs your token."
    )


def test_in_a_pipe_a_line_tells_of_each_file(hub: Hub, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.commands.models", f"ears:whisper:{NAME}"],
        env=environment(hub, tmp_path), capture_output=True, text=True, check=True,
    )  # fmt: skip
    heading, row, size, *lines, end = [line.strip() for line in done.stdout.splitlines()]
    assert heading.split() == ["model", "files", "size", "here"]
    assert row.split() == [NAME, "4", "32", "MB"]
    assert size == "32 MB to fetch."
    assert [line.partition(" fetched;")[0] for line in lines] == [
        f"{NAME}/{name}" for name in ("config.json", "model.bin", "tokenizer.json", "vocabulary.txt")
    ]
    assert end == "Fetched and checked."


def test_no_way_to_the_hub(tmp_path: Path) -> None:
    (failed,) = fetch(Hub("http://127.0.0.1:9"), tmp_path)
    assert "Can’t reach http://127.0.0.1:9." in failed["message"]
    assert "HF_ENDPOINT" in failed["message"]


def test_a_hub_that_accepts_and_never_answers(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent_hub = Hub(f"http://127.0.0.1:{silent.getsockname()[1]}")
        (failed,) = fetch(silent_hub, tmp_path, HF_HUB_DOWNLOAD_TIMEOUT="1")
    assert f"Can’t reach {silent_hub.url}." in failed["message"]


def test_offline_what_is_here_is_enough(hub: Hub, tmp_path: Path) -> None:
    (failed,) = fetch(hub, tmp_path, HF_HUB_OFFLINE="1")
    assert "HF_HUB_OFFLINE is set" in failed["message"]
    fetch(hub, tmp_path)
    assert fetch(hub, tmp_path, HF_HUB_OFFLINE="1")[-1]["kind"] == "done"


def test_a_disk_without_room_is_said_before(hub: Hub, tmp_path: Path) -> None:
    (failed,) = fetch(hub, tmp_path, patched="pipeline.models.downloads.free_disk = lambda folder: 1000")
    assert "free some space" in failed["message"]
    assert not hub.fetched


def test_a_disk_that_fills_is_said(hub: Hub, repository: Path, tmp_path: Path) -> None:
    """What is written to /dev/full meets a full disk."""
    blobs = tmp_path / "hub" / f"models--{NAME.replace('/', '--')}" / "blobs"
    blobs.mkdir(parents=True)
    part = blobs / f"{digest(repository / 'model.bin')}.parley-part"
    part.symlink_to("/dev/full")
    assert "The disk is full" in fetch(hub, tmp_path)[-1]["message"]
    part.unlink()
    assert fetch(hub, tmp_path)[-1]["kind"] == "done"


def test_only_one_format_of_the_speech_model_is_chosen() -> None:
    both = ["model.safetensors", "transformers-00001-of-00002.safetensors", "config.json", "ckpt.pt", "tokenizer.json"]
    assert choose(speech_model_files("sesame/csm-1b"), both) == ["config.json", "model.safetensors", "tokenizer.json"]
    sharded = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json"]
    assert choose(speech_model_files("someone/csm"), sharded) == sharded


def test_speed_is_of_the_last_seconds() -> None:
    rate = TransferRate()
    assert rate.speed(0.0, 0) == 0
    assert rate.speed(1.0, 100) == 100
    for second in range(2, 20):
        speed = rate.speed(float(second), 100 + 10 * second)
    assert speed == pytest.approx(10)


def test_the_time_left_is_not_told_while_nothing_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package comes whole: until then a few bytes a second would make years."""
    plan = FetchPlan((File("someone/model", "a" * 40, "weights.bin", 100_000_000, "b" * 64),))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    seconds, ticks = iter([0.0, 1.0, 2.0, 3.0]), list[Tick]()
    watch = Watch(plan, ticks.append, lambda: next(seconds))
    for count in (0, 1000, 1000, 30_000_000):
        watch.add(count)
    assert [tick.left_s is None for tick in ticks] == [True, True, True, False]
