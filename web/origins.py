"""Pages of other origins that the owner lists: they may use the API, and nothing else."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response

PATHS = ("/v1/",)
KEY_PROTOCOL = "openai-insecure-api-key."
"""Precedes the key in a WebSocket's subprotocols, since a page cannot send headers there."""
HEADER, MOST_HEADERS = re.compile(r"[A-Za-z0-9-]{1,64}"), 32
DAY = 24 * 3600


def origin(given: str) -> str:
    """Return an origin as browsers write it. Raises ValueError if it is not an origin."""
    parts = urlsplit(given.strip())
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path.strip("/") or parts.query:
        raise ValueError(f"{given!r} is not an origin: write it as https://page.example or http://localhost:3000.")
    return f"{parts.scheme}://{parts.netloc}".lower()


def preflight(asking: str, wanted: str = "") -> Response:
    """Answer a browser that asks whether a page may send its request.

    Args:
        wanted: names of headers. All are allowed: SDKs send some of their own, and only Authorization carries a key
            here.
    """
    names = [name for each in wanted.split(",") if HEADER.fullmatch(name := each.strip())]
    answer = Response(status_code=204)
    answer.headers["Access-Control-Allow-Methods"] = "GET, POST, DELETE"
    answer.headers["Access-Control-Allow-Headers"] = ", ".join(("Authorization", "Content-Type", *names[:MOST_HEADERS]))
    answer.headers["Access-Control-Max-Age"] = str(DAY)
    admit(answer.headers, asking)
    return answer


def admit(headers: MutableHeaders, asking: str) -> None:
    """Let the page of that origin read the answer. Its cookies do not count: it must send a key if one is needed."""
    headers["Access-Control-Allow-Origin"] = asking
    headers["Access-Control-Expose-Headers"] = "Location"
    headers["Cross-Origin-Resource-Policy"] = "cross-origin"
    headers["Vary"] = "Origin"


def protocols(headers: Headers) -> list[str]:
    """Return the subprotocols that a WebSocket client offers."""
    return [each.strip() for each in headers.get("sec-websocket-protocol", "").split(",") if each.strip()]


def key_of(headers: Headers) -> str | None:
    """Return the key among the subprotocols."""
    keys = (each.removeprefix(KEY_PROTOCOL) for each in protocols(headers) if each.startswith(KEY_PROTOCOL))
    return next(keys, None)
