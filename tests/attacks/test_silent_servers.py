"""Servers that take a question and never answer it: none holds up a change of settings, its undoing, or a start."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from config import Settings, SettingsStore
from config.engines import Stage
from pipeline.engine import EngineError
from pipeline.engines.lease import LeasedMind
from pipeline.engines.plans import Planner
from pipeline.engines.running import Engines
from pipeline.engines.slot import EnginePlan
from pipeline.llm.openai import OpenAIChat
from pipeline.turns.record import TurnRecord
from tests.pipeline.engines.scripted_engines import Script
from tests.pipeline.engines.test_engines import settings, states
from tests.web.conftest import served
from web.changes import SettingsRefused
from web.metrics import traces
from web.service import Edit, Service


def changed(**branches: Any) -> Edit:
    """`mind={"model": "x"}` as an edit."""

    def edit(old: Settings) -> Settings:
        new = old.model_copy(deep=True)
        for branch, leaves in branches.items():
            for leaf, value in leaves.items():
                setattr(getattr(new, branch), leaf, value)
        return new

    return edit


@asynccontextmanager
async def silent() -> AsyncIterator[str]:
    """A server that accepts, reads, and never says a word."""
    writers: list[asyncio.StreamWriter] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await reader.read()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    finally:
        server.close()
        for writer in writers:
            writer.close()


@pytest.fixture
def mind_of_a_server(script: Script, monkeypatch: pytest.MonkeyPatch) -> Script:
    """All scripted, but for the mind "openai"."""
    scripted = Planner.chosen

    def chosen(planner: Planner, stage: Stage, name: str, settings: Settings) -> EnginePlan:
        if name != "openai":
            return scripted(planner, stage, name, settings)
        url = settings.mind.url
        return EnginePlan(name, lambda: LeasedMind(OpenAIChat(url, "")), made_of=url, patience_s=planner._peer_s)

    monkeypatch.setattr(Planner, "chosen", chosen)
    return script


def test_only_what_asks_a_server_elsewhere_has_a_deadline(tmp_path: Path) -> None:
    tree = Settings()
    engines = Engines(tree, tmp_path, peer_s=7)
    assert {plan.patience_s for plan in engines._plans(tree).values()} == {None}
    tree.mind.engine, tree.memory.chroma_host = "openai", "chroma.example"
    plans = engines._plans(tree)
    assert {part for part, plan in plans.items() if plan.patience_s == 7} == {"mind", "memory"}


async def test_a_server_that_never_answers_has_its_time(mind_of_a_server: Script, tmp_path: Path) -> None:
    async with silent() as url:
        engines = Engines(settings(mind__engine="openai", mind__url=url), tmp_path, peer_s=0.05)
        await engines.start()
        assert states(engines)["mind"] == "failed"
        why = engines.health()["mind"].last_error
        assert why is not None and "did not answer completely" in why
        with pytest.raises(EngineError, match="did not answer completely"):
            engines.stages()
        await engines.stop()


@pytest.mark.timeout(60)
async def test_a_collector_that_never_answers_holds_up_no_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK would wait for each batch as long as this test may take."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "3600")
    monkeypatch.setattr(traces, "SHUTDOWN_S", 0.1)
    async with silent() as url:
        sent = traces.Traces(url.removesuffix("/v1"), "1.2.3")
        async with served(tmp_path, traces=sent):
            at = "2026-11-30T12:00:00+00:00"
            sent.turn(
                TurnRecord("talk", 1, at=at, marks={"speech_started": 1.0, "speech_ended": 2.0}, outcome="completed")
            )


@pytest.fixture
def any_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the script are in no catalogue."""
    monkeypatch.setattr("web.changes.check_engines", lambda settings: None)


@pytest.mark.usefixtures("any_engine")
async def test_a_change_that_waits_holds_up_no_other_and_gives_way_to_its_undoing(
    mind_of_a_server: Script, tmp_path: Path
) -> None:
    async with silent() as url:
        engines = Engines(settings(), tmp_path, peer_s=3600)  # it would wait for an hour
        await engines.start()
        service = Service(engines, SettingsStore(tmp_path), tmp_path, settings())
        service.store.save(service.settings)

        waiting = asyncio.create_task(service.change(changed(mind={"engine": "openai", "url": url})))
        await reached(lambda: engines.reloading().get("mind") is not None)
        assert await changing(service, voice={"volume": 0.5}) == []
        assert await changing(service, voice={"engine": "voice-2"}) == ["voice"]
        assert not waiting.done()
        assert SettingsStore(tmp_path).load().settings.mind.engine == "mind-1", "what is not in use is not kept"

        assert await changing(service, mind={"engine": "mind-1"}) == []
        with pytest.raises(SettingsRefused, match="another change replaced this one"):
            await waiting
        assert engines.reloading() == {}
        kept = SettingsStore(tmp_path).load().settings
        assert (kept.mind.engine, kept.mind.url, kept.voice.engine, kept.voice.volume) == ("mind-1", "", "voice-2", 0.5)
        await service.end()


@pytest.mark.usefixtures("any_engine")
async def test_changes_that_meet_do_not_lose_each_other(script: Script, tmp_path: Path) -> None:
    engines = Engines(settings(), tmp_path)
    await engines.start()
    script.waiting |= {"mind-2"}
    service = Service(engines, SettingsStore(tmp_path), tmp_path, settings())
    waiting = asyncio.create_task(service.change(changed(mind={"engine": "mind-2"})))
    await reached(lambda: "start mind-2" in script.diary)
    await changing(service, turns={"silence_ms": 900}, voice={"engine": "voice-2"})
    script.gate.set()
    await waiting
    now = service.settings
    assert (now.mind.engine, now.voice.engine, now.turns.silence_ms) == ("mind-2", "voice-2", 900)
    assert SettingsStore(tmp_path).load().settings == now
    assert [engines.health()[stage].engine for stage in ("mind", "voice")] == ["mind-2", "voice-2"]
    await service.end()


async def changing(service: Service, **branches: Any) -> list[str]:
    return await service.change(changed(**branches))


async def reached(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  # the condition has no event
            await asyncio.sleep(0.005)
