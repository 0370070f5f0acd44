"""A cluster in this process: replicas as Ray Serve would have them, behind a server that hands out sockets in turn."""

from __future__ import annotations

import asyncio
import socket as sockets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import uvicorn
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from pipeline.workers.deployment import Cluster
from pipeline.workers.place import Wanted
from pipeline.workers.replica import Replica

KEY = "the key"


@dataclass
class StandIn:
    replicas: Mapping[str, Sequence[Replica]]
    cluster: Cluster
    open: list[tuple[Replica, WebSocket]] = field(default_factory=list)
    routed: list[Replica] = field(default_factory=list)
    """By whom each socket was served, in their order."""
    free: asyncio.Event = field(default_factory=asyncio.Event)
    """While it is not set, those who come wait."""

    def __post_init__(self) -> None:
        self.free.set()

    async def kill(self, replica: Replica) -> None:
        """As the death of its process looks to those who use it."""
        for each, socket in self.open:
            if each is replica:
                await socket.close(1011)

    async def seat(self, socket: WebSocket) -> None:
        await self.free.wait()
        replicas = self.replicas[socket.path_params["stage"]]
        replica = replicas[len(self.routed) % len(replicas)]
        self.routed.append(replica)
        self.open.append((replica, socket))
        try:
            await replica.serve(socket)
        finally:
            self.open.remove((replica, socket))


class _Server(uvicorn.Server):
    def __init__(self, app: Starlette, port: int) -> None:
        super().__init__(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
        self.listener = sockets.create_server(("127.0.0.1", port))
        self.begun = asyncio.Event()

    async def startup(self, sockets: list[sockets.socket] | None = None) -> None:
        await super().startup(sockets)
        self.begun.set()


@asynccontextmanager
async def listening(stand_in: StandIn) -> AsyncIterator[None]:
    """It answers at its address until the block ends."""
    app = Starlette(routes=[WebSocketRoute("/{stage}/seat", stand_in.seat)])
    server = _Server(app, int(stand_in.cluster.url.rpartition(":")[2]))
    running = asyncio.create_task(server._serve([server.listener]))  # serve() would take over pytest's signals
    await server.begun.wait()
    try:
        yield
    finally:
        server.should_exit = True
        await running
        server.listener.close()


@asynccontextmanager
async def standing_in(stages: Mapping[str, Wanted], each: int = 1, key: str = KEY) -> AsyncIterator[StandIn]:
    """Replicas of the engines of some stages, loaded; not listening yet."""
    with sockets.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    replicas = {stage: [Replica(wanted, key) for _ in range(each)] for stage, wanted in stages.items()}
    all_of_them = [replica for some in replicas.values() for replica in some]
    try:
        await asyncio.gather(*(replica.start() for replica in all_of_them))
        yield StandIn(replicas, Cluster(f"http://127.0.0.1:{port}", key))
    finally:
        await asyncio.gather(*(replica.stop() for replica in all_of_them))
