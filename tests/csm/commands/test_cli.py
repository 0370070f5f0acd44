"""The commands, on a tiny checkpoint of random weights: what they write is noise of the right shape."""

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from config.places import ROOT
from csm.commands import speaking
from csm.commands.cli import dialogue_command, generate_command, verify_command, voice_command
from csm.generator import load_csm_1b
from csm.sound.playback import NoSoundDevice
from csm.sound.watermark import WatermarkMissing
from tests.csm.tiny import voice, write_checkpoint
from tests.support.recordings import AUDIO

JFK = AUDIO / "jfk.flac"
JFK_TEXT = (
    "And so, my fellow Americans, ask not what your country can do for you, ask what you can do for your country."
)
Command = Callable[[list[str]], int]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_checkpoint(tmp_path_factory.mktemp("checkpoint") / "csm"))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty working directory and no voices, and nothing from the hub's cache of this machine."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CSM_VOICES", str(tmp_path / "voices"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture
def generate(model: str) -> Command:
    options = ["--model", model, "--max-audio-length-ms", "400", "--seed", "1"]
    return lambda arguments: generate_command([*options, *arguments])


def seconds(path: Path | str) -> float:
    samples, rate = soundfile.read(path)
    assert rate == 24_000
    return float(len(samples) / rate)


class TestGenerate:
    def test_speaks_into_a_file(self, generate: Command, capsys: pytest.CaptureFixture[str]) -> None:
        assert generate(["--text", "Hello, world!"]) == 0
        assert seconds("audio.wav") == pytest.approx(0.4)
        assert "0.4 s of speech in audio.wav" in capsys.readouterr().err

    @pytest.mark.parametrize("name", ["one.wav", "two.flac", "three.ogg", "four.mp3"])
    def test_the_name_tells_the_format_and_the_file_tells_where_it_is_from(self, generate: Command, name: str) -> None:
        assert generate(["--text", "Hello", "--output", name]) == 0
        with soundfile.SoundFile(name) as file:
            assert file.format == name.split(".")[1].upper()
            assert "Synthetic speech" in file.comment
            assert "csm of Parley" in file.software or name == "four.mp3"  # the MP3 encoder writes its own name

    def test_says_what_the_generator_says(self, generate: Command, model: str) -> None:
        generate(["--text", "Hello there", "--speaker", "2", "--temperature", "0.8", "--topk", "20"])
        expected = load_csm_1b("cpu", model).generate("Hello there", 2, [], 400, 0.8, 20, seed=1)
        said, _ = soundfile.read("audio.wav", dtype="float32")
        assert np.abs(said - expected.clamp(-1, 1).numpy()).max() < 1e-4

    def test_hears_its_context(self, generate: Command) -> None:
        context = ["--context-audio", str(JFK), "--context-text", JFK_TEXT]
        generate(["--text", "Hello there", "--output", "without.wav"])
        generate(["--text", "Hello there", "--output", "with.wav", *context])
        generate(["--text", "Hello there", "--output", "other.wav", *context, "--context-speaker", "1"])
        with_it, without, other = (Path(f"{name}.wav").read_bytes() for name in ("with", "without", "other"))
        assert len({with_it, without, other}) == 3

    def test_speaks_in_a_voice(self, generate: Command) -> None:
        voice_command(["add", "jfk", str(JFK), "--text", JFK_TEXT])
        generate(["--text", "Hello there", "--output", "voice.wav", "--voice", "jfk"])
        generate(["--text", "Hello there", "--output", "folder.wav", "--voice", os.environ["CSM_VOICES"] + "/jfk"])
        generate(
            ["--text", "Hello there", "--output", "same.wav", "--context-audio", str(JFK), "--context-text", JFK_TEXT]
        )
        assert Path("voice.wav").read_bytes() == Path("same.wav").read_bytes() == Path("folder.wav").read_bytes()

    def test_quantized(self, generate: Command) -> None:
        pytest.importorskip("csm.backends.quantize")
        assert generate(["--text", "Hello", "--quantize", "int8"]) == 0
        assert seconds("audio.wav") == pytest.approx(0.4)

    def test_with_the_codec_of_moshi(self, generate: Command) -> None:
        pytest.importorskip("moshi")
        generate(["--text", "Hello"])
        generate(["--text", "Hello", "--codec", "moshi", "--output", "moshi.wav"])
        ours, theirs = soundfile.read("audio.wav")[0], soundfile.read("moshi.wav")[0]
        assert ours.shape == theirs.shape

    def test_metrics(self, generate: Command, capsys: pytest.CaptureFixture[str]) -> None:
        generate(["--text", "Hello", "--debug"])
        shown = capsys.readouterr().err
        for metric in ("loading", "first sound after", "5 frames", "real-time factor", "memory"):
            assert metric in shown

    def test_streaming_gives_the_same_sound(self, generate: Command) -> None:
        generate(["--text", "Hello"])
        generate(["--text", "Hello", "--stream", "--output", "stream.wav"])
        assert Path("audio.wav").read_bytes() == Path("stream.wav").read_bytes()

    def test_without_a_loudspeaker_it_is_written(
        self, generate: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def none(sample_rate: int) -> None:
            raise NoSoundDevice("No sound device to play on: none here")

        monkeypatch.setattr(speaking, "Playback", none)
        assert generate(["--text", "Hello", "--play"]) == 0
        assert "No sound device" in capsys.readouterr().err
        assert seconds("audio.wav") == pytest.approx(0.4)

    def test_text_and_sound_through_pipes(self, model: str) -> None:
        command = [
            sys.executable,
            "-c",
            "from csm.commands.cli import generate_command; raise SystemExit(generate_command())",
        ]
        options = ["--model", model, "--max-audio-length-ms", "400", "--output", "-", "--stream"]
        done = subprocess.run(
            [*command, *options],
            input="Héllo there\n".encode(),
            capture_output=True,
            env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"},
            check=True,
        )
        header, samples = done.stdout.split(b"data\xff\xff\xff\xff")
        assert header[:4] == b"RIFF"
        assert b"Synthetic speech" in header
        assert len(samples) == 2 * 24_000 * 0.4
        assert soundfile.info(io.BytesIO(done.stdout)).samplerate == 24_000

    def test_a_reader_that_has_heard_enough(self, model: str) -> None:
        command = "from csm.commands.cli import generate_command; raise SystemExit(generate_command())"
        options = f"--model {model} --max-audio-length-ms 2000 --text Hello --output - --stream --no-watermark"
        done = subprocess.run(
            f'{sys.executable} -c "{command}" {options} | head -c 100 > first; echo ${{PIPESTATUS[0]}}',
            shell=True,
            executable="/bin/bash",
            capture_output=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            check=True,
        )
        assert done.stdout == b"0\n"
        assert b"Traceback" not in done.stderr
        assert len(Path("first").read_bytes()) == 100

    def test_an_interruption_keeps_what_was_said(self, generate: Command, monkeypatch: pytest.MonkeyPatch) -> None:
        from csm.generator import Generator

        speak = Generator.generate_stream

        def interrupted(*arguments: object, **options: object) -> object:
            chunks = speak(*arguments, **options)  # type: ignore[arg-type]
            yield next(chunks)
            yield next(chunks)
            raise KeyboardInterrupt

        monkeypatch.setattr(Generator, "generate_stream", interrupted)
        assert generate(["--text", "Hello"]) == 130
        assert seconds("audio.wav") == pytest.approx(0.16)


class TestWatermark:
    def test_one_line_says_that_there_is_none(self, generate: Command, capsys: pytest.CaptureFixture[str]) -> None:
        generate(["--text", "Hello"])
        lines = [line for line in capsys.readouterr().err.splitlines() if "watermark" in line]
        assert len(lines) == 1
        assert "hf download sony/silentcipher" in lines[0]

    def test_it_is_on_by_default_where_it_can_be(
        self, generate: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        class Louder:
            def write(self, samples: torch.Tensor, sample_rate: int) -> torch.Tensor:
                assert sample_rate == 24_000
                return samples.mul(0).add(0.25)

        monkeypatch.setattr(speaking, "load_watermark", Louder)
        generate(["--text", "Hello"])
        assert np.allclose(soundfile.read("audio.wav")[0], 0.25, atol=1e-3)
        assert "watermark" not in capsys.readouterr().err
        for option, reason in (("--no-watermark", "as asked"), ("--stream", "streamed")):
            generate(["--text", "Hello", option, "--output", "without.wav"])
            assert not np.allclose(soundfile.read("without.wav")[0], 0.25, atol=1e-3)
            assert reason in capsys.readouterr().err

    def test_verify_shows_what_a_file_says_and_cannot_look_without_weights(
        self, generate: Command, capsys: pytest.CaptureFixture[str]
    ) -> None:
        generate(["--text", "Hello"])
        capsys.readouterr()
        assert verify_command(["audio.wav"]) == 2
        shown = capsys.readouterr().out
        assert "Synthetic speech" in shown
        assert "not looked for" in shown
        assert "hf download" in shown

    @pytest.mark.parametrize(("found", "code", "words"), [(True, 0, "98% of its digits"), (False, 1, "none found")])
    def test_verify_with_weights(
        self,
        found: bool,
        code: int,
        words: str,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        from csm.sound import watermark

        class Reader:
            def read(self, samples: torch.Tensor, sample_rate: int) -> watermark.Mark | None:
                assert (samples.shape, sample_rate) == ((485_100,), 44_100)
                return watermark.Mark(watermark.KEY, 0.98) if found else None

        monkeypatch.setattr(watermark, "load_watermark", Reader)
        assert verify_command([str(JFK)]) == code
        assert words in capsys.readouterr().out


class TestDialogue:
    SCRIPT = """
    # Two people.
Anna = anna
Ben: Have you heard?
Anna: Not a word,
    and nothing else.
Ben: So be it.
"""

    @pytest.fixture
    def dialogue(self, model: str) -> Command:
        options = ["--model", model, "--max-audio-length-ms", "400", "--seed", "1"]
        return lambda arguments: dialogue_command([*options, *arguments])

    @pytest.fixture
    def script(self) -> str:
        voice_command(["add", "anna", str(AUDIO / "austen_0880.wav"), "--text", "He was not an ill disposed man."])
        Path("script.txt").write_text(self.SCRIPT)
        return "script.txt"

    def test_all_lines_are_spoken_with_pauses(self, dialogue: Command, script: str) -> None:
        assert dialogue([script, "--pause", "0.5", "--output", "talk.flac"]) == 0
        assert seconds("talk.flac") == pytest.approx(3 * 0.4 + 2 * 0.5)

    def test_each_line_is_heard_by_the_next(self, dialogue: Command, script: str) -> None:
        dialogue([script, "--output", "one.wav"])
        Path("script.txt").write_text(self.SCRIPT.replace("Have you heard?", "Are you there?"))
        dialogue([script, "--output", "two.wav"])
        (one, _), (two, _) = soundfile.read("one.wav"), soundfile.read("two.wav")
        last = int(0.4 * 24_000)
        assert not np.array_equal(one[-last:], two[-last:])

    def test_the_voice_is_heard(self, dialogue: Command, script: str) -> None:
        dialogue([script, "--output", "one.wav"])
        Path("script.txt").write_text(self.SCRIPT.replace("Anna = anna", ""))
        dialogue([script, "--output", "two.wav"])
        assert Path("one.wav").read_bytes() != Path("two.wav").read_bytes()

    def test_a_script_through_a_pipe(self, dialogue: Command, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "stdin", io.StringIO("A: Hello.\nB: Hello."))
        assert dialogue(["-"]) == 0
        assert seconds("dialogue.wav") == pytest.approx(2 * 0.4 + 0.3)

    @pytest.mark.parametrize(
        ("script", "message"),
        [
            ("", "Nobody says anything"),
            ("Anna: Hello.\nWhat is this", "Line 2 should be"),
            ("Anna: \N{GRINNING FACE}", "Line 1: Anna cannot say this"),
            ("Anna = nobody\nAnna: Hello.", "no voice 'nobody'"),
            ("Anna = a\nAnna = b\nAnna: Hello.", "Line 2: Anna has the voice a already"),
        ],
    )
    def test_scripts_that_are_none(
        self, dialogue: Command, script: str, message: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        Path("script.txt").write_text(script)
        assert dialogue(["script.txt"]) == 2
        assert_one_sentence(capsys, message)
        assert not Path("dialogue.wav").exists()

    def test_a_line_too_long_names_itself_and_keeps_what_was_said(
        self, dialogue: Command, capsys: pytest.CaptureFixture[str]
    ) -> None:
        Path("script.txt").write_text("Anna: Hello.\nBen: " + "and so on " * 200)
        assert dialogue(["script.txt"]) == 2
        assert_one_sentence(capsys, "Line 2, Ben: ")
        assert seconds("dialogue.wav") == pytest.approx(0.4 + 0.3)


class TestVoice:
    def test_add_list_play(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        played = []

        class Loudspeaker:
            def __init__(self, sample_rate: int) -> None:
                assert sample_rate == 24_000

            def __enter__(self) -> "Loudspeaker":
                return self

            def __exit__(self, *_: object) -> None:
                pass

            def play(self, samples: torch.Tensor) -> None:
                played.append(len(samples))

        monkeypatch.setattr("csm.sound.playback.Playback", Loudspeaker)
        assert voice_command(["list"]) == 0
        assert "There are no voices" in capsys.readouterr().err
        assert voice_command(["add", "jfk", str(JFK), "--text", JFK_TEXT, "--note", "public domain"]) == 0
        capsys.readouterr()
        assert voice_command(["list"]) == 0
        assert capsys.readouterr().out == f"jfk\t11.0 s\t{JFK_TEXT}\t(public domain)\n"
        assert voice_command(["play", "jfk"]) == 0
        assert played == [11 * 24_000]

    def test_adding_one_twice(self, capsys: pytest.CaptureFixture[str]) -> None:
        add = ["add", "jfk", str(JFK), "--text", JFK_TEXT]
        assert voice_command(add) == 0
        assert voice_command(add) == 2
        assert_one_sentence(capsys, "There is already a voice 'jfk'")
        assert voice_command([*add, "--replace"]) == 0


def assert_one_sentence(capsys: pytest.CaptureFixture[str], message: str) -> None:
    lines = [line for line in capsys.readouterr().err.splitlines() if "watermark" not in line]
    assert message in lines[-1]
    assert lines[-1].startswith("csm-")
    assert not any("Traceback" in line or "usage" in line for line in lines)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--text", ""], "no letters or digits"),
        (["--text", "\N{GRINNING FACE}"], "no letters or digits"),
        (["--text", "Hello", "--speaker", "-1"], "whole number, 0 or higher, not '-1'"),
        (["--text", "Hello", "--speaker", "x"], "whole number, 0 or higher, not 'x'"),
        (["--text", "Hello", "--temperature", "-1"], "temperature must be a number, 0 or higher"),
        (["--text", "Hello", "--temperature", "warm"], "invalid float value: 'warm'"),
        (["--text", "Hello", "--topk", "0"], "topk must be a whole number, 1 or higher"),
        (["--text", "Hello", "--max-audio-length-ms", "10"], "at least one frame"),
        (["--text", "Hello", "--quantize", "int2"], "invalid choice: 'int2'"),
        (["--text", "Hello", "--voice", "nobody"], "no voice 'nobody'"),
        (["--text", "Hello", "--voice", "../nobody"], "should hold one recording"),
        (["--text", "Hello", "--voice", "NO BODY"], "A voice's name is"),
        (["--text", "Hello", "--context-audio", "gone.wav"], "as many --context-text as --context-audio"),
        (["--text", "Hello", "--context-audio", "gone.wav", "--context-text", "Hi"], "no recording at gone.wav"),
        (["--text", "Hello", "--context-audio", __file__, "--context-text", "Hi"], "not a recording that can be read"),
        (["--text", "Hello", "--output", "speech.txt"], "should end in .wav"),
        (["--text", "Hello", "--output", "gone/speech.wav"], "cannot be written"),
        (["--text", "Hello", "--model", "./gone"], "found none"),
        (["--text", "Hello", "--device", "abacus"], "There is no device 'abacus'"),
        (["--text", "word " * 10_000, "--max-audio-length-ms", "400"], "Inputs too long"),
        (["--tex"], "expected one argument"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_files_alone(
    generate: Command, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("audio.wav").write_bytes(b"something precious")
    try:
        assert generate(arguments) == 2
    except SystemExit as ended:  # argparse's own
        assert ended.code == 2
    assert_one_sentence(capsys, message)
    assert Path("audio.wav").read_bytes() == b"something precious"


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        (np.zeros(0, np.float32), "empty"),
        (np.zeros(24_000, np.float32), "silent"),
        (np.full(24_000, np.nan, np.float32), "not numbers"),
    ],
)
def test_context_that_holds_no_voice(
    generate: Command, audio: np.ndarray, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    soundfile.write("context.wav", audio, 24_000, subtype="FLOAT")
    assert generate(["--text", "Hello", "--context-audio", "context.wav", "--context-text", "Hi"]) == 2
    assert_one_sentence(capsys, message)


def test_context_of_ten_minutes(generate: Command, capsys: pytest.CaptureFixture[str]) -> None:
    soundfile.write("context.wav", voice(600, 8000).numpy(), 8000)
    assert generate(["--text", "Hello", "--context-audio", "context.wav", "--context-text", "Hi"]) == 2
    assert_one_sentence(capsys, "")


def test_no_text_at_a_terminal(
    generate: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal())
    assert generate([]) == 2
    assert_one_sentence(capsys, "Give --text, or text through a pipe")


def test_no_package_for_the_watermark(generate: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise WatermarkMissing("The package silentcipher is not installed.")

    monkeypatch.setattr(speaking, "load_watermark", missing)
    assert generate(["--text", "Hello"]) == 0


def test_debug_shows_where_an_error_came_from(generate: Command) -> None:
    with pytest.raises(ValueError, match="no letter"):
        generate(["--text", "", "--debug"])
