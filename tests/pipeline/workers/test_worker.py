"""Real processes, really killed. Nothing here waits for the wall clock but the bounded waits for a process to end."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from config.places import ROOT
from pipeline.engine import EngineError, Progress
from pipeline.workers.place import Wanted, WorkerDied
from pipeline.workers.process import WINDOW
from pipeline.workers.supervision import Heartbeat
from pipeline.workers.worker import BACK_OFF_S, Worker, _Child
from tests.pipeline.workers.worker_engines import Busy

ENGINES = "tests.pipeline.workers.worker_engines"


def engine(name: str, **kwargs: object) -> Wanted:
    return Wanted("echo", f"{ENGINES}:{name}", kwargs)


ECHO = engine("Echo")
TWO_AT_ONCE = replace(ECHO, concurrency=2)


@asynccontextmanager
async def running(wanted: Wanted = ECHO, **options: Any) -> AsyncIterator[Worker]:
    worker = Worker(wanted, **options)
    await worker.start(print)
    try:
        yield worker
    finally:
        await worker.stop()


async def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Poll; the bound only ends a test that has failed."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - a process's end and a file's text send no event
            await asyncio.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


async def test_calls_and_streams() -> None:
    async with running() as worker:
        assert await worker.call("echo", "x", times=2) == ["x", "x"]
        assert [number async for number in worker.stream("count", 100)] == list(range(100))
        assert await worker.call("process") != os.getpid()


async def test_progress_and_status_while_it_loads() -> None:
    seen: list[Progress] = []
    worker = Worker(ECHO)
    assert worker.status.state == "stopped"
    await worker.start(seen.append)
    assert seen == [Progress("loading"), Progress("weights", 0.5), Progress("ready")]
    status = worker.status
    assert (status.engine, status.state, status.restarts, status.last_error) == ("echo", "ready", 0, None)
    assert status.memory_bytes is not None and status.memory_bytes > 5_000_000
    await worker.stop()
    assert worker.status.state == "stopped" and worker.status.memory_bytes is None


async def test_a_reply_of_a_hundred_megabytes() -> None:
    async with running() as worker:
        samples = await worker.call("samples", 25_000_000)
        assert samples.nbytes == 100_000_000
        assert np.array_equal(samples[[0, 1, -1]], np.array([0, 1, 24_999_999], np.float32))
        sent = np.ones(10_000_000, np.float32)
        assert np.array_equal((await worker.call("echo", sent))[0], sent)


async def test_errors_come_back_as_one_sentence() -> None:
    async with running(replace(ECHO, errors=(Busy,))) as worker:
        with pytest.raises(EngineError, match=r"^The voice has a cold: give it honey\.$"):
            await worker.call("refuse")
        with pytest.raises(Busy, match=r"^come back later$"):
            await worker.call("be_busy")
        with pytest.raises(EngineError, match=r"^echo failed \(ZeroDivisionError: secret words\)\.$"):
            await worker.call("fail")
        with pytest.raises(EngineError, match="echo failed"):
            await worker.call("unpicklable")
        with pytest.raises(EngineError, match="AttributeError"):
            await worker.call("no_such_method")
        received = []
        with pytest.raises(Busy, match="half way"):
            async for item in worker.stream("broken_stream"):
                received.append(item)  # noqa: PERF401 - what came before the error counts
        assert received == [1]
        assert await worker.call("echo", 1) == [1], "it goes on"
        assert worker.status.restarts == 0


async def test_what_an_unexpected_error_said_stays_out_of_the_log(capfd: pytest.CaptureFixture[str]) -> None:
    async with running() as worker:
        with pytest.raises(EngineError):
            await worker.call("fail")
    log = capfd.readouterr().err
    assert "ZeroDivisionError" in log and "worker_engines.py" in log
    assert "secret" not in log


async def test_killed_in_the_middle_of_a_call() -> None:
    async with running(TWO_AT_ONCE) as worker:
        pid = await worker.call("process")
        waiting = asyncio.create_task(worker.call("wait"))
        await worker.call("echo", "the call before has been sent")
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(WorkerDied, match=r"echo stopped unexpectedly \(SIGKILL\) and is being restarted\."):
            await waiting
        with pytest.raises(EngineError):
            await worker.call("echo", 1)
        await worker.ready()
        assert await worker.call("process") != pid
        assert worker.status.restarts == 1
        assert "SIGKILL" in (worker.status.last_error or "")


@pytest.mark.parametrize("hang", ["stopped", "keeps Python's lock"])
async def test_a_hung_process_is_replaced(hang: str, tmp_path: Path) -> None:
    sign = tmp_path / "sign"
    async with running(TWO_AT_ONCE, heartbeat=Heartbeat(every_s=0.02, hung_s=0.3)) as worker:
        pid = worker_pid(worker)
        if hang == "stopped":
            waiting = asyncio.create_task(worker.call("wait", str(sign)))
            await until(sign.exists)
            os.kill(pid, signal.SIGSTOP)
        else:
            waiting = asyncio.create_task(worker.call("hold_everything", str(sign)))
        with pytest.raises(WorkerDied, match=r"^echo no longer answered and is being restarted\.$"):
            await waiting
        await worker.ready()
        assert worker_pid(worker) != pid and not alive(pid)
        assert worker.status.restarts == 1 and "no longer answered" in (worker.status.last_error or "")


async def test_killed_in_the_middle_of_a_stream() -> None:
    async with running() as worker:
        pid = await worker.call("process")
        received = 0
        with pytest.raises(WorkerDied):
            async for _ in worker.stream("count", 1_000_000):
                received += 1
                if received == 3:
                    os.kill(pid, signal.SIGKILL)
        assert 3 <= received <= 3 + WINDOW
        await worker.ready()
        assert [number async for number in worker.stream("count", 3)] == [0, 1, 2]


async def test_a_stream_is_closed_in_the_engine_when_its_listener_leaves(tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    async with running(engine("Echo", diary=str(diary))) as worker:
        async with aclosing(worker.stream("count", 1_000_000)) as numbers:
            async for number in numbers:
                if number == 5:
                    break
        assert await worker.call("echo", "free again") == ["free again"]
        last = int(diary.read_text().split()[-1])
        assert last <= 5 + WINDOW + 1, "an engine does not run ahead of its listener for ever"
    assert diary.read_text().splitlines()[-1] == "closed", "close() is called at the end"


async def test_an_engine_waits_for_a_slow_listener(tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    async with running(replace(TWO_AT_ONCE, kwargs={"diary": str(diary)})) as worker:
        numbers = worker.stream("count", 1_000_000)
        assert await anext(numbers) == 0
        for _ in range(50):
            await worker.call("echo", "time passes")
        await numbers.aclose()
        await until(lambda: diary.exists() and diary.read_text().endswith("\n"))
        assert int(diary.read_text().split()[-1]) <= WINDOW + 1


async def test_a_cancelled_call_that_has_not_begun_never_will(tmp_path: Path) -> None:
    diary, key = tmp_path / "diary", tmp_path / "key"
    async with running(engine("Echo", diary=str(diary))) as worker:
        first, unwanted, wanted = (
            asyncio.create_task(worker.call(method, text))
            for method, text in (("hold", str(key)), ("note", "unwanted"), ("note", "wanted"))
        )
        await asyncio.sleep(0)
        unwanted.cancel()
        await asyncio.wait([unwanted])
        key.touch()
        await asyncio.gather(first, wanted)
        assert diary.read_text() == "wanted\n"


def worker_pid(worker: Worker) -> int:
    assert worker._child is not None
    return worker._child.process.pid


async def test_concurrency_is_what_was_asked_for() -> None:
    async with running(TWO_AT_ONCE) as worker:
        waiting = asyncio.create_task(worker.call("wait"))
        await worker.call("open")
        assert await waiting == "opened"
    async with running() as worker:
        assert len({await worker.call("thread") for _ in range(5)}) == 1


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("Hungry", r"^The model needs 40 GB of memory: choose a smaller one\.$"),
        ("NeedsPackage", r"^echo cannot be loaded \(No module named 'a_package.*run `python3 setup\.py`"),
        ("Crash", r"^echo cannot be loaded: its process ended \(exit code 3\)\.$"),
        ("Missing", r"^echo cannot be loaded \(AttributeError"),
    ],
)
async def test_an_engine_that_cannot_be_loaded_says_so_once(name: str, sentence: str) -> None:
    others = psutil.Process().children()
    worker = Worker(engine(name))
    with pytest.raises(EngineError, match=sentence):
        await worker.start(print)
    assert worker.status.state == "failed" and worker.status.last_error
    with pytest.raises(EngineError, match=sentence):
        await worker.call("echo", 1)
    assert set(psutil.Process().children()) <= set(others)
    await worker.stop()


async def test_stopped_while_loading() -> None:
    loading = asyncio.Event()
    worker = Worker(engine("Slow"))
    pids: list[int] = []

    def report(progress: Progress) -> None:
        if progress.what.isdigit():
            pids.append(int(progress.what))
            loading.set()

    start = asyncio.create_task(worker.start(report))
    await loading.wait()
    with pytest.raises(EngineError, match="not ready"):
        await worker.call("echo", 1)
    await worker.stop()
    with pytest.raises(EngineError, match="stopped while it was loading"):
        await start
    assert worker.status.state == "stopped"
    assert not alive(pids[0])


async def test_one_that_hangs_while_loading_cannot_be_loaded() -> None:
    others = psutil.Process().children()
    worker = Worker(engine("Slow"), heartbeat=Heartbeat(every_s=0.02, hung_s=0.05))

    def stop(progress: Progress) -> None:
        if progress.what.isdigit():
            os.kill(int(progress.what), signal.SIGSTOP)

    with pytest.raises(EngineError, match=r"its process ended \(it no longer answered\)\.$"):
        await worker.start(stop)
    assert worker.status.state == "failed" and set(psutil.Process().children()) <= set(others)


async def test_a_start_that_is_cancelled_leaves_no_process() -> None:
    others = psutil.Process().children()
    loading = asyncio.Event()
    worker = Worker(engine("Slow"))
    start = asyncio.create_task(worker.start(lambda progress: loading.set() if progress.what.isdigit() else None))
    await loading.wait()
    start.cancel()
    await asyncio.wait([start])
    assert worker.status.state == "stopped"
    assert set(psutil.Process().children()) <= set(others)


async def test_stop_and_start_again() -> None:
    others = psutil.Process().children()
    worker = Worker(ECHO)
    await worker.stop()
    for _ in range(2):
        await worker.start(print)
        assert await worker.call("echo", 1) == [1]
        await worker.stop()
        await worker.stop()
        with pytest.raises(EngineError, match="not running"):
            await worker.call("echo", 1)
    assert set(psutil.Process().children()) <= set(others)


async def test_stop_in_the_middle_of_a_call_ends_it() -> None:
    async with running() as worker:
        waiting = asyncio.create_task(worker.call("wait"))
        await asyncio.sleep(0)
        pid = worker_pid(worker)
    with pytest.raises(EngineError):
        await waiting
    assert not alive(pid)


class Time:
    """A clock that only sleeping moves on."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)

    def clock(self) -> float:
        return self.now


async def die(worker: Worker) -> None:
    with pytest.raises(WorkerDied):
        await worker.call("exit", 1)
    await worker.ready()


async def test_restarts_wait_longer_each_time_and_forget_after_a_sound_minute() -> None:
    time = Time()
    async with running(sleep=time.sleep, clock=time.clock) as worker:
        for _ in range(4):
            await die(worker)
        assert time.slept == list(BACK_OFF_S[:4])
        time.now += 61
        await die(worker)
        assert time.slept[4:] == [0.0]
        assert worker.status.restarts == 5


@pytest.mark.parametrize("error", [BlockingIOError(errno.EAGAIN, "no more processes"), RuntimeError("no threads")])
async def test_a_process_that_cannot_be_started_is_told_of_and_tried_again(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    spawn, refused = _Child.spawn, list[str]()

    async def refuses(engine: str) -> _Child:
        refused.append(engine)
        raise error

    async def sleep(seconds: float) -> None:
        if refused:
            monkeypatch.setattr(_Child, "spawn", spawn)

    monkeypatch.setattr(_Child, "spawn", refuses)
    worker = Worker(ECHO)
    async with asyncio.timeout(60):
        with pytest.raises(EngineError, match=r"cannot be loaded: no process can be started \(.*\)\.$"):
            await worker.start(print)
    assert worker.status.state == "failed"
    monkeypatch.setattr(_Child, "spawn", spawn)
    refused.clear()
    async with running(sleep=sleep) as worker, asyncio.timeout(60):
        monkeypatch.setattr(_Child, "spawn", refuses)
        os.kill(await worker.call("process"), signal.SIGKILL)
        await until(lambda: worker.status.restarts == 2 and worker.status.state == "ready")
        assert refused == ["echo"]
        assert await worker.call("echo", "x", times=1) == ["x"]


async def test_a_restart_that_fails_is_tried_again(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    tried = asyncio.Event()
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            assert worker.status.state == "failed"
            assert worker.status.last_error == "The model's file is in use."
            marker.unlink()
            tried.set()

    async with running(engine("OnlyOnce", marker=str(marker)), sleep=sleep) as worker:
        with pytest.raises(WorkerDied):
            await worker.call("exit")
        await tried.wait()
        await until(lambda: worker.status.state == "ready")
        assert slept == list(BACK_OFF_S[:3])


PARENT = """
import asyncio, sys
from pipeline.workers.place import Wanted
from pipeline.workers.worker import Worker

async def main():
    worker = Worker(Wanted("echo", "tests.pipeline.workers.worker_engines:" + sys.argv[1]))
    await worker.start(lambda progress: print(progress.what, flush=True) if progress.what.isdigit() else None)
    print(await worker.call("process"), flush=True)
    await worker.call(*sys.argv[2:])

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("Echo", "wait"),
        ("Slow", "wait"),
        pytest.param("Echo", "hold_everything", marks=pytest.mark.skipif(sys.platform != "linux", reason="prctl")),
    ],
)
async def test_a_killed_parent_takes_its_child_along(name: str, method: str, tmp_path: Path) -> None:
    """While the child waits inside a call, while it is loading, and while nothing in it can read the pipe."""
    sign = tmp_path / "sign"
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PARENT, name, method, str(sign)),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert parent.stdout is not None and parent.stderr is not None
    line = await parent.stdout.readline()
    assert line, f"the parent could not start its child: {(await parent.stderr.read()).decode()}"
    pid = int(line)
    await until(lambda: name == "Slow" or sign.exists())
    assert alive(pid)
    parent.kill()
    await parent.wait()
    await until(lambda: not alive(pid))


async def test_the_end_of_the_pipe_alone_ends_the_child() -> None:
    """What holds on systems without prctl."""
    async with running() as worker:
        process = psutil.Process(worker_pid(worker))
        waiting = asyncio.create_task(worker.call("wait"))
        await asyncio.sleep(0)
        assert worker._child is not None
        worker._child._stdin.close()
        await asyncio.to_thread(psutil.wait_procs, [process], 10)
        assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
        with pytest.raises(WorkerDied):
            await waiting


async def test_ctrl_c_in_the_terminal_reaches_the_parent_alone() -> None:
    async with running() as worker:
        assert os.getpgid(worker_pid(worker)) != os.getpgid(0)


async def test_many_at_once() -> None:
    async with running(replace(ECHO, concurrency=4)) as worker:
        calls: list[Awaitable[Any]] = [worker.call("echo", number) for number in range(200)]
        assert await asyncio.gather(*calls) == [[number] for number in range(200)]
