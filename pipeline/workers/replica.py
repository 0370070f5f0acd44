"""One engine in a cluster: its worker, and the sockets of its users (ray.py is their side).

A socket is one talker's seat, or one request. It opens with a description of this engine and continues as line.py
defines. When it ends, for whatever reason, its work is stopped and the engine forgets its talker.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

from starlette.websockets import WebSocket, WebSocketDisconnect

from pipeline.engine import EngineError, EngineStatus
from pipeline.workers.line import names_of
from pipeline.workers.place import EngineCalls, Place, Seat, Wanted
from pipeline.workers.process import WINDOW
from pipeline.workers.wire import PROTOCOL, Wire, WireError
from pipeline.workers.worker import Worker

REFUSED, RESTARTING, UNREADABLE = 1008, 1013, 1003
"""WebSocket close codes (RFC 6455, section 7.4.1; 1013, "try again later", is registered with IANA)."""


class Replica:
    def __init__(self, wanted: Wanted, key: str) -> None:
        """Args: key: what a gateway must present."""
        self._wire = Wire(wanted.kinds)
        self._key = f"Bearer {key}".encode()
        self._about = {
            "protocol": PROTOCOL,
            "engine": wanted.engine,
            "target": wanted.target,
            "settings": dict(wanted.kwargs),
        }
        self._worker: Place = Worker(wanted)

    async def start(self) -> None:
        """Load the engine. Raises EngineError."""
        await self._worker.start(lambda progress: None)

    async def stop(self) -> None:
        await self._worker.stop()

    @property
    def status(self) -> EngineStatus:
        return self._worker.status

    async def serve(self, socket: WebSocket) -> None:
        """Serve a socket until it closes."""
        if not hmac.compare_digest(socket.headers.get("authorization", "").encode(), self._key):
            await socket.close(REFUSED)  # before acceptance, this answers with status 403
            return
        farewell = socket.query_params.get("farewell", "")
        if self.status.state != "ready":
            await socket.accept()
            await socket.close(RESTARTING)
        elif farewell and not _public(farewell):
            await socket.close(REFUSED)
        else:
            await socket.accept()
            await socket.send_bytes(self._wire.encoded(self._about))
            await self._attend(socket, self._worker.seat(farewell) if farewell else None)

    async def _attend(self, socket: WebSocket, seat: Seat | None) -> None:
        requests: dict[int, _Request] = {}
        try:
            async for message in socket.iter_bytes():
                kind, number, *details = self._wire.decoded(message)
                if kind in ("call", "stream"):
                    requests[number] = _Request(socket, self._wire, number)
                    requests[number].begin(seat or self._worker, kind, *details)
                elif request := requests.get(number):
                    request.more() if kind == "more" else request.cancel()
                requests = {number: request for number, request in requests.items() if not request.done}
        except (WireError, ValueError, TypeError, KeyError):  # KeyError is Starlette's, for a text message
            await socket.close(UNREADABLE)
        finally:
            for request in requests.values():
                request.cancel()
            if seat is not None:
                await seat.leave()


class _Request:
    """One call or stream in progress."""

    def __init__(self, socket: WebSocket, wire: Wire, number: int) -> None:
        self._socket = socket
        self._wire = wire
        self._number = number
        self._room = asyncio.Semaphore(WINDOW)
        self._task: asyncio.Task[None] | None = None

    @property
    def done(self) -> bool:
        return self._task is not None and self._task.done()

    def begin(
        self, calls: EngineCalls, kind: str, method: str, args: tuple[object, ...], kwargs: dict[str, object]
    ) -> None:
        self._task = asyncio.create_task(self._answer(calls, kind, method, args, kwargs))

    def more(self) -> None:
        self._room.release()

    def cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _answer(
        self, calls: EngineCalls, kind: str, method: str, args: tuple[object, ...], kwargs: dict[str, object]
    ) -> None:
        try:
            if not _public(method):
                raise EngineError(f"There is no method {method!r}.")
            value = None
            if kind == "call":
                value = await calls.call(method, *args, **kwargs)
            else:
                await self._stream(calls.stream(method, *args, **kwargs))
            await self._send("value", value)
        except (EngineError, WireError) as error:
            await self._send("error", (names_of(error), str(error)))
        except Exception as error:  # noqa: BLE001 - an engine's own, which the worker has told already
            await self._send("error", (names_of(error), str(error)))

    async def _stream(self, items: AsyncGenerator[object, None]) -> None:
        async with aclosing(items):
            async for item in items:
                await self._room.acquire()
                await self._send("item", item)

    async def _send(self, kind: str, payload: object) -> None:
        message = self._wire.encoded((kind, self._number, payload))
        with suppress(WebSocketDisconnect, RuntimeError):  # the client has gone; Starlette raises either
            await self._socket.send_bytes(message)


def _public(method: str) -> bool:
    return method.isidentifier() and not method.startswith("_")
