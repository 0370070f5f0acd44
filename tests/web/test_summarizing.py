"""Days are summarised while nobody talks, and a summary goes with any word that it was made of."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from config import Settings, SettingsStore
from pipeline.engine import EngineError
from pipeline.llm import Prompt
from pipeline.tools.calls import ToolCall
from rag import AsyncMemory
from tests.web.api.test_memory import JSON, Letters
from tests.web.conftest import Running, served
from tests.web.scripted import ScriptedEngines, ScriptedMind
from web.service import Service
from web.summaries import Summary
from web.summarizing import TOO_SMALL, Summarizer

MONDAY = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
TUESDAY = MONDAY + timedelta(days=1)
TODAY = MONDAY + timedelta(days=2)
ON = {"memory": {"summaries": True}}


@dataclass
class Diarist(ScriptedMind):
    summarises: bool = True
    text: str = "You have a dog."
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    answers: asyncio.Event = field(default_factory=asyncio.Event)
    """Set unless a test holds it back."""

    def __post_init__(self) -> None:
        self.answers.set()

    async def reply(self, prompt: Prompt) -> AsyncGenerator[str | ToolCall, None]:
        self.asked.set()
        await self.answers.wait()
        async for piece in super().reply(prompt):
            yield piece


@dataclass
class Days:
    service: Service
    summarizer: Summarizer
    mind: Diarist
    memory: AsyncMemory

    @property
    def kept(self) -> dict[date, Summary]:
        return self.service.summaries.all()


async def fill(memory: AsyncMemory) -> None:
    await memory.remember("user", "My dog is called Rufus.", at=MONDAY, conversation="first")
    await memory.remember("assistant", "What a good name.", at=MONDAY, conversation="first")
    await memory.remember("user", "I moved to Paris.", at=TUESDAY, conversation="second")
    await memory.remember("user", "It rains.", at=TODAY, conversation="third")


@pytest.fixture
async def days(tmp_path: Path) -> AsyncIterator[Days]:
    memory = await AsyncMemory.open(tmp_path / "memory", embedder=Letters())
    await fill(memory)
    engines: Any = ScriptedEngines()
    engines.mind = mind = Diarist()
    engines.kept = memory
    service = Service(engines, SettingsStore(tmp_path), tmp_path, Settings.model_validate(ON))
    await engines.start()
    yield Days(service, Summarizer(service, lambda: TODAY), mind, memory)
    await memory.close()


async def test_the_newest_day_that_is_over_comes_first_and_each_once(days: Days) -> None:
    assert await days.summarizer.make_one()
    assert [*days.kept] == [TUESDAY.date()]
    assert await days.summarizer.make_one()
    summary = days.kept[MONDAY.date()]
    assert (summary.text, summary.conversations) == ("You have a dog.", ("first",))
    assert summary.by == "Built-in replies"  # the settings' mind, whose place the scripted one has
    assert "You: My dog is called Rufus.\nAssistant: What a good name." in days.mind.prompts[-1].history[-1].text
    assert not await days.summarizer.make_one()
    assert len(days.mind.prompts) == 2, "today is not over"


async def test_an_imported_conversation_of_ten_thousand_years_has_two_days(days: Days, tmp_path: Path) -> None:
    (file := tmp_path / "import.jsonl").write_text(
        "\n".join(
            f'{{"speaker": "user", "text": "It rains.", "at": "{at}", "conversation": "long"}}'
            for at in ("0001-01-01T12:00:00+00:00", "9999-12-31T12:00:00+00:00")
        ),
        encoding="utf-8",
    )
    await days.memory.import_(file)
    assert await days.memory.days() == [
        date(9999, 12, 31), TODAY.date(), TUESDAY.date(), MONDAY.date(), date(1, 1, 1)
    ]  # fmt: skip
    asked = days.memory.turns
    looked = list[date]()

    async def turns(*, day: date, limit: int) -> Any:
        looked.append(day)
        return await asked(day=day, limit=limit)

    days.memory.turns = turns  # type: ignore[method-assign, assignment]
    while await days.summarizer.make_one():
        pass
    assert [*days.kept] == [TUESDAY.date(), MONDAY.date(), date(1, 1, 1)]
    assert set(looked) == set(days.kept)


async def test_a_talk_ends_it_and_none_begins_while_one_goes_on(days: Days) -> None:
    with days.service.conversing():
        assert not await days.summarizer.make_one()
    days.mind.answers.clear()
    running = asyncio.create_task(days.summarizer.run())
    await days.mind.asked.wait()
    making = days.summarizer._making
    assert making is not None
    with days.service.conversing():
        await asyncio.wait([making])
        assert making.cancelled()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert not days.kept and not days.mind.prompts
    assert not days.service.talk_watchers


async def test_what_is_deleted_meanwhile_is_in_no_summary(days: Days) -> None:
    days.mind.answers.clear()
    making = asyncio.create_task(days.summarizer.make_one())
    await days.mind.asked.wait()
    await days.memory.forget(conversation="second")
    await days.service.forget_summaries(conversation="second")
    days.mind.answers.set()
    await making
    assert TUESDAY.date() not in days.kept


async def test_what_came_later_makes_it_anew(days: Days) -> None:
    while await days.summarizer.make_one():
        pass
    await days.memory.remember("user", "And I met Anna.", at=MONDAY + timedelta(hours=1), conversation="imported")
    assert await days.summarizer.make_one()
    assert days.kept[MONDAY.date()].conversations == ("first", "imported")


async def test_a_day_that_fails_does_not_keep_the_others_from_theirs(days: Days) -> None:
    days.mind.error = "too long"
    with pytest.raises(EngineError):
        await days.summarizer.make_one()
    days.mind.error = ""
    assert await days.summarizer.make_one()
    assert [*days.kept] == [MONDAY.date()]
    assert await days.summarizer.make_one()
    assert len(days.kept) == 2


async def test_switched_off_none_are_made_and_none_kept(days: Days) -> None:
    assert await days.summarizer.make_one()
    days.service.settings = Settings()
    assert not await days.summarizer.make_one()
    assert not days.kept
    assert not (days.service.data / "summaries.json").exists()


async def test_a_model_that_would_make_things_up_is_not_asked(days: Days) -> None:
    days.mind.summarises = False
    assert not await days.summarizer.make_one()
    assert not days.mind.prompts


@pytest.fixture
async def summarised(tmp_path: Path) -> AsyncIterator[Running]:
    """Monday and Tuesday have summaries, and the mind in use can make no others."""
    memory = await AsyncMemory.open(tmp_path / "memory", embedder=Letters())
    await fill(memory)
    engines = ScriptedEngines()
    engines.kept = memory
    async with served(tmp_path, engines, Settings.model_validate({"set_up": True, **ON})) as running:
        for day in (MONDAY, TUESDAY):
            turns = await memory.turns(day=day.date())
            ids, conversations = (turn.id for turn in turns), {turn.conversation for turn in turns}
            summary = Summary(f"A {day:%A}.", "Qwen", (*ids,), (*conversations,))
            running.service.summaries.keep(day.date(), summary, deletions=running.service.summaries.deletions)
        yield running
    await memory.close()


async def left(running: Running) -> set[str]:
    async with running.client() as client:
        overview = (await client.get("/api/memory")).json()
    assert (overview["summarises"], overview["cannot_summarise"]) == (True, TOO_SMALL)
    return {summary["text"] for summary in overview["summaries"].values() if summary["by"] == "Qwen"}


@pytest.mark.parametrize(
    "deletion",
    ["turn", "correction", "/api/memory/conversations/first", "/api/memory/days/2026-03-02"],
)
async def test_a_summary_goes_with_its_words(summarised: Running, deletion: str) -> None:
    assert await left(summarised) == {"A Monday.", "A Tuesday."}
    async with summarised.client(headers=JSON) as client:
        turn = (await client.get("/api/memory/turns", params={"conversation": "first"})).json()["turns"][1]
        if deletion == "correction":
            answer = await client.put(f"/api/memory/turns/{turn['id']}", json={"text": "A bad name."})
        else:
            answer = await client.delete(f"/api/memory/turns/{turn['id']}" if deletion == "turn" else deletion)
    assert answer.status_code == 200
    assert await left(summarised) == {"A Tuesday."}
    assert "Monday" not in (summarised.data / "summaries.json").read_text()


async def test_everything_takes_all_summaries_and_so_does_a_damaged_file(summarised: Running) -> None:
    file = summarised.data / "summaries.json"
    async with summarised.client(headers=JSON) as client:
        await client.request("DELETE", "/api/memory", json={"everything": True})
        assert not file.exists()
        file.write_text('{"2026-03-02": {"text": 5}}')
        assert (await client.get("/api/memory")).json()["summaries"] == {}
        await client.request("DELETE", "/api/memory", json={"everything": True})
    assert not file.exists()


async def test_they_go_when_they_are_switched_off(summarised: Running) -> None:
    async with summarised.client(headers=JSON) as client:
        answer = await client.put("/api/settings", json={"memory": {"summaries": False}})
        assert answer.status_code == 200, answer.text
        overview = (await client.get("/api/memory")).json()
        assert (overview["summaries"], overview["summarises"], overview["cannot_summarise"]) == ({}, False, "")
        while (summarised.data / "summaries.json").exists():
            await client.get("/api/memory")
