"""The running set, first with scripted engines, at the end with all the real ones of the offline profile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from config.engines import CATALOGUE, EngineSpec
from config.settings import Settings
from pipeline.engine import EngineError, Progress
from pipeline.engines import plans
from pipeline.engines.catalogue import create
from pipeline.engines.running import Engines
from pipeline.turns.vad import FRAME
from tests.pipeline.engines.scripted_engines import Script, ScriptedEngine

STAGES = ("ears", "mind", "voice")


def settings(**changes: Any) -> Settings:
    """`voice__name="x"` is settings.voice.name."""
    tree = Settings()
    for stage in STAGES:
        getattr(tree, stage).engine = f"{stage}-1"
    for path, value in changes.items():
        branch, _, leaf = path.partition("__")
        setattr(getattr(tree, branch), leaf, value)
    return tree


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    """Two engines for every stage in place of the catalogue's, and memory, VAD and turn model scripted."""
    script = Script()
    specs = {}
    for stage in STAGES:
        for number in (1, 2):
            name = f"{stage}-{number}"
            spec = EngineSpec(stage, name, name, "", "", partial(arguments, stage))  # type: ignore[arg-type]
            specs[stage, name] = spec
    monkeypatch.setattr(plans, "CATALOGUE", specs)
    monkeypatch.setattr(plans, "create", lambda spec, settings, data, place: ScriptedEngine(script, spec.name))
    monkeypatch.setattr(plans, "WorkerMemory", lambda path, owner, **made_of: ScriptedEngine(script, f"memory-{owner}"))
    monkeypatch.setattr(plans, "WorkerTurnModel", lambda place: ScriptedEngine(script, "smart-turn"))
    monkeypatch.setattr(plans, "SmallModel", lambda name, load: ScriptedEngine(script, name))
    return script


def arguments(stage: str, settings: Settings, data: Path) -> dict[str, object]:
    return {"model": getattr(settings, stage).model}


@pytest.fixture
async def engines(script: Script, tmp_path: Path) -> AsyncIterator[Engines]:
    engines = Engines(settings(), tmp_path)
    await engines.start()
    script.diary.clear()
    yield engines
    await engines.stop()


async def until(condition: Callable[[], bool], what: str = "") -> None:
    """Let the other tasks run; nothing here takes more than a few steps."""
    for _ in range(100):
        if condition():
            return
        await asyncio.sleep(0)
    pytest.fail(f"never happened: {what}")


def states(engines: Engines) -> dict[str, str]:
    return {part: status.state for part, status in engines.health().items()}


ALL_READY = dict.fromkeys(("vad", "turns", "ears", "mind", "voice", "memory"), "ready")


async def test_all_parts_load_at_the_same_time(script: Script, tmp_path: Path) -> None:
    engines = Engines(settings(), tmp_path)
    assert set(states(engines).values()) == {"stopped"}
    script.waiting |= {"ears-1", "mind-1", "voice-1", "memory-default"}
    starting = asyncio.create_task(engines.start())
    await until(lambda: len(script.diary) == 8, "six starts, and two of them need not wait")
    assert states(engines)["mind"] == "loading"
    assert engines.health()["mind"].progress == Progress("loading mind-1", 0.5)
    with pytest.raises(EngineError, match=r"The speech recognition \(ears-1\) is not ready yet"):
        engines.stages()
    script.gate.set()
    await starting
    assert states(engines) == ALL_READY
    assert engines.health()["mind"].progress is None
    await engines.stop()
    assert set(states(engines).values()) == {"stopped"}


async def test_one_that_fails_stops_no_other(script: Script, tmp_path: Path) -> None:
    script.failing["voice-1"] = "The voice's model is damaged: download it again."
    engines = Engines(settings(), tmp_path)
    await engines.start()
    assert states(engines) == ALL_READY | {"voice": "failed"}
    assert engines.health()["voice"].last_error == "The voice's model is damaged: download it again."
    with pytest.raises(EngineError, match="download it again"):
        engines.stages()
    await engines.stop()


async def test_without_turn_model_silence_decides(script: Script, tmp_path: Path) -> None:
    script.failing["smart-turn"] = "It is missing."
    engines = Engines(settings(), tmp_path)
    await engines.start()
    assert engines.stages().finished is None
    assert states(engines)["turns"] == "failed"
    await engines.stop()


async def test_a_conversation_may_begin_while_memory_still_loads(script: Script, tmp_path: Path) -> None:
    script.waiting.add("memory-default")
    engines = Engines(settings(), tmp_path)
    starting = asyncio.create_task(engines.start())
    await until(lambda: "ready voice-1" in script.diary)
    assert states(engines)["memory"] == "loading"
    assert engines.stages().memory is not None
    script.gate.set()
    await starting
    await engines.stop()


async def test_only_what_changed_is_loaded_anew(engines: Engines, script: Script) -> None:
    before = engines.stages()
    assert await engines.apply(settings(voice__model="other")) == ["voice"]
    after = engines.stages()
    assert after.voice is not before.voice
    assert (after.ears, after.mind, after.memory) == (before.ears, before.mind, before.memory)


async def test_settings_that_no_engine_is_made_of_load_nothing(engines: Engines, script: Script) -> None:
    changed = settings(mind__persona="Be brief.", ears__sensitivity=0.7, turns__silence_ms=700, memory__enabled=False)
    assert await engines.apply(changed) == []
    assert script.diary == []


@pytest.mark.parametrize(
    "spec", [spec for spec in CATALOGUE.values() if spec.stage == "mind"], ids=lambda spec: spec.name
)
def test_a_mind_is_not_loaded_anew_for_how_it_is_to_answer(spec: EngineSpec, tmp_path: Path) -> None:
    changed = settings(mind__temperature=1.1, mind__max_tokens=99, mind__persona="Be brief.")
    assert spec.arguments(changed, tmp_path) == spec.arguments(settings(), tmp_path)


async def test_the_new_one_is_ready_before_the_old_one_goes(engines: Engines, script: Script) -> None:
    assert await engines.apply(settings(mind__engine="mind-2")) == ["mind"]
    assert script.diary == ["start mind-2", "ready mind-2", "stop mind-1"]


async def test_an_engine_becomes_what_it_can_when_all_others_are_ready(engines: Engines, script: Script) -> None:
    script.within_reach = {"other", "broken"}
    before = engines.stages()
    chosen = settings(mind__engine="mind-2", voice__model="other")
    assert sorted(await engines.apply(chosen)) == ["mind", "voice"]
    assert script.diary == ["start mind-2", "ready mind-2", "voice-1 became other", "stop mind-1"]
    assert engines.stages().voice is before.voice
    assert await engines.apply(chosen) == []

    script.failing["broken"] = "That I cannot become."
    assert await engines.apply(settings(mind__engine="mind-2", voice__model="broken")) == ["voice"]
    assert script.diary[-3:] == ["start voice-1", "ready voice-1", "stop voice-1"], "it is loaded anew"

    script.failing["voice-1"] = "That voice is broken."
    with pytest.raises(EngineError, match="That voice is broken"):
        await engines.apply(settings(voice__model="newest", mind__model="other"))
    assert engines.health()["mind"].engine == "mind-2", "the other change did not happen either"


async def test_of_the_memory_there_is_never_a_second(engines: Engines, script: Script) -> None:
    assert await engines.apply(settings(memory__owner="eve")) == ["memory"]
    assert script.diary == ["stop memory-default", "start memory-eve", "ready memory-eve"]


async def test_when_one_of_two_fails_both_stay_as_they_were(engines: Engines, script: Script) -> None:
    before = engines.stages()
    script.failing["voice-2"] = "That voice needs a GPU."
    with pytest.raises(EngineError, match=r"^That voice needs a GPU\.$"):
        await engines.apply(settings(ears__engine="ears-2", voice__engine="voice-2", memory__owner="eve"))
    after = engines.stages()
    assert (after.ears, after.mind, after.voice) == (before.ears, before.mind, before.voice)
    assert states(engines) == ALL_READY
    assert after.memory is before.memory, "conversations under way have it again"
    assert "stop ears-2" in script.diary and "stop memory-eve" in script.diary
    assert await engines.apply(settings()) == [], "the old settings are still those in force"


async def test_a_change_that_is_called_off_leaves_everything_as_it_was(engines: Engines, script: Script) -> None:
    before = engines.stages()
    script.waiting.add("voice-2")
    applying = asyncio.create_task(engines.apply(settings(voice__engine="voice-2")))
    await until(lambda: "start voice-2" in script.diary)
    applying.cancel()
    await asyncio.wait([applying])
    assert applying.cancelled()
    assert engines.stages().voice is before.voice
    assert script.diary == ["start voice-2", "stop voice-2"]


async def test_a_part_rests_and_comes_back_without_anybody_waiting(engines: Engines, script: Script) -> None:
    before = engines.stages().voice
    script.waiting.add("voice-1")
    async with engines.resting("voice"):
        assert script.diary == ["stop voice-1"]
        with pytest.raises(EngineError):
            engines.running("voice")
        assert engines.running("ears") is engines.running("ears"), "the others do not mind"
    await until(lambda: states(engines)["voice"] == "loading")
    script.gate.set()
    await until(lambda: states(engines) == ALL_READY)
    assert engines.stages().voice is before, "conversations under way have it again"


async def test_a_part_that_comes_back_can_be_stopped_on_the_way(engines: Engines, script: Script) -> None:
    script.waiting.add("voice-1")
    with pytest.raises(asyncio.CancelledError):
        async with engines.resting("voice"):
            raise asyncio.CancelledError
    await until(lambda: states(engines)["voice"] == "loading")
    await engines.stop()
    assert states(engines)["voice"] == "stopped"


async def test_a_part_comes_back_also_when_it_is_called_off_while_it_is_put_away(
    engines: Engines, script: Script
) -> None:
    async def rest() -> None:
        async with engines.resting("voice"):
            pytest.fail("it is still being put away")

    script.lingering.add("voice-1")
    resting = asyncio.create_task(rest())
    await until(lambda: script.diary == ["stop voice-1"])
    resting.cancel()
    await asyncio.wait([resting])
    await until(lambda: script.diary[-1] == "ready voice-1" and states(engines) == ALL_READY)
    script.lingering.clear()


async def test_what_is_left_out_is_not_started(script: Script, tmp_path: Path) -> None:
    engines = Engines(settings(), tmp_path)
    await engines.start(without={"voice"})
    assert {part for part, state in states(engines).items() if state != "ready"} == {"voice"}
    await engines.stop()


async def test_saving_again_tries_what_had_failed(script: Script, tmp_path: Path) -> None:
    script.failing["mind-1"] = "The server is not running."
    engines = Engines(settings(), tmp_path)
    await engines.start()
    assert await engines.apply(settings(voice__engine="voice-2")) == ["mind", "voice"], "its failing holds up no other"
    assert states(engines) == ALL_READY | {"mind": "failed"}
    script.failing.clear()
    assert await engines.apply(settings(voice__engine="voice-2")) == ["mind"]
    assert states(engines) == ALL_READY
    await engines.stop()


async def test_another_choice_need_not_wait_for_one_that_loads_for_long(script: Script, tmp_path: Path) -> None:
    script.waiting.add("mind-1")
    engines = Engines(settings(), tmp_path)
    starting = asyncio.create_task(engines.start())
    await until(lambda: "start mind-1" in script.diary)
    assert await engines.apply(settings(mind__engine="mind-2")) == ["mind"]
    await starting
    assert states(engines) == ALL_READY
    assert engines.health()["mind"].engine == "mind-2"
    await engines.stop()


async def test_stopped_while_a_change_is_under_way(engines: Engines, script: Script) -> None:
    script.waiting.add("voice-2")
    applying = asyncio.create_task(engines.apply(settings(voice__engine="voice-2")))
    await until(lambda: "start voice-2" in script.diary)
    await engines.stop()
    with pytest.raises(EngineError, match="stopped while it was loading"):
        await applying
    assert {engine._state for engine in script.made} == {"stopped"}


async def test_an_engine_that_restarts_is_shown_so(engines: Engines, script: Script) -> None:
    next(engine for engine in script.made if engine.name == "ears-1").die()
    assert states(engines)["ears"] == "loading"
    with pytest.raises(EngineError, match="not ready yet"):
        engines.stages()


async def test_changes_tell_every_new_health_until_the_end(script: Script, tmp_path: Path) -> None:
    engines = Engines(settings(), tmp_path)
    seen: list[dict[str, str]] = []

    async def watch() -> None:
        async for health in engines.changes():
            seen.append({part: status.state for part, status in health.items()})  # noqa: PERF401

    watching = asyncio.create_task(watch())
    await asyncio.sleep(0)
    await engines.start()
    await asyncio.sleep(0)
    assert seen[0] == dict.fromkeys(ALL_READY, "stopped")
    assert seen[-1] == ALL_READY
    await engines.stop()
    await watching


@pytest.mark.parametrize("stage", STAGES)
async def test_an_engine_that_nobody_knows(script: Script, tmp_path: Path, stage: str) -> None:
    engines = Engines(settings(**{f"{stage}__engine": "hal-9000"}), tmp_path)
    await engines.start()
    sentence = engines.health()[stage].last_error
    assert sentence is not None
    assert "'hal-9000'" in sentence and f"choose one of {stage}-1, {stage}-2." in sentence
    await engines.stop()


def test_an_engine_whose_package_is_missing(tmp_path: Path) -> None:
    spec = replace(CATALOGUE["voice", "espeak"], target="a_package_that_nobody_has:Voice")
    with pytest.raises(EngineError, match=r"eSpeak NG cannot be used .* run `python3 setup\.py`"):
        create(spec, Settings(), tmp_path)


def test_the_catalogue_cannot_be_changed_and_holds_the_offline_profile() -> None:
    assert {("ears", "pocketsphinx"), ("mind", "builtin"), ("voice", "espeak")} <= CATALOGUE.keys()
    for (stage, name), spec in CATALOGUE.items():
        assert (spec.stage, spec.name) == (stage, name)
        assert spec.label and spec.line.endswith(".")
    with pytest.raises(TypeError):
        CATALOGUE["voice", "other"] = CATALOGUE["voice", "espeak"]  # type: ignore[index]


async def test_the_offline_profile_really_runs(tmp_path: Path) -> None:
    others = psutil.Process().children()
    engines = Engines(Settings(), tmp_path)
    await engines.start()
    health = engines.health()
    assert {part: status.state for part, status in health.items()} == ALL_READY, health
    for part in ("ears", "voice", "memory"):
        assert (health[part].memory_bytes or 0) > 10_000_000
    stages = engines.stages()
    assert 0.0 <= stages.vad().probability(np.zeros(FRAME, np.float32)) < 0.5
    assert stages.finished is not None
    assert 0.0 <= await stages.finished(np.zeros(16_000, np.float32)) <= 1.0
    assert stages.memory is not None
    await stages.memory.remember("user", "My dog is called Rufus.", conversation="earlier")
    assert "Rufus" in (await stages.memory.recall("what is the name of my dog")).text
    assert "en-gb" in {voice.name for voice in await engines.voices()}
    changed = Settings()
    changed.voice.name = "en-gb"
    assert await engines.apply(changed) == ["voice"]
    changed.voice.name = "nobody"
    with pytest.raises(EngineError, match="eSpeak has no voice 'nobody'"):
        await engines.apply(changed)
    assert [block async for block in engines.stages().voice.speaker().speak("I am still here.")]
    await engines.stop()
    assert set(psutil.Process().children()) <= set(others)
