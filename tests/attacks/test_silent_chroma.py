"""A Chroma server that accepts and never answers, answers without end, or dies: memory goes on by words, and ends."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from pipeline.engine import EngineError, EngineStatus, Report
from pipeline.engines.memory import WorkerMemory
from pipeline.engines.plans import PEER_S
from pipeline.engines.slot import EnginePlan, Slot
from rag import ChromaServer, Memory, chroma_server, indexer
from tests.rag.conftest import WordEmbedder
from tests.support.chroma import unused


@pytest.fixture
def words() -> WordEmbedder:
    return WordEmbedder()


Behaviour = Callable[[socket.socket], None]


def silent(client: socket.socket) -> None:
    while client.recv(1 << 16):
        pass


def drips(client: socket.socket) -> None:
    """A head that never ends: each of its bytes comes in good time."""
    client.sendall(b"HTTP/1.1 200 OK\r\nX: ")
    while True:
        client.sendall(b"x")
        time.sleep(0.01)


def endless(client: socket.socket) -> None:
    client.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n[")
    while True:
        client.sendall(b"1," * 50_000)


def packed(client: socket.socket) -> None:
    client.recv(1 << 16)
    body = gzip.compress(json.dumps({"user_id": "", "tenant": "default_tenant", "databases": []}).encode())
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(body)}\r\n\r\n"
    client.sendall(head.encode() + body)
    silent(client)


@contextmanager
def behaving(behaviour: Behaviour) -> Iterator[ChromaServer]:
    clients: list[socket.socket] = []

    def serve(client: socket.socket) -> None:
        with suppress(OSError):
            behaviour(client)
        client.close()

    def accept() -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                clients.append(client)
                threading.Thread(target=serve, args=(client,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        try:
            yield ChromaServer("127.0.0.1", listener.getsockname()[1])
        finally:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            for client in clients:
                with suppress(OSError):
                    client.shutdown(socket.SHUT_RDWR)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("behaviour", [silent, drips, endless, packed])
def test_a_memory_goes_on_by_words_and_ends(
    behaviour: Behaviour, tmp_path: Path, words: WordEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chroma_server, "DEADLINE_S", 0.3)
    monkeypatch.setattr(chroma_server, "MOST_BYTES", 1 << 20)
    with behaving(behaviour) as server, Memory(tmp_path, embedder=words, chroma=server) as memory:
        id = memory.remember("Ann", "My bicycle is red.")
        assert memory.recall("bicycle").items
        memory.settle()
        assert "does not answer" in memory.notices[0]
        assert memory.forget(id=id) == 1
        assert memory.turns() == []


@pytest.mark.timeout(60)
def test_a_question_does_not_wait_for_what_another_is_waiting_for(tmp_path: Path, words: WordEmbedder) -> None:
    """The deadline is not over yet, as the end of the memory is not held up by it either."""
    with behaving(silent) as server, Memory(tmp_path, embedder=words, chroma=server) as memory:
        began = memory._indexer._lock
        id = memory.remember("Ann", "My bicycle is red.")
        while began.acquire(blocking=False):  # until the background thread waits for the server
            began.release()
            time.sleep(0.001)
        assert memory.recall("bicycle").items
        assert memory.forget(id=id) == 1
        assert memory.notices == (), "nothing has failed so far"


async def test_a_server_that_takes_too_long_in_all_does_not_end_the_memory() -> None:
    stopped: list[str] = []

    class Slow:
        status = EngineStatus("memory", "ready")

        async def start(self, report: Report) -> None:
            await asyncio.Event().wait()

        async def stop(self) -> None:
            stopped.append("stopped")

    for alone in (True, False):
        slot = Slot("memory", EnginePlan("memory", Slow, alone=alone, patience_s=0.01), lambda: None)
        with pytest.raises(EngineError, match="did not answer completely"):
            await slot.start()
        assert slot.engine is not None and slot.status.state == "failed"
        assert stopped == ([] if alone else ["stopped"])


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_the_memory_engine_says_so_and_keeps_what_is_said(tmp_path: Path) -> None:
    with behaving(silent) as server:
        plan = EnginePlan("memory", lambda: WorkerMemory(tmp_path, chroma=server), patience_s=PEER_S)
        slot = Slot("memory", plan, lambda: None)
        try:
            with pytest.raises(EngineError, match=r"The Chroma server at 127.0.0.1:\d+ does not answer"):
                await slot.start()
            memory = slot.engine
            assert isinstance(memory, WorkerMemory) and memory.status.state == "ready"
            await memory.remember("Ann", "My bicycle is red.")
            assert (await memory.recall("bicycle")).items
        finally:
            await slot.stop()


@pytest.mark.timeout(120)
def test_a_server_that_dies_during_an_import_and_comes_back_empty_is_filled_again(
    tmp_path: Path, words: WordEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexer, "RETRY", 0.2)
    turn = {"speaker": "Ann", "at": "2024-05-03T18:00:00+00:00", "conversation": "c"}
    lines = [json.dumps({**turn, "text": f"turn {number} about topic {number % 7}"}) for number in range(200)]
    file = tmp_path / "turns.jsonl"
    file.write_text("\n".join(lines), encoding="utf-8")
    server = unused()
    server.run(tmp_path / "server")
    try:
        with Memory(tmp_path / "memory", embedder=words, chroma=server) as memory:
            memory.remember("Ann", "My bicycle is red.")
            assert memory.import_(file) == 200
            while memory.size().waiting > 150:
                time.sleep(0.005)
            server.kill()
            assert memory.recall("bicycle").items
            memory.settle()
            assert memory.notices
            server.run(tmp_path / "another")
            while memory.size().waiting or memory.notices:
                time.sleep(0.01)
            assert len(memory._indexer.look_up("turn 3", [])[0].turn) == indexer.NEAREST
    finally:
        server.kill()
