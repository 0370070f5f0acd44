"""The memories of many owners in one real worker process, before its model for meaning is loaded."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from pathlib import Path

import pytest

from pipeline.engine import EngineError
from pipeline.engines import memories as module
from pipeline.engines.memories import Memories, MemoriesHost, Owned
from rag import Memory
from tests.support.begun import begun
from tests.support.workers import workers


@pytest.mark.slow
async def test_owners_share_a_process_and_nothing_else(tmp_path: Path) -> None:
    async with begun(Memories()) as memories:
        anna = memories.of(Owned(tmp_path / "anna", "anna"))
        ben = memories.of(Owned(tmp_path / "ben", "ben"))
        await asyncio.gather(*(each.start(lambda progress: None) for each in (anna, ben)))
        await anna.remember("user", "My dog is called Rufus.", conversation="one")
        assert [turn.text for turn in await anna.turns()] == ["My dog is called Rufus."]
        assert await ben.turns() == []
        assert await ben.turns(conversation="one") == []

        (process,) = workers()
        os.kill(process.pid, signal.SIGKILL)
        await anna.remember("user", "My cat is called Minka.", conversation="one")  # the next process opens it again
        assert len(await anna.turns()) == 2

        await anna.stop()
        with Memory(tmp_path / "anna", owner="anna") as elsewhere:  # whoever has the user next
            assert len(elsewhere.turns()) == 2
        assert await ben.turns() == [], "others are not disturbed"


def test_a_memory_that_is_just_being_closed_elsewhere_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = Memory(tmp_path, owner="anna")
    host, owned, asked = MemoriesHost(lambda progress: None), Owned(tmp_path, "anna"), threading.Event()

    def opened(*args: object, **options: object) -> Memory:
        if not asked.is_set():
            asked.set()
            try:
                return Memory(tmp_path, owner="anna")
            finally:
                elsewhere.close()
        return Memory(tmp_path, owner="anna")

    monkeypatch.setattr(module, "Memory", opened)
    try:
        host.open(owned)
        assert host.do(owned, "turns") == []
    finally:
        host.close()


def test_a_memory_that_stays_open_elsewhere_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LET_GO_S", 0.0)
    host = MemoriesHost(lambda progress: None)
    with Memory(tmp_path, owner="anna"), pytest.raises(EngineError, match="open in another program"):
        host.open(Owned(tmp_path, "anna"))
    host.open(Owned(tmp_path, "anna"))
    host.close()
