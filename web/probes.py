"""`/live` and `/ready`, for whatever monitors the server: a proxy in front, Kubernetes, a container's health check.

They come before the guard, since a probe uses an address of its own network, and they reveal no secret.
"""

from __future__ import annotations

from collections.abc import Callable

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from pipeline.engine import EngineError
from pipeline.engines.running import Engines
from web.places import Places

LIVE, READY = "/live", "/ready"
RETRY_S = 1
"""Seconds after which a server that is not ready should be asked again."""


def unready(engines: Engines, places: Places) -> str | None:
    """Return why no new client should be sent here, in one sentence. A server with all places taken counts as ready: it
    says itself that it is full, and may have a place a moment later."""
    if places.closed is not None:
        return places.closed
    try:
        engines.stages()
    except EngineError as error:
        return str(error)
    return None


class Probes:
    """ASGI middleware around the whole app."""

    def __init__(self, app: ASGIApp, unready: Callable[[], str | None]) -> None:
        self._app = app
        self._unready = unready

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] in {LIVE, READY} and scope["method"] in {"GET", "HEAD"}:
            await self._answer(scope["path"])(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _answer(self, path: str) -> PlainTextResponse:
        headers = {"Cache-Control": "no-store"}
        why = self._unready() if path == READY else None
        if why is not None:
            return PlainTextResponse(f"{why}\n", 503, {**headers, "Retry-After": str(RETRY_S)})
        return PlainTextResponse(f"{path[1:]}\n", headers=headers)
