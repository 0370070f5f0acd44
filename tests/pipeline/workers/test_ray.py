"""Engines in a cluster, which here is a server in this process; tests/integration/test_ray.py has a real one."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from websockets.asyncio.client import connect

from pipeline.engine import EngineError
from pipeline.tts import Spoken, WordTime
from pipeline.workers import deployment, wire
from pipeline.workers.deployment import Cluster
from pipeline.workers.place import Wanted, WorkerDied
from pipeline.workers.ray import RayPlace
from tests.pipeline.workers.worker_engines import Busy
from tests.support.cluster import KEY, StandIn, listening, standing_in

ENGINES = "tests.pipeline.workers.worker_engines"


def echo(diary: Path | str = "") -> Wanted:
    return Wanted("the echo", f"{ENGINES}:Echo", {"diary": str(diary)}, 4, (Busy,), (Spoken, WordTime))


def talkers(diary: Path) -> Wanted:
    return Wanted("the talkers", f"{ENGINES}:Talkers", {"diary": str(diary)}, 2)


def place(cluster: Cluster, wanted: Wanted, **options: Any) -> RayPlace:
    return RayPlace(wanted, cluster=cluster, stage="stage", **options)


@asynccontextmanager
async def reached(wanted: Wanted, each: int = 1, **options: Any) -> AsyncIterator[tuple[StandIn, RayPlace]]:
    async with standing_in({"stage": wanted}, each) as stand_in, listening(stand_in):
        there = place(stand_in.cluster, wanted, **options)
        await there.start(lambda progress: None)
        try:
            yield stand_in, there
        finally:
            await there.stop()


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - of other tasks and processes
        await asyncio.sleep(0.01)


async def test_calls_and_streams() -> None:
    async with reached(echo()) as (_, there):
        assert there.status.state == "ready"
        spoken = Spoken(np.arange(3, dtype=np.float32), (WordTime(0, 2, 1),))
        (value,) = await there.call("echo", [1, "two", (3.5, None), {"four": True}])
        assert value == [1, "two", (3.5, None), {"four": True}]
        one, other = await there.call("echo", spoken, times=2)
        assert isinstance(one, Spoken) and one.words == spoken.words and other.samples.tolist() == [0, 1, 2]
        assert [number async for number in there.stream("count", 100)] == [*range(100)]
        assert len(await there.call("samples", 3_000_000)) == 3_000_000
        several = (there.call("echo", number) for number in range(20))
        assert await asyncio.gather(*several) == [[number] for number in range(20)]


async def test_errors_come_back_as_what_they_are() -> None:
    async with reached(echo()) as (_, there):
        with pytest.raises(EngineError, match="give it honey"):
            await there.call("refuse")
        with pytest.raises(Busy, match="half way"):
            async for _ in there.stream("broken_stream"):
                pass
        with pytest.raises(EngineError, match=r"the echo failed \(ZeroDivisionError: secret words\)\."):
            await there.call("fail")
        with pytest.raises(EngineError, match="cannot be sent"):
            await there.call("echo", object())
        with pytest.raises(EngineError, match="There is no method '_note'"):
            await there.call("_note", "not for others")
        assert await there.call("echo", "as before") == ["as before"]


async def test_a_stream_is_closed_in_the_engine_when_its_listener_leaves(tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    async with reached(echo(diary)) as (_, there):
        async with aclosing(there.stream("count", 1_000_000)) as numbers:
            assert await anext(numbers) == 0
        await until(lambda: diary.exists() and diary.read_text().endswith("\n"))
        last = int(diary.read_text().split()[-1])
        assert last < 1000, "and it made hardly more than was asked for"


async def test_a_talker_keeps_its_replica_and_is_forgotten_when_it_leaves(tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    async with reached(talkers(diary), each=2) as (stand_in, there):
        one, other = there.seat("forget"), there.seat("forget")
        for word in ("a", "b", "c"):
            assert (await one.call("say", word))[-1] == (await other.call("say", word))[-1] == word
        assert stand_in.routed[-2] is not stand_in.routed[-1]
        assert await one.call("say", "d") == ["a", "b", "c", "d"]
        await one.leave()
        await one.leave()
        await until(lambda: diary.exists() and diary.read_text() == "forgotten\n")
        assert await other.call("say", "d") == ["a", "b", "c", "d"]


async def test_a_talker_whose_gateway_dies_is_forgotten_too(tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    async with reached(talkers(diary)) as (_, there):
        seat = there.seat("forget")
        await seat.call("say", "hello")
        assert seat._socket is not None
        seat._socket._connection.transport.abort()
        await until(lambda: diary.exists() and diary.read_text() == "forgotten\n")


async def test_when_a_replica_dies_the_next_request_goes_to_another(tmp_path: Path) -> None:
    async with reached(echo(), each=2) as (stand_in, there):
        async with aclosing(there.stream("count", 1_000_000)) as numbers:
            await anext(numbers)
            died = stand_in.routed[-1]
            await stand_in.kill(died)
            with pytest.raises(WorkerDied, match="the echo in the cluster disappeared"):
                async for _ in numbers:
                    pass
        assert await there.call("echo", 1) == [1]
        assert there.status.state == "ready" and there.status.restarts == 0, "the cluster itself is well"


async def test_when_the_engine_in_a_replica_dies_it_is_told_so(tmp_path: Path) -> None:
    async with reached(echo()) as (_, there):
        process = await there.call("process")
        call = asyncio.create_task(there.call("wait"))
        await there.call("echo", "until the other is under way")
        os.kill(process, signal.SIGKILL)
        with pytest.raises(WorkerDied, match=r"stopped unexpectedly \(SIGKILL\)"):
            await call
        await there.ready()
        assert await there.call("process") != process, "its replica has started another"


async def test_after_a_death_a_talker_has_a_seat_at_another_replica(tmp_path: Path) -> None:
    async with reached(talkers(tmp_path / "diary"), each=2) as (stand_in, there):
        seat = there.seat("forget")
        await seat.call("say", "a")
        await stand_in.kill(stand_in.routed[-1])
        await until(lambda: seat._socket is not None and seat._socket.ended)
        assert await seat.call("say", "b") == ["b"], "what was kept is lost, as after a restart here"
        await seat.leave()


async def test_a_cluster_that_goes_away_and_comes_back() -> None:
    waits: list[float] = []
    back = asyncio.Event()

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) > 3:
            await back.wait()

    async with standing_in({"stage": echo()}) as stand_in:
        there = place(stand_in.cluster, echo(), sleep=sleep, look_s=0.05)
        async with listening(stand_in):
            await there.start(lambda progress: None)
        await until(lambda: len(waits) > 3)
        assert there.status.state == "failed"
        for ask in (there.ready(), there.call("echo", 1), there.seat("forget").call("say", "a")):
            with pytest.raises(EngineError, match=r"^The cluster at 127.0.0.1:\d+ cannot be reached \(.*\): start it"):
                await ask
        assert waits == sorted(waits), "asked again and again, after ever longer waits"
        async with listening(stand_in):
            back.set()
            await until(lambda: there.status.state == "ready")
            assert await there.call("echo", 1) == [1]
            await there.stop()


async def test_nothing_is_there_at_the_start(tmp_path: Path) -> None:
    async with standing_in({}) as stand_in:
        there = place(stand_in.cluster, echo())
        with pytest.raises(EngineError, match="cannot be reached"):
            await there.start(lambda progress: None)
        assert there.status.state == "failed"
        with pytest.raises(EngineError, match="cannot be reached"):
            await there.ready()
        await there.stop()


async def test_what_is_there_is_not_what_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refused(wanted: Wanted, cluster: Cluster) -> str:
        with pytest.raises(EngineError) as refusal:
            await place(cluster, wanted).start(lambda progress: None)
        return str(refusal.value)

    here, other, elsewhere = Path("/here/diary"), Path("/here/log"), Path("/elsewhere/diary")
    async with standing_in({"stage": talkers(here)}) as stand_in, listening(stand_in):
        there = stand_in.cluster
        assert "refuses the key" in await refused(talkers(here), Cluster(there.url, "another"))
        assert "runs the talkers, but the settings ask for the echo" in await refused(echo(), there)
        assert "with diary '/here/diary', and here it is '/here/log'" in await refused(talkers(other), there)
        monkeypatch.setattr(deployment, "PROTOCOL", wire.PROTOCOL + 1)
        assert "Another version of Parley" in await refused(talkers(elsewhere), there)
        monkeypatch.undo()
        same_file = place(there, talkers(elsewhere))
        await same_file.start(lambda progress: None)
        await same_file.stop()


async def test_a_stage_without_a_free_replica_is_told_and_not_waited_for() -> None:
    async with reached(echo(), open_s=0.2) as (stand_in, there):
        stand_in.free.clear()
        with pytest.raises(EngineError, match="has no free replica of the echo"):
            await there.call("echo", 1)
        assert there.status.state == "ready", "those that talk go on"
        stand_in.free.set()
        assert await there.call("echo", 1) == [1]


@asynccontextmanager
async def far_away(cluster: Cluster, delay_s: float) -> AsyncIterator[Cluster]:
    """The same cluster behind a network that takes so long in each direction."""
    port = int(cluster.url.rpartition(":")[2])

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        while data := await reader.read(1 << 16):
            loop.call_later(delay_s, writer.write, data)
        loop.call_later(delay_s, writer.close)

    async def joined(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(carry(reader, back), carry(there, writer), return_exceptions=True)

    async with await asyncio.start_server(joined, "127.0.0.1", 0) as server:
        yield Cluster(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", cluster.key)


async def test_over_a_slow_network_it_is_slower_and_the_same() -> None:
    async with (
        standing_in({"stage": echo()}, 2) as stand_in,
        listening(stand_in),
        far_away(stand_in.cluster, 0.1) as cluster,
    ):
        there = place(cluster, echo())
        await there.start(lambda progress: None)
        assert [number async for number in there.stream("count", 20)] == [*range(20)]
        async with aclosing(there.stream("count", 1_000_000)) as numbers:
            await anext(numbers)
            await stand_in.kill(stand_in.routed[-1])
            with pytest.raises(WorkerDied):
                async for _ in numbers:
                    pass
        assert await there.call("echo", 1) == [1]
        await there.stop()


async def test_what_is_no_message_of_ours_ends_the_socket() -> None:
    async with standing_in({"stage": echo()}) as stand_in, listening(stand_in):
        for message in (b"", b"\x80\x04N.", b"\x00\x00\x00\x02[]", b'\x00\x00\x00\x0e["call",0,"id"]', "text"):
            headers = {"Authorization": f"Bearer {KEY}"}
            async with connect(stand_in.cluster.seat("stage", ""), additional_headers=headers, proxy=None) as socket:
                await socket.recv()
                await socket.send(message)
                await socket.wait_closed()
        there = place(stand_in.cluster, echo())
        await there.start(lambda progress: None)
        assert await there.call("echo", 1) == [1]
        await there.stop()
    assert not [child for child in psutil.Process().children() if "pipeline.workers.process" in child.cmdline()]
