"""An engine in a cluster, as a Place: a deployment of Ray Serve (deploy/ray_serve.py), reached through its proxy.

The connection is a WebSocket that carries data (wire.py), so this side needs neither Ray nor the same Python version.
Each request has its own socket, and so does each talker whom the engine remembers, so that the cluster's router sees
the true load and a talker stays with one replica (docs/SCALING.md).

If a replica dies, its users get WorkerDied, and the next request goes to another one. If the whole cluster is
unreachable, the status says so, and it is tried again and again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from typing import Any

from pipeline.engine import EngineError, EngineStatus, Progress, Report
from pipeline.workers.deployment import OPEN_S, Cluster, Deployment, NoReplica, Socket
from pipeline.workers.line import Asking, KnownErrors, Raised
from pipeline.workers.place import Wanted, WorkerDied
from pipeline.workers.standing import Standing
from pipeline.workers.supervision import Supervision
from pipeline.workers.wire import WireError

BACK_OFF_S = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Waits between attempts to reach a missing cluster; the last one repeats."""

LOOK_S = 10.0
"""Seconds between checks of whether the cluster is there while nothing is asked of it."""


class RayPlace(Asking):
    elastic = True

    def __init__(
        self,
        wanted: Wanted,
        *,
        cluster: Cluster,
        stage: str,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        open_s: float = OPEN_S,
        look_s: float = LOOK_S,
    ) -> None:
        """
        Args:
            wanted: the engine must be deployed with the same values, except `concurrency`, which is set there.
            cluster, stage: where it is, and its name there.
            sleep: for the waits between attempts to reach a missing cluster.
            open_s: time limit for finding a free replica.
            look_s: interval of the regular checks of whether the cluster is there.
        """
        self._engine = wanted.engine
        self._errors = KnownErrors(wanted.engine, wanted.errors)
        self._deployment = Deployment(cluster, stage, wanted, open_s)
        self._look_s = look_s
        self._supervision = Supervision(BACK_OFF_S, sleep=sleep)
        self._standing = Standing(wanted.engine)
        self._turn = self._standing.turn
        self._doubted = asyncio.Event()
        """Set when there is a reason to check whether the cluster is there."""
        self._life: asyncio.Task[None] | None = None

    @property
    def status(self) -> EngineStatus:
        standing = self._standing
        return EngineStatus(self._engine, standing.state, standing.last_error, restarts=self._supervision.restarts)

    async def start(self, report: Report) -> None:
        """Find the engine in the cluster. Raises EngineError in one sentence, with no retry until the next start()."""
        if self._life is not None:
            raise EngineError(f"{self._engine} has already been started.")
        self._standing.report = report
        self._turn("loading")
        report(Progress(f"asking the cluster at {self._deployment.cluster} for {self._engine}"))
        try:
            await self._look()
        except BaseException as error:
            if isinstance(error, EngineError):
                self._turn("failed", error=str(error))
            else:
                self._turn("stopped")
            raise
        self._turn("ready")
        self._life = asyncio.create_task(
            self._supervision.keep(self._away, self._back, lambda error: self._turn("failed", error=str(error)))
        )

    async def stop(self) -> None:
        life, self._life = self._life, None
        if life is not None:
            life.cancel()
            await asyncio.wait([life])
        await self._deployment.closed()
        self._turn("stopped")

    async def ready(self) -> None:
        """Wait while the cluster is searched for. Raises EngineError while it is unreachable."""
        await self._standing.loaded(lambda: self._standing.state)
        self._alive()

    def seat(self, farewell: str) -> RaySeat:
        return RaySeat(self, farewell)

    async def replies(self, *request: Any) -> AsyncGenerator[tuple[str, Any], None]:
        socket = await self.open()
        try:
            async with aclosing(self.asked(socket, *request)) as replies:
                async for reply in replies:
                    yield reply
        finally:
            self.let_go(socket)

    async def asked(self, socket: Socket, *request: Any) -> AsyncGenerator[tuple[str, Any], None]:
        """Line.request, but with the engine's own exceptions."""
        async with aclosing(socket.request(*request)) as replies:
            try:
                async for reply in replies:
                    yield reply
            except Raised as raised:
                raise self._errors.translated(raised, "failed") from None
            except WireError as error:
                raise EngineError(f"{self._engine} in the cluster cannot do that: {error}") from error
            except WorkerDied:
                self._doubted.set()
                raise

    async def open(self, farewell: str = "") -> Socket:
        """Open a socket to the replica that the cluster's router chooses.

        Raises:
            EngineError: the cluster is unreachable, has no such engine, or no free replica of it.
        """
        self._alive()
        try:
            return await self._deployment.open(farewell)
        except NoReplica:
            raise
        except EngineError:
            self._doubted.set()
            raise

    def let_go(self, socket: Socket) -> None:
        self._deployment.let_go(socket)

    async def _look(self) -> None:
        """Check whether the cluster is there. Raises EngineError if not."""
        self.let_go(await self._deployment.open())

    async def _away(self) -> None:
        """Wait until the cluster has become unreachable."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._look_s):
                    await self._doubted.wait()
            self._doubted.clear()
            try:
                await self._look()
            except NoReplica as error:  # the cluster is there, but all replicas are busy
                self._standing.last_error = str(error)
            except EngineError as error:
                self._turn("loading", error=str(error))
                return

    async def _back(self) -> None:
        self._turn("loading")
        await self._look()
        self._turn("ready")

    def _alive(self) -> None:
        if self._standing.state != "ready":
            raise self._standing.refusal(self._standing.state)


class RaySeat(Asking):
    """One talker's seat at one replica; if that dies, the next request goes to another one."""

    def __init__(self, place: RayPlace, farewell: str) -> None:
        self._place = place
        self._farewell = farewell
        self._socket: Socket | None = None
        self._opening = asyncio.Lock()

    async def ready(self) -> None:
        await self._place.ready()

    async def leave(self) -> None:
        """Close the socket, upon which the replica makes the engine forget the talker."""
        socket, self._socket = self._socket, None
        if socket is not None:
            self._place.let_go(socket)

    async def replies(self, *request: Any) -> AsyncGenerator[tuple[str, Any], None]:
        async with self._opening:
            if self._socket is None or self._socket.ended:
                self._socket = await self._place.open(self._farewell)
            socket = self._socket
        async with aclosing(self._place.asked(socket, *request)) as replies:
            async for reply in replies:
                yield reply
