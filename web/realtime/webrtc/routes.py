"""`POST /v1/realtime/calls` answers an offer; the call then runs until one side ends it."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from contextlib import ExitStack

from fastapi import APIRouter, Request, Response

from web.api.audio.errors import Refused
from web.places import NoPlace
from web.realtime.client_secrets import ClientSecrets
from web.realtime.connection import TOO_MANY
from web.realtime.options import undeclared
from web.realtime.reading import refused
from web.realtime.session import Call, Opening
from web.realtime.webrtc.connection import PeerConnection
from web.realtime.webrtc.offer import CallRequest, asked, offer
from web.realtime.webrtc.peer import Peer
from web.realtime.webrtc.playout import Playout, Track
from web.service import Service

CALLS, SDP = "/v1/realtime/calls", "application/sdp"
Addresses = Callable[[str], list[str]]
"""Given the address at which a client reached the server, the addresses at which it may connect."""

logger = logging.getLogger(__name__)


class Calls:
    """The running calls, by id."""

    def __init__(self, service: Service, addresses: Addresses) -> None:
        self._service = service
        self._addresses = addresses
        self._running: dict[str, tuple[PeerConnection, asyncio.Task[None]]] = {}

    async def begin(self, asked: CallRequest, opening: Opening, client: str, reached: str) -> tuple[str, str]:
        """Return the call's id and the answer. Raises Refused."""
        offered = offer(asked.sdp, client)
        with ExitStack() as held:
            try:
                held.enter_context(self._service.conversing())
            except NoPlace as full:
                raise Refused(full.status, str(full), None, TOO_MANY, full.retry_s) from full
            playout = Playout(lambda event: call.tell(event))
            call = Call(self._service, opening, playout)
            for each in asked.left_out:
                call.tell(refused(each))
            peer = Peer(Track(playout))
            try:
                answer = await peer.answer(offered, self._addresses(reached))
            except BaseException:
                await peer.close()
                raise
            connection, id = PeerConnection(peer, playout, call), f"rtc_{secrets.token_hex(16)}"
            self._running[id] = connection, asyncio.create_task(self._carry(id, connection, held.pop_all()))
        return id, answer

    async def hang_up(self, id: str) -> None:
        """Raises Refused if there is no such call."""
        if id not in self._running:
            raise Refused(404, "There is no such call, or it has ended.", None, "call_not_found")
        connection, task = self._running[id]
        connection.hang_up()
        await asyncio.wait([task])

    async def end(self) -> None:
        """End all calls."""
        tasks = [task for _, task in self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _carry(self, id: str, connection: PeerConnection, place: ExitStack) -> None:
        with place:
            try:
                await connection.run()
            except Exception:
                logger.exception("a WebRTC call failed")
            finally:
                del self._running[id]


def webrtc(calls: Calls, kept: ClientSecrets) -> APIRouter:
    router = APIRouter()

    @router.post(CALLS)
    async def begin(request: Request) -> Response:
        """Begin a WebRTC call: the SDP offer is answered with an SDP answer."""
        wanted = await asked(request)
        given = kept.session(request.headers.get("authorization", "").partition(" ")[2].strip())
        sessions = tuple(each for each in (given, wanted.session) if each is not None)
        tools = next((each.tools for each in reversed(sessions) if each.tools is not None), [])
        if sessions and (why := undeclared(sessions[-1].tool_choice, tools)) is not None:
            raise Refused(400, why, "session.tool_choice")
        opening = Opening(sessions=sessions)
        client, reached = (scope[0] if scope else "" for scope in (request.client, request.scope.get("server")))
        id, answer = await calls.begin(wanted, opening, client, reached)
        return Response(answer, 201, {"Location": f"{CALLS}/{id}"}, SDP)

    @router.post(CALLS + "/{id}/hangup")
    async def hang_up(id: str) -> Response:
        """End a WebRTC call."""
        await calls.hang_up(id)
        return Response()

    return router
