"""Short-lived keys, for Realtime only, that the owner's server gives its pages in place of the token."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import Field

from web.api.audio.errors import Refused
from web.api.audio.requests import checked, json_body
from web.realtime import parts
from web.realtime.options import Wishes, in_force, undeclared
from web.service import Service

PREFIX = "ek_"
MOST = 1000
"""Keys that can be valid at a time; beyond that the oldest is dropped."""
SHORTEST_S, LONGEST_S, USUAL_S = 10, 7200, 600


class ExpiresAfter(parts.WireModel):
    anchor: Literal["created_at"] = "created_at"
    seconds: Annotated[int, Field(ge=SHORTEST_S, le=LONGEST_S)] = USUAL_S


class SecretRequest(parts.WireModel):
    expires_after: ExpiresAfter = Field(default_factory=ExpiresAfter)
    session: parts.Session = Field(default_factory=parts.Session)


@dataclass(frozen=True, slots=True)
class _Secret:
    expires_at: float
    session: parts.Session


class ClientSecrets:
    def __init__(self, now: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time) -> None:
        """
        Args:
            now: returns seconds that pass evenly, also while the machine's clock is being set.
            wall: returns seconds since the epoch, for clients.
        """
        self._now, self._wall = now, wall
        self._secrets: dict[str, _Secret] = {}

    def make(self, session: parts.Session, seconds: float) -> tuple[str, int]:
        """Return a key that opens such sessions for so many seconds, and its expiry in seconds since the epoch."""
        value = f"{PREFIX}{secrets.token_urlsafe(32)}"
        self._secrets[value] = _Secret(self._now() + seconds, session)
        while len(self._secrets) > MOST:
            del self._secrets[next(iter(self._secrets))]
        return value, int(self._wall() + seconds)

    def session(self, value: str) -> parts.Session | None:
        """Return the session that was requested with the key; None if the key is invalid or has expired."""
        self._secrets = {key: each for key, each in self._secrets.items() if each.expires_at > self._now()}
        found = self._secrets.get(value)
        return None if found is None else found.session

    def opens(self, value: str) -> bool:
        return self.session(value) is not None


def client_secrets(service: Service, kept: ClientSecrets) -> APIRouter:
    router = APIRouter()

    @router.post("/v1/realtime/client_secrets")
    async def make(request: Request) -> dict[str, Any]:
        """A short-lived key for a client of the Realtime protocol."""
        asked = checked(SecretRequest, await json_body(request) if await request.body() else {})
        if (why := undeclared(asked.session.tool_choice, asked.session.tools or ())) is not None:
            raise Refused(400, why, "session.tool_choice")
        value, expires_at = kept.make(asked.session, asked.expires_after.seconds)
        wishes = Wishes().updated(asked.session)
        session = in_force(f"sess_{secrets.token_hex(8)}", service.settings, wishes)
        told = session.model_copy(update={"expires_at": expires_at})
        return {"value": value, "expires_at": expires_at, "session": told.model_dump(mode="json", exclude_none=True)}

    return router
