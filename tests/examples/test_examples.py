"""Every program in examples/ runs: on a tiny checkpoint, hashed words for meaning, or scripted engines."""

from __future__ import annotations

import re
from functools import partial
from importlib import import_module
from pathlib import Path

import pytest
import soundfile
import soxr

from config.places import ROOT
from examples import answer_recording, dialogue, realtime_client, remember, speak, stream
from rag import Memory
from tests.csm.tiny import write_checkpoint
from tests.rag.conftest import WordEmbedder
from tests.support.recordings import recording
from tests.web.conftest import served
from tests.web.scripted import ScriptedEngines

EXAMPLES = {path.stem for path in (ROOT / "examples").glob("*.py")} - {"__init__"}
SAID = ["You:    what is the weather in paris", "Parley: It is sunny. Shall we go out?"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_checkpoint(tmp_path_factory.mktemp("csm")))


def seconds(path: Path) -> float:
    return float(soundfile.info(path).duration)


def test_the_list_names_every_example() -> None:
    listed = re.findall(r"-m examples\.(\w+)", (ROOT / "examples" / "README.md").read_text(encoding="utf-8"))
    assert sorted(listed) == sorted(EXAMPLES)
    for name in EXAMPLES:
        module = import_module(f"examples.{name}")
        assert f"python -m examples.{name}" in (module.__doc__ or "")


def test_speak(checkpoint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    speak.main(checkpoint, str(tmp_path / "hello.wav"))
    assert f"{seconds(tmp_path / 'hello.wav'):.1f} s of speech" in capsys.readouterr().out


def test_stream(checkpoint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stream.main(checkpoint, str(tmp_path / "stream.wav"))
    told = capsys.readouterr().out
    assert told.startswith("The first sound came after")
    assert f"{seconds(tmp_path / 'stream.wav'):.1f} s of speech" in told


def test_dialogue(checkpoint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dialogue.main(checkpoint, str(tmp_path / "dialogue.wav"))
    assert capsys.readouterr().out.startswith(f"{len(dialogue.LINES)} turns")
    assert seconds(tmp_path / "dialogue.wav") > 0.08 * len(dialogue.LINES)


def test_remember(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remember, "Memory", partial(Memory, embedder=WordEmbedder()))
    remember.main(str(tmp_path))
    assert "My sister Clara plays the cello." in capsys.readouterr().out


async def test_answer_recording(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer_recording, "Engines", lambda settings, folder: ScriptedEngines())
    await answer_recording.answer(recording("weather_question.wav"), tmp_path / "answer.wav", tmp_path)
    assert capsys.readouterr().out.splitlines() == SAID
    assert seconds(tmp_path / "answer.wav") > 0.1


async def test_realtime_client(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sound, rate = soundfile.read(recording("weather_question.wav"), dtype="float32")
    soundfile.write(tmp_path / "question.wav", soxr.resample(sound, rate, realtime_client.RATE), realtime_client.RATE)
    async with served(tmp_path / "data") as server:
        await realtime_client.ask(str(tmp_path / "question.wav"), str(tmp_path / "answer.wav"), f"{server.url}/v1")
    assert capsys.readouterr().out.splitlines() == SAID
    assert seconds(tmp_path / "answer.wav") > 0.1
