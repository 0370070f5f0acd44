"""The real memory in its worker process. Only the first test waits for the model that tells what a question means."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, closing
from datetime import UTC, date, datetime
from pathlib import Path
from unittest.mock import create_autospec

import numpy as np
import psutil
import pytest
import pytest_asyncio
from numpy.typing import NDArray

from config.cache import Source
from pipeline.engine import EngineError, EngineStatus, Progress
from pipeline.engines.memory import MemoryHost, MemoryPlace, WorkerMemory
from pipeline.workers.place import Place
from rag import Memory, SentenceEmbedder
from tests.support.begun import IN_ONE_LOOP, begun
from tests.support.tiny_repositories import write_sentence_model
from tests.support.workers import workers

LONG_AGO = datetime(2026, 11, 1, 12, tzinfo=UTC)


def opened(path: Path, owner: str = "default") -> AbstractAsyncContextManager[WorkerMemory]:
    """Open, while the model for meaning is still loading behind it."""
    return begun(WorkerMemory(path, owner=owner))


def test_without_a_model_for_meaning_what_was_said_is_kept_and_found_by_its_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    def lacking(model: object, report: object) -> Path:
        asked.append(model)
        raise EngineError("It cannot be fetched now.")

    monkeypatch.setattr("pipeline.engines.memory.fetched", lacking)
    host = MemoryHost(lambda progress: None, tmp_path, "default", None)
    try:
        assert host.do("warm") == "It cannot be fetched now."
        host.do("remember", "user", "My dog is called Rufus.", at=LONG_AGO, conversation="one")
        assert "Rufus" in host.do("recall", "What is my dog called?").text
        assert len(asked) == 1, "its sources are not asked at every turn"
    finally:
        host.close()


class Lacking(MemoryPlace):
    """Its embedding model can be had at the third time of asking."""

    def __init__(self) -> None:
        place = create_autospec(Place, instance=True)
        place.status = EngineStatus("memory", "ready")
        super().__init__(place)
        self.asked = 0

    async def _load(self) -> str | None:
        self.asked += 1
        if self.asked == 2:
            raise EngineError("The process ended.")
        return "It cannot be fetched now." if self.asked == 1 else None


async def test_a_model_that_comes_later_is_no_longer_reported_as_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.engines.memory.ASK_AGAIN_S", 0.0)
    ready = asyncio.Event()

    def report(progress: Progress) -> None:
        if progress.what == "ready":
            ready.set()

    made = Lacking()
    await made.start(report)
    assert made.status.last_error == "It cannot be fetched now."
    await ready.wait()
    assert made.asked == 3
    assert EngineStatus("memory", "ready") == made.status
    await made.stop()


def test_another_embedding_model_is_chosen_by_its_name_and_indexes_everything_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, asked = write_sentence_model(tmp_path / "tiny"), list[object]()

    def here(source: Source, report: object) -> Path:
        asked.append(source.repository)
        return folder

    monkeypatch.setattr("pipeline.engines.memory.fetched", here)
    with Memory(tmp_path, embedder=Seven()) as before:
        before.remember("user", "My dog is called Rufus.", at=LONG_AGO)
        before.settle()
    host = MemoryHost(lambda progress: None, tmp_path, "default", None, "someone/tiny-minilm")
    try:
        assert host.do("warm") is None
        host.do("settle")
        assert host.do("size").progress == 1.0
        assert "Rufus" in host.do("recall", "What is my dog called?").text
        assert set(asked) == {"someone/tiny-minilm"}
    finally:
        host.close()
    with closing(sqlite3.connect(tmp_path / "default" / "vectors" / "chroma.sqlite3")) as db:
        assert {size for (size,) in db.execute("SELECT dimension FROM collections")} == {32}


class Seven(SentenceEmbedder):
    """Every text has the same vector, in seven dimensions."""

    def fingerprint(self) -> str:
        return "seven"

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.full((len(texts), 7), 7**-0.5, np.float32)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[WorkerMemory]:
    async with opened(tmp_path_factory.mktemp("memory")) as memory:
        yield memory


@pytest_asyncio.fixture(loop_scope="module")
async def memory(shared: WorkerMemory) -> WorkerMemory:
    """Nothing is in it."""
    await shared.forget(everything=True)
    return shared


def kill(others: list[psutil.Process]) -> None:
    (child,) = workers(others)
    child.kill()


async def test_what_was_said_is_recalled_by_its_meaning_and_after_a_restart(tmp_path: Path) -> None:
    told: list[Progress] = []
    others, memory = workers(), WorkerMemory(tmp_path)
    await memory.start(told.append)
    assert Progress("loading the model for meaning") in told
    assert memory.status.state == "ready"
    await memory.remember("user", "My dog is called Rufus.", at=LONG_AGO, conversation="one")
    await memory.remember("user", "It rained all day.", at=LONG_AGO, conversation="one")
    async with asyncio.timeout(120):
        while (await memory.size()).waiting:  # noqa: ASYNC110 - vectors follow in the background
            await asyncio.sleep(0.01)
    for life in range(2):
        recall = await memory.recall("the name of my pet", budget_chars=500, now=LONG_AGO)
        assert recall.items[0].text == "My dog is called Rufus."
        assert "Rufus" in recall.text and len(recall.text) <= 500
        assert not (await memory.recall("the name of my pet", exclude_conversation="one")).items
        assert memory.status.restarts == life
        if life == 0:
            kill(others)
    await memory.stop()
    assert workers(others) == []


async def test_what_is_said_while_it_loads_is_kept(tmp_path: Path) -> None:
    memory = WorkerMemory(tmp_path)
    with pytest.raises(EngineError, match="not running"):
        await memory.remember("user", "too early")
    async with opened(tmp_path) as memory:
        assert memory.status.state == "loading"
        assert await memory.remember("user", "My dog is called Rufus.")
        assert [turn.text for turn in await memory.turns()] == ["My dog is called Rufus."]
        assert memory.status.state == "loading", "meaning still has to wait"


@IN_ONE_LOOP
async def test_every_verb(memory: WorkerMemory, tmp_path: Path) -> None:
    ids = [await memory.remember("user", f"Sentence {number}.", at=LONG_AGO, conversation="one") for number in range(5)]
    await memory.correct(ids[0], "A corrected sentence.")
    assert [turn.text for turn in await memory.search("corrected")] == ["A corrected sentence."]
    assert [turn.id for turn in await memory.turns(limit=2)] == ids[3:]
    (conversation,) = await memory.conversations()
    assert (conversation.id, conversation.turns) == ("one", 5)
    assert (await memory.size()).turns == 5
    file = tmp_path / "memory.jsonl"
    assert await memory.export(file) == 5
    assert json.loads(file.read_text().splitlines()[0])["text"] == "A corrected sentence."
    assert await memory.forget(id=ids[1]) == 1
    assert await memory.forget(day=date(2026, 11, 1)) == 4
    assert await memory.import_(file) == 5
    assert await memory.forget(everything=True) == 5


async def test_what_memory_has_to_say_comes_across(tmp_path: Path) -> None:
    file = tmp_path / "default" / "turns.sqlite3"
    file.parent.mkdir()
    file.write_bytes(b"no database " * 1000)
    async with opened(tmp_path) as memory:
        assert "was damaged" in (await memory.notices())[0]


@IN_ONE_LOOP
async def test_my_means_the_one_who_asks(memory: WorkerMemory) -> None:
    await memory.remember("assistant", "My favourite food is soup.")
    await memory.remember("user", "My favourite food is sushi.")
    assert (await memory.recall("What is my favourite food?", asker="user")).items[0].speaker == "user"
    assert (await memory.recall("What is my favourite food?", asker="assistant")).items[0].speaker == "assistant"


@IN_ONE_LOOP
async def test_what_goes_wrong_comes_back_as_what_it_is(memory: WorkerMemory, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jsonl"
    broken.write_text("this is no turn\n")
    with pytest.raises(KeyError):
        await memory.correct("nobody", "text")
    with pytest.raises(ValueError, match="Say what to forget"):
        await memory.forget()
    with pytest.raises(ValueError, match="Line 1"):
        await memory.import_(broken)
    with pytest.raises(ValueError, match="empty"):
        await memory.remember("user", "  ")
    assert (await memory.size()).turns == 0


async def test_killed_while_it_keeps_what_was_said_nothing_is_lost(tmp_path: Path) -> None:
    others = workers()
    async with opened(tmp_path) as memory:
        await memory.remember("user", "the first")
        keeping = [asyncio.create_task(memory.remember("user", f"number {number}")) for number in range(20)]
        await asyncio.sleep(0)
        kill(others)
        await asyncio.gather(*keeping)
        texts = {turn.text for turn in await memory.turns()}
        assert texts == {"the first", *(f"number {number}" for number in range(20))}
        assert memory.status.restarts == 1


async def test_a_memory_that_another_program_holds(tmp_path: Path) -> None:
    with Memory(tmp_path):
        memory = WorkerMemory(tmp_path)
        with pytest.raises(EngineError) as refused:
            await memory.start(lambda progress: None)
        assert memory.status.state == "failed"
        assert str(refused.value) == memory.status.last_error
        with pytest.raises(EngineError):
            await memory.remember("user", "hello")
        await memory.stop()


async def test_owners_do_not_see_each_other(tmp_path: Path) -> None:
    async with opened(tmp_path, "ann") as memory:
        await memory.remember("user", "a secret")
    async with opened(tmp_path, "bob") as memory:
        assert await memory.turns() == []
