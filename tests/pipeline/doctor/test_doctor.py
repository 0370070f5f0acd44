"""The doctor with the real offline engines, and with patients whose illness is known."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Callable, Collection
from contextlib import aclosing
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from config import Settings
from config.engines import EngineSpec
from config.packages import KOKORO, WHISPER_BASE
from config.places import ROOT
from pipeline.audio import EAR_RATE, MOUTH_RATE
from pipeline.commands.doctor import Lines
from pipeline.doctor import Begun, Finding, Working, check, examination, examine, hearing, speaking
from pipeline.doctor.check import Patient
from pipeline.doctor.hearing import heard_back
from pipeline.engine import EngineError, EngineStatus
from pipeline.engines.trial import Said, speak, words_right
from pipeline.tts import Spoken
from pipeline.turns.vad import VoiceActivityLike
from tests.web.scripted import Loudness, ScriptedEngines, ScriptedVoice

NOWHERE = {"HF_HUB_OFFLINE": "1", "HF_HOME": "nowhere", "OMP_NUM_THREADS": "1"}
"""No model of this machine's user is found, and none is asked for."""


def run_doctor(data: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pipeline.commands.doctor", "--data", str(data), *options],
        cwd=ROOT, env=os.environ | NOWHERE | environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def told(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """What `--json` says, its findings by name."""
    found: dict[str, Any] = json.loads(done.stdout)
    return found | {"findings": {finding["check"]: finding for finding in found["findings"]}}


# --- the command ------------------------------------------------------------------------------------------------------

WELL = ("good", "fair")
"""It works. Which of the two depends on the pace, and on what else this computer is doing."""


def test_the_offline_profile_is_well_here(tmp_path: Path) -> None:
    done = run_doctor(tmp_path, "--profile", "offline", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    said = told(done)
    assert said["ok"]
    found = said["findings"]
    for name in "computer models load-ears load-mind load-voice load-memory vad ears mind voice memory room".split():
        assert found[name]["grade"] in WELL, found[name]
    assert found["ears"]["figures"]["words_right"] == 6
    assert found["voice"]["figures"]["real_time_factor"] > 0
    assert found["microphone"]["grade"] == "skipped"
    assert found["round"]["grade"] in ("good", "open"), "PocketSphinx is no judge of a synthesiser"
    assert said["hardware"]["cores"] >= 1


@pytest.mark.slow
def test_what_is_printed_fits_a_narrow_log_and_any_encoding(tmp_path: Path) -> None:
    done = run_doctor(tmp_path, COLUMNS="80", NO_COLOR="1", PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.isascii()
    assert "\x1b" not in done.stdout, "no colours, no cursor movements"
    assert max(len(line) for line in done.stdout.splitlines()) <= 80
    assert re.search("Understanding: (good|fair)", done.stdout)
    assert re.search(r"^Everything works.*\. The microphone wasn\?t tried\.\n\Z", done.stdout, re.MULTILINE)


def test_models_that_are_not_here_are_named_with_the_command_that_fetches_them(tmp_path: Path) -> None:
    done = run_doctor(tmp_path, "--profile", "cpu", "--json")
    assert done.returncode == 1
    found = told(done)["findings"]
    assert "Whisper base (150 MB), Qwen2.5 1.5B (1.1 GB) and CSM-1B" in found["models"]["text"]
    assert "`python3 setup.py models --profile cpu`" in found["models"]["text"]
    assert "load-ears" not in found, "an engine whose model is not here is not started"
    assert found["vad"]["grade"] in WELL, "one that is not here stops no other"
    for name in ("ears", "mind", "voice", "round", "precisions"):
        assert found[name]["grade"] == "skipped", "one cause is said once"
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.slow
def test_the_profile_for_a_card_says_on_a_computer_without_one_what_to_choose(tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    done = run_doctor(tmp_path, "--profile", "gpu", "--json", PATH=str(folder))  # no nvidia-smi on it
    assert done.returncode == 1
    found = told(done)["findings"]
    assert "Needs an NVIDIA graphics card" in found["computer"]["text"]
    assert "`python3 main.py --profile " in found["computer"]["text"]
    assert found["models"]["grade"] == "skipped", "nobody is asked to fetch what cannot run"
    assert [finding["grade"] for finding in found.values()].count("bad") == 1


@pytest.mark.slow
def test_an_engine_that_cannot_be_loaded_is_said_once_and_the_others_are_tried(tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text('{"voice": {"name": "xx-nowhere"}}')
    done = run_doctor(tmp_path, "--json")
    assert done.returncode == 1
    found = told(done)["findings"]
    assert found["load-voice"]["grade"] == "bad"
    assert "xx-nowhere" in found["load-voice"]["text"]
    assert found["voice"]["grade"] == "skipped"
    assert found["ears"]["grade"] in WELL


def test_a_log_gets_a_line_now_and_then_of_what_counts_up() -> None:
    now = [0.0]
    console = Console(file=io.StringIO(), width=80)
    lines = Lines(console, lambda: now[0])
    for second in range(40):
        now[0] = float(second)
        lines.tell(Working("voice", "Speaking", f"{second} s spoken", passing=True))
    lines.tell(Working("precisions", "Precisions", "int4: loading"))
    assert isinstance(console.file, io.StringIO)
    assert [line.strip() for line in console.file.getvalue().splitlines()] == [
        "Speaking: 15 s spoken …", "Speaking: 30 s spoken …", "Precisions: int4: loading …",
    ]  # fmt: skip


# --- patients -------------------------------------------------------------------------------------------------------


class Memories:
    async def recall(self, query: str, **options: Any) -> Any:
        class Nothing:
            items = ()

        return Nothing()


@pytest.fixture(autouse=True)
def no_models_beside(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of this machine's models is tried beside what is chosen."""
    monkeypatch.setenv("HF_HOME", "nowhere")


async def verdicts(
    engines: Any, clock: Callable[[], float] = time.monotonic, settings: Settings | None = None
) -> dict[str, Finding]:
    engines.kept = Memories()
    await engines.start()
    steps = [step async for step in examine(engines, settings or Settings(), Path("nowhere"), clock)]
    begun = [step.check for step in steps if isinstance(step, Begun)]
    found = {step.check: step for step in steps if isinstance(step, Finding)}
    assert begun == [name for name in found if name in begun], "each tells that it begins, in the order of the findings"
    return found


def talkative() -> ScriptedEngines:
    engines = ScriptedEngines()
    engines.voice.seconds = 1.0
    return engines


async def test_healthy_engines() -> None:
    found = await verdicts(talkative())
    assert {name for name, finding in found.items() if finding.grade == "good"} == {
        "computer", "models", "vad", "ears", "mind", "voice", "memory", "room",
    }  # fmt: skip


async def test_ears_that_do_not_understand() -> None:
    engines = talkative()
    engines.ears.text = "whether or not"
    ears = (await verdicts(engines))["ears"]
    assert (ears.grade, ears.text[:20]) == ("bad", "0 of 6 words right (")
    engines.ears.text = "what is the weather"
    ears = (await verdicts(engines))["ears"]
    assert (ears.grade, ears.text[:20]) == ("fair", "4 of 6 words right (")
    german = Settings()
    german.ears.language = "de"
    assert (await verdicts(engines, settings=german))["ears"].grade == "open", "the question is English"


async def test_a_mind_that_says_why_and_one_that_says_nothing() -> None:
    engines = talkative()
    engines.mind.error = "The server answered 500: restart it."
    found = await verdicts(engines)
    assert (found["mind"].grade, found["mind"].text) == ("bad", "The server answered 500: restart it.")
    assert found["voice"].grade == "good", "one that is ill stops no other"
    engines.mind.error, engines.mind.text = "", ""
    assert "empty" in (await verdicts(engines))["mind"].text


class SlowVoice(ScriptedVoice):
    def speaker(self) -> SlowVoice:
        return self

    async def speak(self, text: str) -> AsyncGenerator[Spoken, None]:
        yield Spoken(np.full(MOUTH_RATE, 0.1, np.float32))


async def test_a_voice_that_is_slower_than_speech() -> None:
    seconds = count()
    engines = talkative()
    engines.voice = SlowVoice()
    found = (await verdicts(engines, lambda: float(next(seconds))))["voice"]
    assert found.grade == "fair"
    assert found.text.startswith("1.0 s of sound took 3.00 s (real-time factor 3.00)")
    assert "has to pause" in found.text


async def test_a_detector_that_takes_silence_for_speech() -> None:
    class Jumpy(Loudness):
        def probability(self, frame: Any) -> float:
            return 0.9

    class Engines(ScriptedEngines):
        def vad(self) -> VoiceActivityLike:
            return Jumpy()

    assert (await verdicts(Engines()))["vad"].grade == "bad"


async def test_engines_that_are_not_there() -> None:
    class Dead(ScriptedEngines):
        def running(self, part: Any) -> Any:
            raise EngineError(f"The {part} is not running.")

    found = await verdicts(Dead())
    assert (found["voice"].grade, found["voice"].text) == ("bad", "The voice is not running.")
    assert found["round"].grade == "skipped"
    assert found["vad"].grade == "good"


async def test_an_engine_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent(ScriptedVoice):
        def speaker(self) -> Silent:
            return self

        async def speak(self, text: str) -> AsyncGenerator[Spoken, None]:
            await asyncio.Event().wait()
            yield Spoken(np.zeros(1, np.float32))

    monkeypatch.setattr(examination, "PATIENCE_S", 0.2)
    engines = talkative()
    engines.voice = Silent()
    assert "Nothing came within" in (await verdicts(engines))["voice"].text


async def test_a_model_that_is_not_here_is_said_once_beside_engines_that_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", "nowhere")

    class Half(ScriptedEngines):
        def health(self) -> dict[str, EngineStatus]:
            return super().health() | {"voice": EngineStatus("csm", "failed", "It is not here.")}

    settings = Settings()
    settings.voice.engine, settings.voice.model = "csm", "someone/csm"
    found = await verdicts(Half(), settings=settings)
    assert "someone/csm is not on this computer yet: `python3 setup.py models`" in found["models"].text
    assert found["voice"].grade == found["precisions"].grade == "skipped"
    assert found["ears"].grade == "good"


async def test_engines_are_started_but_for_those_whose_models_are_not_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", "nowhere")

    class Starting(ScriptedEngines):
        left_out: frozenset[str] | None = None

        async def start(self, *, without: Collection[str] = ()) -> None:
            self.left_out = frozenset(without)
            await super().start()

        async def changes(self) -> AsyncGenerator[dict[str, EngineStatus], None]:
            while True:
                yield self.health()
                await asyncio.sleep(0)

    engines: Any = Starting()
    settings = Settings()
    settings.voice.engine, settings.voice.model = "csm", "someone/csm"
    steps = [step async for step in examine(engines, settings, Path("nowhere"), load=True)]
    assert engines.left_out == {"voice"}
    found = {step.check: step.grade for step in steps if isinstance(step, Finding)}
    assert found["load-ears"] == found["load-mind"] == "good"
    assert found["voice"] == "skipped"


# --- the voice, heard back --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ears", "understands", "heard", "grade", "words"),
    [
        ("whisper", True, "the people of the city want to know the time of day", "good", "12 of 12"),
        ("whisper", True, "the people of the city want to know", "fair", "8 of 12"),
        ("whisper", True, "", "bad", "No word was heard, and the same ears understood a person"),
        ("whisper", False, "hm", "open", "did not understand a real person either"),
        ("pocketsphinx", True, "hm", "open", "choose Whisper"),
    ],
)
async def test_only_ears_that_understand_judge_the_voice(
    ears: str, understands: bool, heard: str, grade: str, words: str
) -> None:
    """What is not speech is never called speech: without words there is no verdict, or a bad one."""
    engines: Any = ScriptedEngines()
    await engines.start()
    engines.ears.text = heard
    settings = Settings()
    settings.ears.engine = ears
    patient = Patient(engines, settings, Path("nowhere"), time.monotonic, lambda: False, understands=understands)
    patient.spoken = np.zeros(EAR_RATE, np.float32)
    found = await heard_back(patient, lambda text, patience_s=check.PATIENCE_S, *, passing=False: None)
    assert found.grade == grade
    assert words in found.text


@pytest.mark.parametrize(("a_person", "grade"), [("What is the weather in Paris?", "bad"), ("hm", "open")])
async def test_where_the_ears_are_no_judge_whisper_on_this_computer_listens(
    monkeypatch: pytest.MonkeyPatch, a_person: str, grade: str
) -> None:
    """It hears a person, and then the voice, of which nobody could understand a word."""
    engines: Any = ScriptedEngines()
    await engines.start()
    whisper: Any = ScriptedEngines()
    await whisper.start()
    asked: list[tuple[str, str]] = []

    def create(spec: EngineSpec, settings: Settings, data: Path) -> Any:
        asked.append((spec.name, settings.ears.model))
        return whisper.ears

    words = iter((a_person, "hm"))

    async def transcribe(ears: object, sound: object, clock: object) -> tuple[str, float]:
        assert ears is whisper.ears
        return next(words), 0.1

    monkeypatch.setattr(hearing, "is_here", lambda model: model is WHISPER_BASE)
    monkeypatch.setattr(hearing, "create", create)
    monkeypatch.setattr(hearing, "transcribe", transcribe)
    patient = Patient(engines, Settings(), Path("nowhere"), time.monotonic, lambda: False)
    patient.spoken = np.zeros(EAR_RATE, np.float32)
    found = await heard_back(patient, lambda text, patience_s=check.PATIENCE_S, *, passing=False: None)
    assert asked == [("whisper", "base")]
    assert found.grade == grade


@pytest.mark.parametrize(("seconds", "words"), [(0.4, "choose Kokoro on the setup page"), (0.9, "would not keep up")])
async def test_kokoro_is_proposed_where_it_was_measured_to_keep_pace(
    monkeypatch: pytest.MonkeyPatch, seconds: float, words: str
) -> None:
    async def speak(voice: object, text: str, *options: object) -> Said:
        return Said(np.zeros(MOUTH_RATE, np.float32), 0.1, seconds)

    tried = ScriptedVoice()
    monkeypatch.setattr(speaking, "create", lambda spec, settings, data: tried)
    monkeypatch.setattr(speaking, "speak", speak)
    monkeypatch.setattr(examination, "is_here", lambda model: model is KOKORO)
    found = (await verdicts(talkative()))["kokoro"]
    assert found.grade == "good"
    assert words in found.text


@pytest.mark.parametrize(
    ("heard", "right"),
    [
        ("what is the weather in paris", 6),
        ("What’s the weather in Paris", 4),
        ("paris in weather the is what", 1),
        ("", 0),
        ("what is is the the weather in in paris", 6),
    ],
)
def test_words_are_counted_in_their_order(heard: str, right: int) -> None:
    assert words_right("What is the weather in Paris?", heard) == (right, 6)


async def test_a_trial_ends_when_enough_was_said_or_worked() -> None:
    ticks = count()

    class Endless(ScriptedVoice):
        def speaker(self) -> Endless:
            return self

        async def speak(self, text: str) -> AsyncGenerator[Spoken, None]:
            while True:
                yield Spoken(np.zeros(MOUTH_RATE, np.float32))

    assert (await speak(Endless(), "", lambda: 0.0, enough_s=2.0)).sound_s == 2
    assert (await speak(Endless(), "", lambda: float(next(ticks)), work_s=10.0)).sound_s < 10


async def test_who_goes_away_in_the_middle_leaves_no_check_behind() -> None:
    speaking, let_go = asyncio.Event(), asyncio.Event()

    class Held(ScriptedVoice):
        def speaker(self) -> Held:
            return self

        async def speak(self, text: str) -> AsyncGenerator[Spoken, None]:
            speaking.set()
            try:
                await asyncio.Event().wait()
                yield Spoken(np.zeros(1, np.float32))
            finally:
                let_go.set()

    engines: Any = ScriptedEngines()
    engines.voice = Held()
    await engines.start()
    async with aclosing(examine(engines, Settings(), Path("nowhere"))) as steps:
        async for step in steps:
            if isinstance(step, Begun) and step.check == "voice":
                break
        getting = asyncio.ensure_future(anext(steps))
        await speaking.wait()
        getting.cancel()
        await asyncio.wait([getting])
        assert let_go.is_set()
