"""`main.py talk`: what it prints, writes and returns; once with the real engines of the offline profile."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import ClassVar, TextIO

import numpy as np
import pytest
import soundfile

from config import Settings
from config.places import ROOT
from pipeline.audio import EAR_RATE, MOUTH_RATE
from pipeline.audio.portaudio_process import PortAudioApart
from pipeline.commands import talk
from pipeline.conversation.stages import Stages
from pipeline.engine import EngineError
from pipeline.turns.record import TurnRecord
from tests.support.recordings import recording
from tests.support.scene import SPEECH_LEVEL, Scene, _Ears, _Memory, _Mind, _Vad, _Voice
from tests.support.transcript import transcribed

QUESTION = recording("weather_question.wav")


class ScriptedEngines:
    """Scripted stages (tests/support/scene.py) where talk starts the real ones."""

    scene = Scene()
    stopped = 0
    started: ClassVar[list[Settings]] = []
    failure: EngineError | None = None

    def __init__(self, settings: Settings, data: Path) -> None:
        self.started.append(settings)

    async def start(self) -> None: ...

    def stages(self) -> Stages:
        if self.failure:
            raise self.failure
        scene = self.scene
        return Stages(_Vad, _Ears(scene), _Mind(scene), _Voice(scene), _Memory(scene))

    async def stop(self) -> None:
        type(self).stopped += 1


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> type[ScriptedEngines]:
    class Fresh(ScriptedEngines):
        started: ClassVar[list[Settings]] = []
        scene = Scene(ears_delay=0, first_token=0, per_token=0, first_sample=0, voice_factor=0, memory_delay=0)

    Fresh.scene.user(0.0, 1.0, "what time is it")
    monkeypatch.setattr(talk, "Engines", Fresh)
    monkeypatch.setattr(talk, "first_profile", lambda data, machine, out: None)  # it would fetch models
    return Fresh


@pytest.fixture
def question(tmp_path: Path) -> Path:
    """A recording in which the scripted ears hear "what time is it"."""
    sound = np.zeros(2 * EAR_RATE, np.float32)
    sound[EAR_RATE // 2 : 3 * EAR_RATE // 2] = SPEECH_LEVEL
    soundfile.write(tmp_path / "question.wav", sound, EAR_RATE, subtype="FLOAT")
    return tmp_path / "question.wav"


def run(tmp_path: Path, *arguments: object) -> int:
    return talk.main(["--data", str(tmp_path / "data"), *map(str, arguments)])


def test_transcript_reply_and_times_are_printed(
    engines: type[ScriptedEngines], question: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reply = tmp_path / "reply.wav"
    assert run(tmp_path, "--input", question, "--output", reply) == 0
    printed = capsys.readouterr().out
    assert re.search(r"You +what time is it", printed)
    assert re.search(r"Parley +That is good to hear\.", printed)
    assert all(re.search(rf"{name} .*\d", printed) for name in talk.STAGES.values())
    assert soundfile.info(reply).frames == round(5 * 0.3 * MOUTH_RATE)
    assert engines.stopped == 1


def test_json_is_for_programs(
    engines: type[ScriptedEngines], question: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, "--input", question, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert [(turn["user"], turn["heard"]) for turn in told["turns"]] == [("what time is it", "That is good to hear.")]
    assert set(told["turns"][0]["milliseconds"]) == set(talk.STAGES)
    assert (told["output"], told["spoken_seconds"]) == (None, 1.5)


def test_a_first_start_takes_the_profile_that_the_page_would_take_and_tells_of_it_beside_the_json(
    engines: type[ScriptedEngines], question: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def first_profile(data: Path, machine: object, out: TextIO) -> str:
        print("The first start fetches models.", file=out)
        return "small"

    monkeypatch.setattr(talk, "first_profile", first_profile)
    assert run(tmp_path, "--input", question, "--json") == 0
    assert [settings.profile for settings in engines.started] == ["small"]
    told = capsys.readouterr()
    assert json.loads(told.out)["turns"]
    assert told.err == "The first start fetches models.\n"
    assert run(tmp_path, "--input", question, "--profile", "offline") == 0
    assert engines.started[-1].profile == "offline"


def test_silence_is_said_and_nothing_is_written(
    engines: type[ScriptedEngines], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    soundfile.write(tmp_path / "silence.wav", np.zeros(EAR_RATE, np.float32), EAR_RATE)
    reply = tmp_path / "reply.wav"
    assert run(tmp_path, "--input", tmp_path / "silence.wav", "--output", reply) == talk.NOTHING_SAID
    assert "No speech was found" in capsys.readouterr().err
    assert not reply.exists()


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("missing.wav", None, "There is no file"),
        ("empty.wav", b"", "is empty"),
        ("letter.wav", b"Dear Sir or Madam", "is not a recording"),
        ("short.wav", QUESTION.read_bytes()[:44], "has no sound in it"),
    ],
)
def test_bad_input_is_one_sentence_and_nothing_is_started_or_written(
    engines: type[ScriptedEngines],
    question: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    content: bytes | None,
    sentence: str,
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    reply = tmp_path / "reply.wav"
    assert run(tmp_path, "--input", question, "--input", tmp_path / name, "--output", reply) == talk.BAD_INPUT
    told = capsys.readouterr()
    assert sentence in told.err
    assert len(told.err.strip().splitlines()) == 1
    assert told.out == ""
    assert not reply.exists()
    assert engines.stopped == 0
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("output", ["none/reply.wav", "reply.txt", "reply.raw", "."])
def test_an_output_that_cannot_be_written_is_said_before_anything_starts(
    engines: type[ScriptedEngines], question: Path, tmp_path: Path, output: str
) -> None:
    assert run(tmp_path, "--input", question, "--output", tmp_path / output) == talk.BAD_INPUT
    assert engines.stopped == 0


@pytest.mark.parametrize("arguments", [["--output", "a.wav"], ["--json"], ["--profile", "best"], ["--realtime"]])
def test_options_that_do_not_fit_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        talk.main(arguments)
    assert ended.value.code == 2
    assert "--" in capsys.readouterr().err


def test_an_engine_that_does_not_start_is_said_and_everything_ends(
    engines: type[ScriptedEngines], question: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    engines.failure = EngineError("The voice is not ready: install espeak.")
    assert run(tmp_path, "--input", question) == talk.NOTHING_SAID
    assert capsys.readouterr().err.strip().endswith("The voice is not ready: install espeak.")
    assert engines.stopped == 1


def test_a_computer_without_sound_is_told_so_before_anything_is_downloaded_or_started(
    engines: type[ScriptedEngines],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fetched: list[object] = []
    monkeypatch.setattr(PortAudioApart, "devices", lambda self: [])
    monkeypatch.setattr(talk, "first_profile", lambda data, machine, out: fetched.append(data))
    assert run(tmp_path) == talk.NOTHING_SAID
    assert "This computer has no microphone: plug in a headset" in capsys.readouterr().err
    assert (fetched, engines.started) == ([], [])


def test_times_count_from_the_last_sample_of_speech() -> None:
    record = TurnRecord("c", 1, marks={"speech_ended": 10.0, "first_token": 10.25, "first_heard": 10.5})
    assert talk.stage_times(record) == {"first_token": 250.0, "first_heard": 500.0}
    assert talk.stage_times(TurnRecord("c", 1)) == {}


@pytest.mark.slow
def test_the_real_engines_answer_a_real_question_aloud(tmp_path: Path) -> None:
    """Everything as a user runs it; the answer is transcribed again, and speaks of what was asked."""
    reply = tmp_path / "reply.wav"
    done = subprocess.run(
        [
            sys.executable, "-m", "pipeline.commands.talk", "--profile", "offline", "--data", str(tmp_path / "data"),
            "--input", str(QUESTION), "--output", str(reply), "--json",
        ],
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "2"}, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    turn = json.loads(done.stdout)["turns"][0]
    assert turn["user"].lower().startswith("what is the weather in paris")
    assert "weather in Paris" in turn["heard"]
    sound, rate = soundfile.read(reply, dtype="float32")
    assert rate == MOUTH_RATE
    assert np.sqrt(np.mean(sound**2)) > 0.01
    understood = transcribed(sound)
    assert re.search(r"\b(weather|whether|forecast|paris|look)\b", understood), understood
