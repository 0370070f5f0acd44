"""The WebSocket `/v1/realtime` carries one call. When reading, writing or the call ends, all of them end."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from fastapi import APIRouter, WebSocket
from starlette.websockets import WebSocketDisconnect

from pipeline.cleanup import until_one_ends
from pipeline.engine import EngineError
from web import origins
from web.api.audio.errors import error_response
from web.places import NoPlace
from web.realtime.client_secrets import ClientSecrets
from web.realtime.reading import Refusal, refused
from web.realtime.session import Call, Dismissed, Opening, TakenOver
from web.service import Service

MAX_MESSAGE = 16 << 20
"""Bytes of a client's message; a larger one closes the connection (1009). OpenAI takes 15 MiB of sound at once."""
SILENT_S = 1800.0
"""Seconds without any message after which a client loses its place to others."""
PATIENCE = 10.0
"""Seconds that a client may leave one message unread."""
NORMAL, GOING_AWAY, POLICY_VIOLATION, INTERNAL_ERROR, SERVICE_RESTART, TRY_AGAIN_LATER = (
    1000, 1001, 1008, 1011, 1012, 1013,
)  # fmt: skip
"""Close codes: RFC 6455, section 7.4, and IANA's registry."""
TOO_MANY = "too_many_conversations"
TAKEN_OVER = 4001
"""Our own close code: a page that receives it does not reconnect by itself."""

logger = logging.getLogger(__name__)


def realtime(service: Service, secrets: ClientSecrets) -> APIRouter:
    router = APIRouter()

    @router.websocket("/v1/realtime")
    async def connect(socket: WebSocket) -> None:
        opened = opening(socket, secrets)
        try:
            with service.conversing():
                await _accept(socket)
                # our own page may be left open beside other work, and sends nothing while its microphone is off
                await Connection(socket, Call(service, opened), None if opened.parley else SILENT_S).run()
        except NoPlace as full:
            await _turn_away(socket, full, page=opened.parley)

    return router


async def _accept(socket: WebSocket) -> None:
    await socket.accept("realtime" if "realtime" in origins.protocols(socket.headers) else None)


async def _turn_away(socket: WebSocket, why: NoPlace, *, page: bool) -> None:
    """Refuse before the upgrade, while a proxy can still ask another server. Our own page is told after it: a browser
    does not tell its pages why a WebSocket failed to open."""
    if not page:
        await socket.send_denial_response(error_response(why.status, str(why), None, TOO_MANY, why.retry_s))
        return
    await _accept(socket)
    await socket.send_text(refused(Refusal(TOO_MANY, str(why))).model_dump_json(exclude_none=True))
    await socket.close(TRY_AGAIN_LATER, "too many conversations")


def opening(socket: WebSocket, secrets: ClientSecrets) -> Opening:
    asked, offered = socket.query_params, origins.protocols(socket.headers)
    bearer = socket.headers.get("authorization", "").partition(" ")[2].strip()
    beta = "realtime=v1" in socket.headers.get("openai-beta", "") or "openai-beta.realtime-v1" in offered
    given = secrets.session(origins.key_of(socket.headers) or bearer)
    return Opening(
        parley=asked.get("parley") == "1",
        kind="transcription" if asked.get("intent") == "transcription" else "realtime",
        beta=beta,
        sessions=() if given is None else (given,),
        conversation=asked.get("conversation"),
    )


class SlowReader(Exception):
    """The client has stopped reading."""


class Silent(Exception):
    """The client has sent nothing for too long; the message is one sentence."""


class Connection:
    def __init__(self, socket: WebSocket, call: Call, silent_s: float | None = None) -> None:
        """`silent_s`: how many seconds the client may send nothing at all; None is without limit."""
        self._socket = socket
        self._call = call
        self._silent_s = silent_s

    async def run(self) -> None:
        code, reason = INTERNAL_ERROR, "something went wrong inside Parley; its log has the details"
        try:
            await until_one_ends(self._read(), self._write(), self._call.run())
            code, reason = NORMAL, ""
        except WebSocketDisconnect:
            code, reason = NORMAL, ""
        except EngineError as error:
            code, reason = GOING_AWAY, str(error)
        except TakenOver:
            code, reason = TAKEN_OVER, "this conversation continues in another window"
        except Dismissed as dismissed:
            dismissal = dismissed.dismissal
            code, reason = TAKEN_OVER if dismissal.elsewhere else SERVICE_RESTART, dismissal.why
        except SlowReader:
            code, reason = POLICY_VIOLATION, f"nothing was read for {PATIENCE:.0f} s"
            logger.warning("A client stopped reading and was disconnected.", extra={"conversation": self._call.name})
        except Silent as silence:
            code, reason = NORMAL, "nothing came for half an hour"
            with suppress(RuntimeError, WebSocketDisconnect, TimeoutError):
                async with asyncio.timeout(1):
                    expired = refused(Refusal("session_expired", str(silence)))
                    await self._socket.send_text(self._call.written(expired) or "")
        finally:
            with suppress(RuntimeError, WebSocketDisconnect, TimeoutError):
                async with asyncio.timeout(1):  # a client that has stopped reading will not read this either
                    await self._socket.close(code, reason)

    async def _read(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self._silent_s):
                    message = await self._socket.receive()
            except TimeoutError:
                raise Silent("Nothing was sent for half an hour, so this session has ended: connect again.") from None
            if message["type"] == "websocket.disconnect":
                return
            await self._call.take(message.get("text"))

    async def _write(self) -> None:
        while True:
            event = await self._call.next()
            if (text := self._call.written(event)) is not None:
                try:
                    async with asyncio.timeout(PATIENCE):
                        await self._socket.send_text(text)
                except TimeoutError:
                    raise SlowReader from None
            self._call.sent(event)
