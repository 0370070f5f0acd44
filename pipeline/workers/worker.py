"""An engine in a process of its own, as a Place: it never blocks the event loop, and its crash does not crash Parley.

    worker = Worker(Wanted("espeak", "pipeline.tts.espeak:Synthesizer", {"voice": "en-gb"}))
    await worker.start(report)
    async for block in worker.stream("speak", "Hello."): ...

If the process dies, or hangs and is killed, the calls in progress raise WorkerDied and a new process is started, at
once the first time and then after ever longer waits. Its state is lost: an engine that keeps state between calls tells
its callers so.
The other end of the pipe is pipeline/workers/process.py.
"""

from __future__ import annotations

import asyncio
import math
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from dataclasses import replace
from itertools import count
from typing import Any

from config.hardware import resident
from config.places import ROOT
from pipeline.engine import EngineError, EngineState, EngineStatus, Report
from pipeline.workers.line import Asking, KnownErrors, Line, Raised
from pipeline.workers.place import NumberedSeat, Wanted, WorkerDied
from pipeline.workers.process import HEADER
from pipeline.workers.standing import Standing
from pipeline.workers.supervision import Heartbeat, Supervision, tied_command

BACK_OFF_S = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""Waits before consecutive restarts; the last one repeats."""

_GRACE_S = 3.0
"""How long a process may take to end by itself when it is stopped."""

HEARTBEAT = Heartbeat()
LOADING = 12
"""How many times as long a process may be silent without computing while it loads."""

_KILL = getattr(signal, "SIGKILL", signal.SIGTERM)

_NOBODY = -1
"""The number of requests whose answer nobody waits for."""

_LARGE = 1 << 20
"""Bytes from which a reply is unpickled in another thread than the event loop's."""


class _Child(Line):
    """One process from start to end, and its unanswered requests."""

    def __init__(self, process: asyncio.subprocess.Process, engine: str) -> None:
        super().__init__()
        assert process.stdin is not None and process.stdout is not None
        self.process = process
        self._engine = engine
        self._stdin, self._stdout = process.stdin, process.stdout
        self._heard = False
        self._hung = False
        self.gone = asyncio.create_task(self._listen())

    @classmethod
    async def spawn(cls, engine: str) -> _Child:
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        process = await asyncio.create_subprocess_exec(
            # the engine's name is only for people (ps, top) and programs that look at the list of processes
            *tied_command(sys.executable, os.getpid(), _KILL, "pipeline.workers.process", engine),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
            limit=_LARGE,
            start_new_session=True,  # Ctrl-C is for the parent, which then stops its workers
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
        return cls(process, engine)

    @property
    def ended(self) -> bool:
        return self.gone.done()

    @property
    def how(self) -> str:
        """Return how the process ended; call this only after it has."""
        if self._hung:
            return "it no longer answered"
        code = self.process.returncode
        return signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"

    def death(self) -> WorkerDied:
        if self._hung:
            return WorkerDied(f"{self._engine} no longer answered and is being restarted.")
        return WorkerDied(f"{self._engine} stopped unexpectedly ({self.how}) and is being restarted.")

    async def watch(self, heartbeat: Heartbeat) -> None:
        """Kill the process as soon as it hangs."""
        await heartbeat.lacks(self.process.pid, self._ask, self._answered)
        self._hung = True
        self._kill()

    def _ask(self) -> None:
        self._heard = False
        self.write("ping", _NOBODY)

    def _answered(self) -> bool:
        return self._heard

    async def stop(self, grace: float) -> None:
        """Close its input, which makes it end; kill it after `grace` seconds."""
        self._stdin.close()
        await asyncio.wait([self.gone], timeout=grace)
        self._kill()
        await asyncio.wait([self.gone])

    def _kill(self) -> None:
        if self.process.returncode is None:
            with suppress(ProcessLookupError):
                self.process.kill()

    def write(self, kind: str, number: int, *details: object) -> None:
        body = pickle.dumps((kind, number, *details), protocol=pickle.HIGHEST_PROTOCOL)
        if not self._stdin.is_closing():
            self._stdin.writelines((HEADER.pack(len(body)), body))

    async def written(self) -> None:
        with suppress(ConnectionError):  # it has died; _listen tells everyone who waits
            await self._stdin.drain()

    async def _listen(self) -> None:
        """Pass each reply to its request until the process ends; then fail the remaining ones."""
        try:
            while True:
                (length,) = HEADER.unpack(await self._stdout.readexactly(HEADER.size))
                body = await self._stdout.readexactly(length)
                message = pickle.loads(body) if length < _LARGE else await asyncio.to_thread(pickle.loads, body)
                self._heard = True
                self.take(*message)
        except asyncio.IncompleteReadError:
            pass  # it is about to end; killing it now would hide its exit status from asyncio
        except BaseException:
            self._kill()
            raise
        finally:
            await self.process.wait()
            self._stdin.close()
            self.end()


class Worker(Asking):
    elastic = False

    def __init__(
        self,
        wanted: Wanted,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
        heartbeat: Heartbeat = HEARTBEAT,
    ) -> None:
        """Args: sleep, clock: in seconds, for the waits between restarts.

        `kinds` are not needed, because pickle accepts any class. While it loads, the process has more time: a library
        read from a slow disk holds the GIL for long.
        """
        self._engine = wanted.engine
        self._wanted = wanted
        self._errors = KnownErrors(wanted.engine, wanted.errors)
        self._seats = count()
        self._supervision = Supervision(BACK_OFF_S, sleep=sleep, clock=clock)
        self._heartbeat = heartbeat
        self._heartbeat_loading = replace(heartbeat, hung_s=LOADING * heartbeat.hung_s, lost_s=math.inf)
        self._standing = Standing(wanted.engine)
        self._turn = self._standing.turn
        self._child: _Child | None = None
        self._life: asyncio.Task[None] | None = None

    @property
    def status(self) -> EngineStatus:
        return EngineStatus(
            self._engine,
            self._now,
            self._standing.last_error,
            self._standing.progress,
            self._memory_bytes(),
            self._supervision.restarts,
        )

    async def start(self, report: Report) -> None:
        """Start the process and load the engine. `report` is kept and also called at every later change of state.

        Raises:
            EngineError: it could not be loaded, in one sentence. There is no retry until the next start().
        """
        if self._life is not None:
            raise EngineError(f"{self._engine} has already been started.")
        self._standing.report = report
        loaded: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._turn("loading")
        self._life = asyncio.create_task(self._live(loaded))
        try:
            await loaded
        except EngineError as error:
            if self._life is not None:  # otherwise stop() was the reason
                self._life = None
                self._turn("failed", error=str(error))
            raise
        except asyncio.CancelledError:
            await self.stop()
            raise

    async def stop(self) -> None:
        """End the process, even while it is loading. Safe to call twice, and without start."""
        life, self._life = self._life, None
        if life is not None:
            life.cancel()
            await asyncio.wait([life])
        self._turn("stopped")

    async def ready(self) -> None:
        """Wait for a restart to finish. Raises EngineError if there is nothing to wait for."""
        await self._standing.loaded(lambda: self._now)
        self._alive()

    def seat(self, farewell: str) -> NumberedSeat:
        return NumberedSeat(self, next(self._seats), farewell)

    async def change(self, **kwargs: object) -> None:
        """Call the engine's `become`; a restart also uses these arguments. Raises as call() does."""
        await self.call("become", **kwargs)
        self._wanted = replace(self._wanted, kwargs={**self._wanted.kwargs, **kwargs})

    async def replies(self, *request: Any) -> AsyncGenerator[tuple[str, Any], None]:
        async with aclosing(self._alive().request(*request)) as replies:
            try:
                async for reply in replies:
                    yield reply
            except Raised as raised:
                raise self._errors.translated(raised, "failed") from None

    @property
    def _now(self) -> EngineState:
        """The state, correct even if the process has just died and _live has not been told yet."""
        dead = self._child is not None and self._child.gone.done()
        return "loading" if self._standing.state == "ready" and dead else self._standing.state

    def _alive(self) -> _Child:
        now = self._now
        if now != "ready" or self._child is None:
            raise self._standing.refusal(now)
        return self._child

    def _memory_bytes(self) -> int | None:
        if self._child is None or self._child.gone.done():
            return None
        return resident(self._child.process.pid)

    async def _live(self, loaded: asyncio.Future[None]) -> None:
        """Keep a process running until cancelled, or until the very first one fails to load."""
        try:
            try:
                await self._load_child()
            except EngineError as error:
                loaded.set_exception(error)
                return
            loaded.set_result(None)
            self._turn("ready")
            await self._supervision.keep(
                self._death, self._relaunch, lambda error: self._turn("failed", error=str(error))
            )
        except asyncio.CancelledError:
            if not loaded.done():
                loaded.set_exception(EngineError(f"{self._engine} was stopped while it was loading."))
            raise
        finally:
            if self._child is not None:
                await self._child.stop(_GRACE_S if self._standing.state == "ready" else 0.0)

    async def _death(self) -> None:
        assert self._child is not None
        child, watching = self._child, asyncio.create_task(self._child.watch(self._heartbeat))
        try:
            await asyncio.wait([child.gone])
        finally:
            watching.cancel()
        self._turn("loading", error=str(child.death()))

    async def _relaunch(self) -> None:
        self._turn("loading")
        await self._load_child()
        self._turn("ready")

    async def _load_child(self) -> None:
        try:
            self._child = child = await _Child.spawn(self._engine)
        except (OSError, RuntimeError) as error:  # too little memory, or too many processes, threads or open files
            raise EngineError(f"{self._engine} cannot be loaded: no process can be started ({error}).") from error
        watching = asyncio.create_task(child.watch(self._heartbeat_loading))
        try:
            wanted = self._wanted
            making = child.request("load", wanted.target, dict(wanted.kwargs), wanted.concurrency)
            async with aclosing(making) as replies:
                async for kind, progress in replies:
                    if kind == "item":
                        self._turn("loading", progress=progress)
        except WorkerDied:
            raise EngineError(f"{self._engine} cannot be loaded: its process ended ({child.how}).") from None
        except Raised as raised:
            await child.stop(0.0)
            raise self._errors.translated(raised, "cannot be loaded") from None
        finally:
            watching.cancel()
