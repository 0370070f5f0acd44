"""The voice in each precision: what is recommended, and that no two models are ever held at once.

The checkpoints are tiny and of random weights: they make noise, and how fast they make it says nothing about CSM.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import psutil
import pytest

from config import Settings
from config.hardware import GB
from config.precision import chosen as measured
from pipeline.doctor import Finding, Working, examine, speaking
from pipeline.doctor.check import PATIENCE_S, Patient
from pipeline.doctor.finding import Verdict
from pipeline.doctor.speaking import recommended
from pipeline.engines.running import Engines
from pipeline.engines.trial import Said, speak
from pipeline.tts import TextToSpeech
from tests.csm.tiny import write_checkpoint
from tests.support.workers import workers
from tests.web.scripted import ScriptedEngines


@pytest.mark.parametrize(
    ("factors", "failed", "grade", "words"),
    [
        ({"bf16": 0.5, "int8": 0.3}, {}, "good", "Real-time factors: bf16 0.50, int8 0.30. Choose bf16, or"),
        ({"bf16": 6.1, "int8": 1.2, "int4": 0.74}, {}, "good", "bf16 6.10, int8 1.20, int4 0.74. Choose int4, or"),
        ({"bf16": 6.1, "int8": 1.2, "int4": 1.3}, {}, "fair", "None keeps up with speech; int8 comes nearest."),
        ({"int4": 0.74}, {"bf16": "No.", "int8": "No."}, "good", "now means that. Not bf16 nor int8: No."),
        ({}, {"bf16": "No room.", "int8": "No kernel."}, "bad", "Not bf16: No room. Not int8: No kernel."),
    ],
)
def test_the_finest_precision_that_keeps_pace_is_recommended(
    factors: dict[str, float], failed: dict[str, str], grade: str, words: str
) -> None:
    verdict = recommended(factors, failed)
    assert verdict.grade == grade
    assert words in verdict.text


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("csm") / "noise")


@pytest.fixture
def settings(checkpoint: Path) -> Settings:
    settings = Settings()
    settings.voice.engine, settings.voice.model = "csm", str(checkpoint)
    settings.voice.precision = "fp32"
    return settings


@pytest.fixture
async def engines(settings: Settings, tmp_path: Path) -> AsyncIterator[Engines]:
    """Voice and ears alone: the others do not matter here."""
    engines = Engines(settings, tmp_path)
    await engines.start(without={"memory", "turns", "vad", "mind"})
    yield engines
    await engines.stop()


async def until_back(engines: Engines) -> None:
    async with aclosing(engines.changes()) as changes:  # type: ignore[type-var]  # an async generator
        async for health in changes:
            if health["voice"].state == "ready":
                return


@pytest.mark.slow
async def test_each_precision_is_loaded_and_gone_before_the_next(
    engines: Engines, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[tuple[str, int]] = []

    async def counted(voice: TextToSpeech, *arguments: Any) -> Said:
        held.append((engines.health()["voice"].state, len(workers())))
        return await speak(voice, *arguments)

    monkeypatch.setattr(speaking, "speak", counted)
    async with asyncio.timeout(120), aclosing(examine(engines, settings, tmp_path)) as seen:
        steps = [step async for step in seen]
    assert held == [("ready", 2), *[("stopped", 2)] * 3], "the ears' process, and one that holds a speech model"
    found = steps[-1]
    assert isinstance(found, Finding)
    assert found.grade in ("good", "fair")
    assert "4 and 8 bits are computed by csm’s kernel with " in found.text or "by PyTorch" in found.text
    assert list(found.figures) == ["bf16", "int8", "int4"]
    finest = next((name for name, pace in found.figures.items() if pace <= 0.9), None)
    assert measured(tmp_path, settings.voice.model) == finest, "kept for the precision auto"
    told = [step.text for step in steps if isinstance(step, Working) and not step.passing]
    for precision in found.figures:
        assert any(text.startswith(f"{precision}: loading") for text in told), "no silent minute"
    spoken = next(step for step in steps if isinstance(step, Finding) and step.check == "voice")
    back = next(step for step in steps if isinstance(step, Finding) and step.check == "round")
    assert spoken.grade in ("good", "fair")
    assert back.grade == "open", "noise is not called speech, and these ears are no judges"
    async with asyncio.timeout(120):
        await until_back(engines)
    assert len(workers()) == 2


@pytest.mark.slow
async def test_the_voice_comes_back_when_the_check_is_called_off(
    engines: Engines, settings: Settings, tmp_path: Path
) -> None:
    async with asyncio.timeout(120):
        async with aclosing(examine(engines, settings, tmp_path)) as seen:
            async for step in seen:
                if isinstance(step, Working) and step.check == "precisions":
                    break
        await until_back(engines)
    assert len(workers()) == 2, "the one that was tried is gone"


async def test_a_precision_that_has_no_room_is_not_loaded(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        available = 2 * GB

    monkeypatch.setattr(psutil, "virtual_memory", lambda: Full)
    monkeypatch.setattr(speaking, "create", lambda *_: pytest.fail("loaded"))
    found = await precisions(ScriptedEngines(), settings, tmp_path)
    assert found.grade == "bad"
    assert found.text.startswith(
        "Not bf16 nor int8 nor int4: it needs 4.5 GB of memory, and 2.0 GB are free. End other"
    )


async def test_a_conversation_is_left_the_computer(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines = ScriptedEngines()
    monkeypatch.setattr(engines, "resting", lambda part: pytest.fail(f"the {part} was stopped"))
    found = await precisions(engines, settings, tmp_path, talking=True)
    assert found.grade == "skipped"


async def precisions(engines: Any, settings: Settings, data: Path, *, talking: bool = False) -> Verdict:
    """That check alone."""
    patient = Patient(engines, settings, data, time.monotonic, lambda: talking)

    def tell(text: str, patience_s: float = PATIENCE_S, *, passing: bool = False) -> None: ...

    return await speaking.precisions(patient, tell)
