"""A deployment of Ray Serve as it is reached: by a WebSocket through the proxy of its cluster, to one of its replicas.

A socket is one talker's, or one request's, and stays at its replica; line.py says what goes over it, wire.py how.
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
"""How long a replica may take to be found: the router waits for one that is free, or that is being started."""

AGAIN_S = (0.05, 0.1, 0.2, 0.4)
"""Waits before another replica is asked for, where the router chose one that is going; the last one repeats."""

PING_S, SILENT_S = 1.0, 5.0
"""A sign of life is asked for so often; without one for so long, a connection has ended."""


@dataclass(frozen=True, slots=True)
class Cluster:
    url: str
    """Of its proxy, http or https."""
    key: str = field(repr=False)

    def __str__(self) -> str:
        return urlsplit(self.url).netloc

    def seat(self, stage: str, farewell: str) -> str:
        """The address of a talker's socket."""
        query = f"?{urlencode({'farewell': farewell})}" if farewell else ""
        return f"ws{self.url.removeprefix('http').rstrip('/')}/{stage}/seat{query}"


class NoReplica(EngineError):
    """The cluster is there and has none that is free."""


class Socket(Line):
    """To one replica, until it or we end it."""

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
        """Whoever asks waits for an answer before asking more, so little is ever on its way."""

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
        """Wait for the ends of connections that were let go."""
        await asyncio.gather(*self._closing, return_exceptions=True)

    def let_go(self, socket: Socket) -> None:
        """Nobody waits until both sides have agreed that a connection ends."""
        self._close(socket.close())

    async def open(self, farewell: str = "") -> Socket:
        """To the replica that the cluster's router chooses.

        Raises:
            NoReplica: there is none that is free.
            EngineError: the cluster is away, refuses us, or has something else there.
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
                        pass  # the router has chosen one that is going, or the proxy itself is
                    await asyncio.sleep(next(pauses, AGAIN_S[-1]))

    async def _connected(self, farewell: str) -> Socket:
        connection = await connect(
            self.cluster.seat(self._stage, farewell),
            additional_headers={"Authorization": f"Bearer {self.cluster.key}"},
            compression=None,  # sound in numbers hardly shrinks, and it takes longer than the wire does
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
        """What is there with what was asked for. Raises EngineError."""
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
        """What goes wrong with a connection, as EngineError."""
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
    """Whether two machines mean the same. What one leaves open agrees with all, and files have other folders there."""
    if ours is None or theirs is None:
        return True
    if isinstance(ours, list | tuple) and isinstance(theirs, list | tuple):
        return len(ours) == len(theirs) and all(map(_agree, ours, theirs))
    if isinstance(ours, str) and isinstance(theirs, str) and PurePath(ours).is_absolute():
        return PurePath(ours).name == PurePath(theirs).name
    return ours == theirs
