"""What must survive: kill -9, a second program, damage, a full disk, an older schema, another model."""

from __future__ import annotations

import multiprocessing
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from chromadb.errors import InternalError

import rag.indexer
import rag.vectors
from rag import Memory, MemoryFault, MemoryFull, MemoryInUse
from rag.database import MIGRATIONS
from rag.store import Row
from tests.rag.conftest import WordEmbedder
from tests.support.chroma import Server, served, unused


def talk(folder: Path, said: Connection, round: int) -> None:
    """In a process of its own: remember without end, telling each id once it is promised to be kept."""
    memory = Memory(folder, embedder=WordEmbedder())
    said.send("open")
    for number in range(1_000_000):
        text = f"round {round} turn {number} " + "word " * (number % 50)
        said.send((memory.remember("Ann", text, conversation=f"round {round}"), text.strip()))


@pytest.mark.parametrize("kills", [10, pytest.param(40, marks=pytest.mark.slow)])
def test_a_finished_turn_survives_kill_9_at_any_moment(tmp_path: Path, kills: int) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["chromadb", "rag", "tests.rag.conftest"])
    chance, promised = random.Random(7), dict[str, str]()
    for round in range(kills):
        here, there = context.Pipe(duplex=False)
        process = context.Process(target=talk, args=(tmp_path, there, round))
        process.start()
        there.close()
        assert here.recv() == "open"
        for _ in range(chance.randint(1, 12)):  # counted, so that a busy machine's pace does not matter
            id, text = here.recv()
            promised[id] = text
        time.sleep(chance.uniform(0, 0.01))  # into whatever is being done then
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        while True:  # what was told before the kill was promised too
            try:
                id, text = here.recv()
            except EOFError:
                break
            promised[id] = text
        here.close()
    with Memory(tmp_path, embedder=WordEmbedder()) as memory:
        held = {turn.id: turn.text for turn in memory.turns(limit=10_000_000)}
        assert len(promised) > kills
        assert {id: held.get(id) for id in promised} == promised
        assert memory.notices == ()
        memory.settle()
        size = memory.size()
        assert size.waiting == 0 and size.turns >= len(promised)
        one = random.Random(1).choice(list(promised))
        assert one in {turn.id for turn in memory.search(" ".join(promised[one].split()[:4]), limit=10_000)}


def test_a_second_program_is_told(tmp_path: Path, words: WordEmbedder) -> None:
    with Memory(tmp_path, embedder=words) as memory:
        memory.remember("Ann", "My bicycle is red.")
        script = "import sys; from pathlib import Path; from rag import Memory; Memory(Path(sys.argv[1]))"
        done = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode != 0 and "is open in another program" in done.stderr
        with pytest.raises(MemoryInUse):
            Memory(tmp_path, embedder=words)
        memory.remember("Ann", "It has a bell.")  # the first is not disturbed
    with Memory(tmp_path, embedder=words) as memory:
        assert memory.size().turns == 2


def filled(folder: Path, embedder: WordEmbedder, count: int = 300) -> dict[str, str]:
    with Memory(folder, embedder=embedder) as memory:
        held = {
            memory.remember(f"speaker {n % 2}", f"turn {n} about topic {n % 7} " + "and more " * 20): n
            for n in range(count)
        }
        memory.settle()
        return {turn.id: turn.text for turn in memory.turns(limit=count) if turn.id in held}


@pytest.fixture(scope="module")
def three_hundred(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A folder to copy, and the turns in it."""
    folder = tmp_path_factory.mktemp("three hundred")
    return folder, filled(folder, WordEmbedder())


@pytest.fixture
def held(tmp_path: Path, three_hundred: tuple[Path, dict[str, str]]) -> dict[str, str]:
    """What a memory of the test's own holds."""
    folder, held = three_hundred
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    return held


@pytest.mark.parametrize("damage", ["header", "middle", "cut", "all", "gone"])
def test_a_damaged_store_is_set_aside_and_rebuilt(
    tmp_path: Path, words: WordEmbedder, held: dict[str, str], damage: str
) -> None:
    file = tmp_path / "default" / "turns.sqlite3"
    content = bytearray(file.read_bytes())
    if damage == "header":
        content[:100] = b"\x00" * 100
    elif damage == "middle":
        for page in range(4, len(content) // 4096, 3):
            content[page * 4096 : (page + 1) * 4096] = b"\xaa" * 4096
    elif damage == "cut":
        del content[len(content) // 2 :]
    elif damage == "all":
        content[:] = b"\x55" * len(content)
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(content)
    with Memory(tmp_path, embedder=words) as memory:
        if damage == "gone":  # nothing is damaged: the copies beside the vectors bring the texts back all the same
            assert "rescued" in memory.notices[0]
        else:
            assert "was damaged" in memory.notices[0] and "300 turns were rescued" in memory.notices[0]
            assert list(file.parent.glob("turns.sqlite3.damaged-*"))
        assert {turn.id: turn.text for turn in memory.turns(limit=1000)} == held
        assert [turn.text.split()[1] for turn in memory.turns(limit=1000)] == [str(n) for n in range(300)]
        memory.settle()
        assert memory.size().waiting == 0 and memory.recall("turn 77")


def test_without_copies_what_can_be_read_is_rescued(tmp_path: Path, words: WordEmbedder, held: dict[str, str]) -> None:
    shutil.rmtree(tmp_path / "default" / "vectors")
    file = tmp_path / "default" / "turns.sqlite3"
    content = bytearray(file.read_bytes())
    for page in range(8, len(content) // 4096, 9):
        content[page * 4096 : (page + 1) * 4096] = b"\xaa" * 4096
    file.write_bytes(content)
    with Memory(tmp_path, embedder=words) as memory:
        rescued = {turn.id: turn.text for turn in memory.turns(limit=1000)}
        assert 100 < len(rescued) < 300 and rescued.items() <= held.items()
        assert f"{len(rescued)} turns were rescued" in memory.notices[0]


def test_a_damaged_index_of_words_is_made_anew(tmp_path: Path, words: WordEmbedder, held: dict[str, str]) -> None:
    with closing(sqlite3.connect(tmp_path / "default" / "turns.sqlite3")) as db:
        db.execute("UPDATE words_data SET block = x'00ff' WHERE id > 10")
        db.commit()
    with Memory(tmp_path, embedder=words) as memory:
        assert memory.search("topic", limit=1000) and len(memory.search("topic", limit=1000)) == 300
        assert "index of words was damaged" in memory.notices[0]


@pytest.mark.parametrize("part", ["chroma.sqlite3", "*/*.bin", "*/*.pickle", "folder"])
def test_damaged_vectors_are_made_anew(tmp_path: Path, words: WordEmbedder, long_memory: Path, part: str) -> None:
    shutil.copytree(long_memory, tmp_path, dirs_exist_ok=True)
    vectors = tmp_path / "default" / "vectors"
    if part == "folder":
        shutil.rmtree(vectors)
    else:
        damaged = list(vectors.glob(part))
        assert damaged
        for file in damaged:
            file.write_bytes(b"\xaa" * file.stat().st_size)
    with Memory(tmp_path, embedder=words) as memory:
        assert memory.recall("turn 77")
        memory.settle()
        assert memory.size().waiting == 0
        assert memory.find(memory.turns(limit=1)[0].text).features["meaning"].max() > 7
        assert not any("words only" in notice for notice in memory.notices)


def test_a_question_that_meets_chroma_writing_its_first_files_is_asked_again(
    tmp_path: Path, words: WordEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask, asked = rag.vectors._nearest, []

    def halfway(*question: Any) -> dict[str, float]:
        asked.append(question)
        if len(asked) == 1:
            raise InternalError("Error creating hnsw segment reader: Nothing found on disk")
        return ask(*question)

    with Memory(tmp_path, embedder=words) as memory:
        memory.remember("Ann", "My dog is called Rufus.")
        memory.settle()
        monkeypatch.setattr(rag.vectors, "_nearest", halfway)
        assert memory.find("the dog").features["meaning"].max() > 0
        assert not memory.notices
    assert len(asked) == 3, "one that failed, then both views"


def test_a_full_disk_stops_remembering_with_a_clear_word(tmp_path: Path, words: WordEmbedder) -> None:
    with Memory(tmp_path, embedder=words) as memory:
        kept = [memory.remember("Ann", f"turn {n}") for n in range(50)]
        memory.settle()
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        largest = max(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file())
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest + 20_000, limits[1]))
        try:
            with pytest.raises(MemoryFull, match="The disk of"):
                kept.extend(memory.remember("Ann", f"turn {n} " + "x" * 2000) for n in range(50, 5000))
            assert memory.recall("turn 7")  # the conversation goes on
            assert memory.size().turns == len(kept)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, handler)
        kept.append(memory.remember("Ann", "There is room again."))
        assert [turn.id for turn in memory.turns(limit=10_000)] == kept
    with Memory(tmp_path, embedder=words) as memory:
        assert [turn.id for turn in memory.turns(limit=10_000)] == kept
        memory.settle()
        assert memory.size().waiting == 0


def test_an_older_schema_is_brought_up_to_date(
    tmp_path: Path, words: WordEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = filled(tmp_path, words, 5)

    def add_mood(db: sqlite3.Connection) -> None:
        db.execute("ALTER TABLE turns ADD COLUMN mood TEXT NOT NULL DEFAULT 'calm'")

    def broken(db: sqlite3.Connection) -> None:
        add_mood(db)
        raise sqlite3.OperationalError("stopped half way")

    monkeypatch.setattr("rag.database.MIGRATIONS", [*MIGRATIONS, broken])
    with pytest.raises(sqlite3.OperationalError, match="half way"):
        Memory(tmp_path, embedder=words)
    monkeypatch.setattr("rag.database.MIGRATIONS", [*MIGRATIONS, add_mood])  # starts again from the older schema
    with Memory(tmp_path, embedder=words) as memory:
        assert {turn.id: turn.text for turn in memory.turns()} == held
    monkeypatch.undo()
    with pytest.raises(MemoryFault, match="newer version"):
        Memory(tmp_path, embedder=words)


def test_another_model_embeds_anew_with_progress(tmp_path: Path) -> None:
    filled(tmp_path, WordEmbedder("first"), 100)
    released = threading.Semaphore(0)

    class Second(WordEmbedder):
        def embed(self, texts):  # type: ignore[no-untyped-def]
            if len(texts) >= 4:  # turns, and not a question
                released.acquire()
            return super().embed(texts)

    with Memory(tmp_path, embedder=Second("second", dimensions=48)) as memory:
        memory.find("topic")
        assert memory.size().progress == 0.0
        seen, found = [], []
        while memory.size().waiting:
            found.append(bool(memory.recall("turn 77")))  # usable all the while
            seen.append(memory.size().progress)
            released.release()
        assert all(found)
        assert seen == sorted(seen) and len(set(seen)) > 2
        memory.settle()
        assert memory.size().progress == 1.0 and memory.notices == ()
    with closing(sqlite3.connect(tmp_path / "default" / "vectors" / "chroma.sqlite3")) as db:
        assert {size for (size,) in db.execute("SELECT dimension FROM collections")} == {48}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with served(tmp_path / "server") as server:
        yield server


def test_chroma_as_a_server_for_two_machines(tmp_path: Path, words: WordEmbedder, server: Server) -> None:
    one = Memory(tmp_path / "one", embedder=words, chroma=server)
    kept = one.remember("Ann", "My bicycle is red.", at=datetime(2024, 5, 3, tzinfo=UTC), conversation="c")
    gone = one.remember("Ann", "My password is swordfish.")
    one.settle()
    two = Memory(tmp_path / "two", embedder=words, chroma=server)
    two.warm()
    assert {turn.id for turn in two.turns()} == {kept, gone}
    assert two.recall("bicycle").items[0].id == kept
    one.forget(id=gone)
    one.settle()
    added = two.remember("Ann", "The bell is broken.")
    two.settle()
    two.close()
    one.close()
    with Memory(tmp_path / "two", embedder=words, chroma=server) as two:
        two.warm()
        assert {turn.id for turn in two.turns()} == {kept, added}
    with Memory(tmp_path / "one", embedder=words, chroma=server) as one:
        one.warm()
        assert {turn.id for turn in one.turns()} == {kept, added}
    with Memory(tmp_path / "one", owner="Ben", embedder=words, chroma=server) as ben:
        ben.warm()
        assert ben.turns() == []


def test_machines_on_one_server_see_each_other_while_they_run(
    tmp_path: Path, words: WordEmbedder, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rag.indexer.LOOK", 0.05)
    with (
        Memory(tmp_path / "one", embedder=words, chroma=server) as one,
        Memory(tmp_path / "two", embedder=words, chroma=server) as two,
    ):
        one.warm()
        two.warm()

        def agree() -> bool:
            deadline = time.monotonic() + 60
            while {turn.id for turn in one.turns()} != {turn.id for turn in two.turns()}:
                if time.monotonic() > deadline:
                    return False
                time.sleep(0.01)
            return True

        ids = [one.remember("Ann", "My bicycle is red."), two.remember("Ben", "Mine has a bell.")]
        assert agree() and len(one.turns()) == 2
        assert two.recall("bicycle").items[0].id == ids[0] and one.recall("bell").items[0].id == ids[1]
        assert two.find("My bicycle is red.").features["meaning"].max() > 7
        two.forget(id=ids[0])
        assert agree() and [turn.id for turn in one.turns()] == ids[1:]
        assert "bicycle" not in one.recall("bicycle").text
        assert one.notices == two.notices == ()


def test_what_was_forgotten_while_the_server_was_away_does_not_come_back(
    tmp_path: Path, words: WordEmbedder, server: Server
) -> None:
    with Memory(tmp_path / "one", embedder=words, chroma=server) as memory:
        id = memory.remember("Ann", "My password is swordfish.")
        kept = memory.remember("Ann", "My bicycle is red.")
        memory.settle()
        server.kill()
        assert memory.forget(id=id) == 1
        assert [turn.id for turn in memory.turns()] == [kept] and memory.notices
    server.run(tmp_path / "server")
    for machine in ("one", "two"):
        with Memory(tmp_path / machine, embedder=words, chroma=server) as memory:
            memory.warm()
            memory.settle()
            assert [turn.id for turn in memory.turns()] == [kept]


def test_a_server_that_is_away_leaves_the_words(tmp_path: Path, words: WordEmbedder) -> None:
    with Memory(tmp_path, embedder=words, chroma=unused()) as memory:
        memory.remember("Ann", "My bicycle is red.")
        assert memory.recall("bicycle").items
        assert "does not answer" in memory.notices[0]


@pytest.mark.skipif(sys.platform != "linux", reason="fills the disk of one process, by Linux's limits")
def test_a_server_that_is_full_leaves_the_words_until_there_is_room(
    tmp_path: Path, words: WordEmbedder, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rag.indexer.RETRY", 0.05)
    with Memory(tmp_path / "one", embedder=words, chroma=server) as memory:
        memory.remember("Ann", "My bicycle is red.")
        memory.settle()
        server.fill()
        bell = memory.remember("Ann", "The bell is broken.")
        memory.settle()
        assert "by words only" in memory.notices[0]
        assert memory.recall("bell").items[0].id == bell
        server.kill()  # whoever makes room starts it again: it may hang once it could not write
        server.run(tmp_path / "server")
        deadline = time.monotonic() + 60
        while memory.size().progress < 1.0:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert memory.find("The bell is broken.").features["meaning"].max() > 7
        assert memory.notices == ()


def test_a_turn_table_that_cannot_be_read_for_a_moment_does_not_end_the_search_by_meaning(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory.settle()
    indexer, failed = memory._indexer, threading.Event()
    waiting = indexer._store.waiting

    def fails(count: int) -> list[Row]:
        if threading.current_thread() is indexer._thread and not failed.is_set():
            failed.set()
            raise sqlite3.OperationalError("disk I/O error")
        return waiting(count)

    monkeypatch.setattr(rag.indexer, "RETRY", 0.0)
    monkeypatch.setattr(indexer._store, "waiting", fails)
    memory.remember("Ann", "I like tea.", conversation="c")
    assert failed.wait(60)
    while indexer._thread.is_alive() and memory.size().waiting:
        time.sleep(0.01)
    assert indexer._thread.is_alive()
    memory.settle()
    assert memory.notices == ()
