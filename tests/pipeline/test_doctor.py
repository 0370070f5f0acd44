"""The doctor with the real offline engines, and with patients whose illness is known."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Callable
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from config import Settings
from pipeline import doctor
from pipeline.audio import MOUTH_RATE
from pipeline.doctor import Begun, Finding, examine
from pipeline.engine import EngineError
from pipeline.stages import Stages
from pipeline.trial import words_right
from pipeline.tts import Spoken
from tests.web.scripted import Loudness, ScriptedEngines, ScriptedVoice

ROOT = Path(__file__).resolve().parents[2]


def test_the_offline_profile_is_well_here(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pipeline.doctor_command", "--data", str(tmp_path), "--profile", "offline"]
    done = subprocess.run([*command, "--json"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert told["ok"]
    found = {finding["check"]: finding for finding in told["findings"]}
    for check in (
        "load-ears",
        "load-mind",
        "load-voice",
        "load-memory",
        "vad",
        "ears",
        "mind",
        "voice",
        "memory",
        "room",
    ):
        assert found[check]["grade"] == "good", found[check]
    assert found["ears"]["figures"]["words_right"] == 6
    assert found["voice"]["figures"]["real_time_factor"] < 1
    assert found["microphone"]["grade"] == "skipped"
    assert found["round"]["grade"] in ("good", "skipped"), "PocketSphinx is no judge of a synthesiser"
    assert told["hardware"]["cores"] >= 1


def test_an_engine_that_cannot_be_loaded_is_said_and_the_others_are_tried(tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text('{"voice": {"name": "xx-nowhere"}}')
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.doctor_command", "--data", str(tmp_path), "--json"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    found = {finding["check"]: finding for finding in json.loads(done.stdout)["findings"]}
    assert found["load-voice"]["text"].startswith("does not work: ")
    assert found["load-ears"]["grade"] == "good"


async def verdicts(engines: Any, clock: Callable[[], float] = time.monotonic) -> dict[str, Finding]:
    engines.kept = Memories()
    engines.voice.seconds = 1.0
    await engines.start()
    steps = [step async for step in examine(engines, Settings(), Path("nowhere"), clock)]
    begun = [step.check for step in steps if isinstance(step, Begun)]
    found = {step.check: step for step in steps if isinstance(step, Finding)}
    assert begun == list(found)
    return found


class Memories:
    async def recall(self, query: str, **options: Any) -> Any:
        class Nothing:
            items = ()

        return Nothing()


async def test_healthy_engines() -> None:
    found = await verdicts(ScriptedEngines())
    assert {name for name, finding in found.items() if finding.grade == "good"} == {
        "vad", "ears", "mind", "voice", "memory", "room",
    }  # fmt: skip


async def test_ears_that_do_not_understand() -> None:
    engines = ScriptedEngines()
    engines.ears.text = "whether or not"
    assert (await verdicts(engines))["ears"].text.startswith("does not work: 0 of 6 words right")
    engines.ears.text = "what is the weather"
    assert (await verdicts(engines))["ears"].text.startswith("works, but poorly: 4 of 6 words right")


async def test_a_mind_that_says_why_and_one_that_says_nothing() -> None:
    engines = ScriptedEngines()
    engines.mind.error = "The server answered 500: restart it."
    found = await verdicts(engines)
    assert found["mind"].text == "does not work: The server answered 500: restart it."
    assert found["voice"].grade == "good", "one that is ill stops no other check"
    engines.mind.error, engines.mind.text = "", ""
    assert "empty" in (await verdicts(engines))["mind"].text


class SlowVoice(ScriptedVoice):
    def speaker(self) -> SlowVoice:
        return self

    async def speak(self, text: str) -> AsyncGenerator[Spoken, None]:
        yield Spoken(np.full(MOUTH_RATE, 0.1, np.float32))


async def test_a_voice_that_is_slower_than_speech() -> None:
    seconds = count()
    engines = ScriptedEngines()
    engines.voice = SlowVoice()
    found = (await verdicts(engines, lambda: float(next(seconds))))["voice"]
    assert found.grade == "fair"
    assert found.text.startswith("works, but slow: 1.0 s of speech took 2.00 s (factor 2.00)")
    assert "cannot keep up" in found.text


async def test_a_detector_that_takes_silence_for_speech() -> None:
    class Jumpy(Loudness):
        def probability(self, frame: Any) -> float:
            return 0.9

    engines = ScriptedEngines()
    engines.stages = lambda: Stages(Jumpy, engines.ears, engines.mind, engines.voice, None)  # type: ignore[method-assign]
    assert (await verdicts(engines))["vad"].grade == "bad"


async def test_engines_that_are_not_there() -> None:
    class Dead(ScriptedEngines):
        def stages(self) -> Stages:
            raise EngineError("The voice (espeak) is not running.")

    found = await verdicts(Dead())
    assert found["voice"].text == "does not work: The voice (espeak) is not running."
    assert found["round"].grade == "skipped"


async def test_an_engine_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent(ScriptedVoice):
        def speaker(self) -> Silent:
            return self

        async def speak(self, text: str) -> AsyncGenerator[Spoken, None]:
            await asyncio.Event().wait()
            yield Spoken(np.zeros(1, np.float32))

    monkeypatch.setattr(doctor, "LIMIT_S", 0.2)
    engines = ScriptedEngines()
    engines.voice = Silent()
    assert "Nothing came within" in (await verdicts(engines))["voice"].text


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


async def test_the_precision_that_keeps_up_is_recommended(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    class Paced(ScriptedVoice):
        def __init__(self, factor: float) -> None:
            self.factor = factor

        def speaker(self) -> Paced:
            return self

        async def speak(self, text: str) -> AsyncGenerator[Spoken, None]:
            now[0] += 2 * self.factor
            yield Spoken(np.full(2 * MOUTH_RATE, 0.1, np.float32))

    class Spec:
        @staticmethod
        def create(settings: Settings, data: Path) -> Paced:
            if settings.voice.precision == "int4" and broken:
                raise EngineError("It has no kernel here.")
            return Paced({"int8": 1.3, "int4": 0.7}[settings.voice.precision])

    broken = False
    monkeypatch.setattr(doctor, "CATALOGUE", {("voice", "csm"): Spec})
    monkeypatch.setattr(doctor, "ask_nvidia", lambda: ())
    engines: Any = ScriptedEngines()
    engines.kept = Memories()
    await engines.start()
    settings = Settings()
    settings.voice.engine = "csm"

    async def found() -> Finding:
        steps = [step async for step in examine(engines, settings, Path("nowhere"), lambda: now[0])]
        assert isinstance(steps[-1], Finding)
        return steps[-1]

    assert (await found()).text == "good: real-time factors int8 1.30, int4 0.70; choose int4."
    broken = True
    slow = await found()
    assert slow.grade == "fair"
    assert "int4: It has no kernel here." in slow.text
    assert "int8 comes closest" in slow.text
