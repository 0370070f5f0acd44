"""Connects to a deployment of Ray Serve: by a WebSocket through its cluster's proxy to one of its replicas.

A socket belongs to one talker or one request and stays with its replica. line.py defines the messages on it, wire.py
their encoding.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any
from urllib.parse import urlencode, urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI

from pipeline.cleanup import until_one_ends
from pipeline.engine import EngineError
from pipeline.workers.line import Line
from pipeline.workers.place import Wanted, WorkerDied
from pipeline.workers.wire import LARGEST, PROTOCOL, Wire, WireError

OPEN_S = 8.0
"""Time limit for finding a replica: the router waits for one that is free or being started."""

AGAIN_S = (0.05, 0.1, 0.2, 0.4)
"""Waits before asking for another replica when the router chose one that is shutting down; the last one repeats."""

PING_S, SILENT_S = 1.0, 5.0
"""Interval between pings, and the silence after which a connection counts as dead."""


@dataclass(frozen=True, slots=True)
class Cluster:
    url: str
    """The address of its proxy, http or https."""
    key: str = field(repr=False)

    def __str__(self) -> str:
        return urlsplit(self.url).netloc

    def seat(self, stage: str, farewell: str) -> str:
        """Return the address of a talker's socket."""
        query = f"?{urlencode({'farewell': farewell})}" if farewell else ""
        return f"ws{self.url.removeprefix('http').rstrip('/')}/{stage}/seat{query}"


class NoReplica(EngineError):
    """The cluster is reachable, but has no free replica."""


class Socket(Line):
    """A connection to one replica, until either side ends it."""

    def __init__(self, connection: ClientConnection, engine: str, wire: Wire) -> None:
        super().__init__()
        self._connection = connection
        self._engine = engine
        self._wire = wire
        self._outgoing: asyncio.Queue[bytes] = asyncio.Queue()
        self._ended = False
        self._gone = asyncio.create_task(self._carry())

    @property
    def ended(self) -> bool:
        return self._ended

    def death(self) -> WorkerDied:
        return WorkerDied(f"{self._engine} in the cluster disappeared while it was working.")

    def write(self, kind: str, number: int, *details: object) -> None:
        self._outgoing.put_nowait(self._wire.encoded((kind, number, *details)))

    async def written(self) -> None:
        """Return at once: callers wait for an answer before they ask more, so little is ever unsent."""

    async def close(self) -> None:
        self._gone.cancel()
        await asyncio.wait([self._gone])

    async def _carry(self) -> None:
        try:
            with suppress(ConnectionClosed, WireError):
                await until_one_ends(self._send(), self._listen())
        finally:
            self._ended = True
            self.end()
            await self._connection.close()

    async def _send(self) -> None:
        while True:
            await self._connection.send(await self._outgoing.get())

    async def _listen(self) -> None:
        async for message in self._connection:
            self.take(*self._wire.decoded(_bytes(message)))


class Deployment:
    def __init__(self, cluster: Cluster, stage: str, wanted: Wanted, open_s: float = OPEN_S) -> None:
        self.cluster = cluster
        self._stage = stage
        self._wanted = wanted
        self._wire = Wire(wanted.kinds)
        self._open_s = open_s
        self._closing: set[asyncio.Task[None]] = set()

    async def closed(self) -> None:
        """Wait until connections that were let go have closed."""
        await asyncio.gather(*self._closing, return_exceptions=True)

    def let_go(self, socket: Socket) -> None:
        """Close a connection without waiting for the closing handshake."""
        self._close(socket.close())

    async def open(self, farewell: str = "") -> Socket:
        """Connect to the replica that the cluster's router chooses.

        Raises:
            NoReplica: no replica is free.
            EngineError: the cluster is unreachable, refuses the key, or runs something else.
        """
        pauses = iter(AGAIN_S)
        with self._in_sentences():
            async with asyncio.timeout(self._open_s):
                while True:
                    try:
                        return await self._connected(farewell)
                    except InvalidStatus as error:
                        if error.response.status_code < 500:
                            raise
                    except (ConnectionClosed, InvalidHandshake):
                        pass  # the router chose a replica that is shutting down, or the proxy is
                    await asyncio.sleep(next(pauses, AGAIN_S[-1]))

    async def _connected(self, farewell: str) -> Socket:
        connection = await connect(
            self.cluster.seat(self._stage, farewell),
            additional_headers={"Authorization": f"Bearer {self.cluster.key}"},
            compression=None,  # raw sound hardly shrinks, and compressing takes longer than sending
            max_size=LARGEST,
            open_timeout=None,
            close_timeout=1,
            ping_interval=PING_S,
            ping_timeout=SILENT_S,
            proxy=None,
        )
        try:
            self._compare(self._wire.decoded(_bytes(await connection.recv())))
        except BaseException:
            self._close(connection.close())
            raise
        return Socket(connection, self._wanted.engine, self._wire)

    def _compare(self, about: Mapping[str, Any]) -> None:
        """Compare what is deployed with what is wanted. Raises EngineError if they differ."""
        where = f"the cluster at {self.cluster}"
        if about["protocol"] != PROTOCOL:
            raise EngineError(
                f"Another version of Parley runs on {where} (protocol {about['protocol']} there, {PROTOCOL} here): "
                "deploy this version there, or update this one."
            )
        if about["target"] != self._wanted.target:
            raise EngineError(
                f"{where} runs {about['engine']}, but the settings ask for {self._wanted.engine}: choose "
                f"{about['engine']}, or deploy {self._wanted.engine} there."
            )
        for name, ours in self._wanted.kwargs.items():
            theirs = about["settings"].get(name)
            if not _agree(ours, theirs):
                raise EngineError(
                    f"{self._wanted.engine} was deployed in {where} with {name} {theirs!r}, and here it is {ours!r}: "
                    "make them the same, and deploy it again if it was changed there."
                )

    @contextmanager
    def _in_sentences(self) -> Iterator[None]:
        """Turn connection errors into EngineError with a sentence for the user."""
        where, engine = f"The cluster at {self.cluster}", self._wanted.engine
        try:
            yield
        except TimeoutError as error:
            raise NoReplica(
                f"{where} has no free replica of {engine}: wait a moment, deploy it there, or add replicas "
                "(docs/SCALING.md)."
            ) from error
        except InvalidStatus as error:
            code = error.response.status_code
            if code in (401, 403):
                raise EngineError(f"{where} refuses the key: set the one that {engine} was deployed with.") from error
            raise EngineError(
                f"{where} answers with status {code}: is this the address of Ray Serve’s proxy?"
            ) from error
        except (InvalidURI, ValueError, KeyError, TypeError) as error:
            raise EngineError(f"{where} does not answer as Parley’s engines do: check its address.") from error
        except OSError as error:
            why = error.strerror or str(error) or type(error).__name__
            raise EngineError(
                f"{where} cannot be reached ({why}): start it, or choose to run the engine here."
            ) from error

    def _close(self, closing: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(closing)
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


def _bytes(message: str | bytes) -> bytes:
    if isinstance(message, str):
        raise WireError("A message is text.")
    return message


def _agree(ours: object, theirs: object) -> bool:
    """Whether both sides have the same setting. None matches anything; of absolute paths only the last part counts."""
    if ours is None or theirs is None:
        return True
    if isinstance(ours, list | tuple) and isinstance(theirs, list | tuple):
        return len(ours) == len(theirs) and all(map(_agree, ours, theirs))
    if isinstance(ours, str) and isinstance(theirs, str) and PurePath(ours).is_absolute():
        return PurePath(ours).name == PurePath(theirs).name
    return ours == theirs
