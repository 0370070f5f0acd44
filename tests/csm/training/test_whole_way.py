"""From a folder of recordings to a voice that speaks, by the commands, on a tiny checkpoint of random weights.

What comes out is noise: that a real voice becomes more like its speaker cannot be seen on such a model, and is not
claimed (docs/TRAINING.md). What is seen is that every part hands the next what it needs.
"""

from __future__ import annotations

import csv
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import soundfile
import torch

from csm.commands import events, speaking
from csm.commands.cli import generate_command
from csm.commands.measuring import measure_command
from csm.commands.preparing import prepare_command
from csm.commands.training import train_command
from csm.training import likeness
from csm.training.journal import Journal, Line, plot
from csm.training.likeness import EncoderMissing, SpeakerEncoder
from csm.training.measure import Speaker, judge
from csm.training.settings import Settings
from csm.training.trainer import Step
from csm.training.transcribing import Heard
from tests.csm.tiny import TINY, make_model, voice, write_checkpoint

TEXT = "This is what is said in this one."
TRAIN = ["data", "--out", "out", "--model", "model", "--device", "cpu", "--consent", "Anna", "--steps", "4", "--batch",
         "2", "--accumulation", "1", "--rank", "2", "--alpha", "4", "--precision", "fp32", "--evaluate-every", "2",
         "--save-every", "2"]  # fmt: skip


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture
def recorded() -> None:
    """A model, and four recordings with their words."""
    write_checkpoint(Path("model"))
    Path("voice").mkdir()
    for index in range(4):
        soundfile.write(f"voice/{index}.wav", voice(2.0, seed=index).numpy(), 24_000)
        Path(f"voice/{index}.txt").write_text(TEXT)


def prepare() -> int:
    return prepare_command(["voice", "--out", "data", "--model", "model", "--no-whisper", "--one-speaker-unchecked"])


def rows() -> list[dict[str, str]]:
    with Path("out/metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_prepare_train_speak_measure(
    recorded: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    encoder = SpeakerEncoder().eval().requires_grad_(False)
    monkeypatch.setattr(likeness, "load_speaker_encoder", lambda weights=None: encoder)
    assert prepare() == 0
    assert "4 clips" in capsys.readouterr().out
    assert Path("data/clips.html").is_file() and len(list(Path("data/codes").glob("*.safetensors"))) == 4

    assert train_command([*TRAIN, "--speak-every", "4", "--sentence", "Hello."]) == 0
    told = capsys.readouterr()
    assert "out/adapter" in told.out and "step 4/4" in told.err and "likeness" in told.err
    found = rows()
    assert [row["step"] for row in found] == ["1", "2", "3", "4"]
    assert float(found[3]["held_out_code0"]) > 0 and found[0]["held_out_code0"] == "" and found[3]["likeness"]
    assert Path("out/training.png").read_bytes().startswith(b"\x89PNG")
    assert soundfile.info("out/samples/step-000004-1.wav").samplerate == 24_000
    assert "Anna agreed" in Path("out/adapter/adapter_config.json").read_text()

    speak = ["--model", "model", "--text", "Hi", "--max-audio-length-ms", "400", "--seed", "1"]
    assert generate_command([*speak, "--adapter", "out/adapter"]) == 0
    capsys.readouterr()
    measure = ["data", "--model", "model", "--adapter", "out/adapter", "--sentence", "Hi."]
    assert measure_command(measure) == 0
    measured = capsys.readouterr().out
    assert "ceiling, real to real" in measured and "base model" in measured and "learnt" in measured
    assert measured.count("held-out loss") == 2
    write_checkpoint(Path("wider"), model=make_model(replace(TINY, decoder=replace(TINY.decoder, ffn=64))))
    assert measure_command(["data", "--model", "wider", "--adapter", "out/adapter"]) == 2
    told = capsys.readouterr()
    assert "The adapter is for another model" in told.err and "base model" not in told.out


@pytest.mark.slow
def test_a_stopped_training_goes_on_and_is_the_one_that_was_not(
    recorded: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prepare() == 0
    assert train_command(TRAIN) == 0
    straight = [{name: row[name] for name in row if name != "seconds"} for row in rows()]
    Path("out").rename("straight")

    def interrupted(line: str) -> None:
        if "step 3/4" in line:
            signal.raise_signal(signal.SIGINT)
        speaking.say(line)

    with monkeypatch.context() as patched:
        patched.setattr(events, "say", interrupted)
        assert train_command(TRAIN) == 130
    assert "Continue with --resume" in capsys.readouterr().err
    assert train_command([*TRAIN]) == 2
    assert "add --resume" in capsys.readouterr().err
    assert train_command([*TRAIN, "--resume", "--rank", "3"]) == 2
    assert "rank: 2 → 3" in capsys.readouterr().err
    assert train_command([*TRAIN, "--resume"]) == 0
    assert [{name: row[name] for name in row if name != "seconds"} for row in rows()] == straight


@pytest.mark.slow
def test_all_weights_become_a_model_that_speaks(recorded: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare() == 0
    assert train_command([*TRAIN, "--mode", "full", "--steps", "1"]) == 0
    assert "csm-generate --model out/model" in capsys.readouterr().out
    assert generate_command(["--model", "out/model", "--text", "Hi", "--max-audio-length-ms", "400"]) == 0
    assert "Anna agreed" in Path("out/model/consent.txt").read_text()


class TestWhatIsTold:
    def test_consent_is_asked_for(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert train_command(["data", "--out", "out"]) == 2
        assert "A voice belongs to a person" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("options", "told"),
        [
            (["--rank", "0"], "rank is 1 or more"),
            (["--depth-share", "2"], "depth_share is a share from 0 to 1"),
            (["--steps", "0"], "steps is 1 or more"),
            (["--learning-rate", "3"], "The learning rate"),
        ],
    )
    def test_settings_that_are_none(self, options: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert train_command([*TRAIN, *options]) == 2
        assert told in capsys.readouterr().err

    def test_a_folder_that_was_not_prepared(self, recorded: None, capsys: pytest.CaptureFixture[str]) -> None:
        assert train_command(TRAIN) == 2
        assert "make it with csm-prepare" in capsys.readouterr().err
        assert measure_command(["nowhere", "--model", "model", "--speaker-encoder", "nowhere.pt"]) == 2
        assert "cannot be read" in capsys.readouterr().err
        assert prepare_command(["nowhere", "--out", "data", "--model", "model", "--no-whisper",
                                "--one-speaker-unchecked"]) == 2  # fmt: skip
        assert "There is nothing at nowhere" in capsys.readouterr().err

    @pytest.mark.slow
    def test_no_encoder_is_no_reason_not_to_learn(
        self, recorded: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def missing(weights: Path | None = None) -> SpeakerEncoder:
            raise EncoderMissing("The speaker encoder cannot be downloaded.")

        monkeypatch.setattr(likeness, "load_speaker_encoder", missing)
        assert prepare() == 0
        options = ["--speak-every", "1", "--steps", "1", "--sentence", "Hi."]
        assert train_command([*TRAIN, *options]) == 0
        assert "Similarity is not measured" in capsys.readouterr().err


class TestJournal:
    def test_lines_after_the_resumed_step_are_forgotten(self, tmp_path: Path) -> None:
        journal = Journal(tmp_path / "out")
        for step in range(1, 6):
            journal.add(Step(step, 0.5, 1.0 / step, 2.0, 1e-4, 3.0), 0.1)
        with (tmp_path / "out" / "metrics.csv").open("a") as file:
            file.write("6,0.5,")  # killed while it wrote
        assert [line.step for line in Journal(tmp_path / "out", 3).lines] == [1, 2, 3]
        assert Journal(tmp_path / "out", 9).lines[2].code0 == 1.0 / 3

    def test_the_picture_shows_what_there_is(self, tmp_path: Path) -> None:
        lines = [Line(step, 0.1, 2.0, 3.0, 1e-4, 1.0, 0.5) for step in range(1, 4)]
        plot([*lines, Line(4, 0.1, 2.0, 3.0, 1e-4, 1.0, 0.5, 2.5, 3.5, None)], tmp_path / "one.png")
        assert [path.name for path in tmp_path.iterdir()] == ["one.png"]


class TestFigures:
    def test_of_speech(self) -> None:
        sound = torch.cat((voice(1.0), torch.zeros(24_000), voice(1.0)))
        spoken = [("one two", sound, True), ("three four", voice(2.0), False), ("lost", torch.zeros(0), False)]
        figures = judge(spoken, None, lambda samples: Heard("one two", 0.9))
        assert figures.likeness is None and figures.ended == pytest.approx(1 / 3) and figures.count == 3
        assert figures.silence == pytest.approx(1.0, abs=0.05) and figures.errors == pytest.approx(0.5)
        assert figures.pace == pytest.approx(5 / 17)

    def test_likeness_beside_its_ceiling(self, recorded: None) -> None:
        assert prepare() == 0
        torch.manual_seed(0)
        speaker = Speaker(Path("data"), 0, SpeakerEncoder().eval())
        assert speaker.likeness(torch.zeros(24_000)) == 0.0
        assert 0 <= speaker.likeness(voice(2.0, seed=1)) <= 1.0001
        assert speaker.reference() is not None


def test_the_defaults_of_the_command_are_those_of_the_settings() -> None:
    assert Settings() == Settings(
        mode="lora", rank=32, alpha=32, steps=300, batch=2, accumulation=4, depth_share=1 / 16
    )
