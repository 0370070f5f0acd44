"""The keys that open the server, and where requests carry them."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from typing import Protocol
from urllib.parse import parse_qsl

from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.types import Scope

from web import origins

COOKIE = "parley_token"


class Keys(Protocol):
    """The keys that open the server."""

    given_by: str
    """Where users get their key from, as in: the token `that Parley printed when it started`."""

    def needed(self, scope: Scope) -> bool:
        """Whether the request must carry a key."""

    def fit(self, key: str) -> bool:
        """Whether the key is valid."""


class OneToken:
    """The owner's token, or None if none is needed."""

    given_by = "that Parley printed when it started"

    def __init__(self, token: str | None) -> None:
        self._token = token

    def needed(self, scope: Scope) -> bool:
        return self._token is not None

    def fit(self, key: str) -> bool:
        return self._token is not None and hmac.compare_digest(key.encode(), self._token.encode())


def given_keys(headers: Headers) -> Iterable[str]:
    """Yield keys from a program's `Authorization: Bearer` (the stock SDK's api_key) or a WebSocket's subprotocols."""
    scheme, _, bearer = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        yield bearer.strip()
    if (key := origins.key_of(headers)) is not None:
        yield key


def given_cookies(headers: Headers) -> Iterable[str]:
    cookies = cookie_parser(headers.get("cookie", ""))  # as a browser does: a malformed cookie spoils no other
    if COOKIE in cookies:
        yield cookies[COOKIE]


def given_in_the_address(scope: Scope) -> Iterable[str]:
    """Yield keys given as ?token=…, which a cookie then replaces."""
    return (value for name, value in query(scope) if name == "token")


def query(scope: Scope) -> list[tuple[str, str]]:
    return parse_qsl(scope["query_string"].decode("latin-1"))
