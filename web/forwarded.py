"""What a proxy says about its client, trusted only from the proxies that the owner names."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def network(given: str) -> Network:
    """Parse an address or a network. Raises ValueError if it is neither."""
    try:
        return ipaddress.ip_network(given)
    except ValueError:
        raise ValueError(f"{given!r} is not an address: write a proxy as 127.0.0.1 or 10.0.0.0/24.") from None


class Forwarded:
    """Takes the client's address, the scheme and the host from X-Forwarded-For, -Proto and -Host."""

    def __init__(self, app: ASGIApp, proxies: Iterable[Network]) -> None:
        self._proxies = tuple(proxies)
        self._direct = app
        self._behind = ProxyHeadersMiddleware(app, trusted_hosts=[str(each) for each in self._proxies])  # type: ignore[arg-type]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._is_proxy(scope):
            await self._direct(scope, receive, send)
            return
        said = Headers(scope=scope).get("x-forwarded-host")
        if said is not None:
            host = said.rpartition(",")[2].strip().encode("latin-1")  # the nearest proxy's entry comes last
            others = [(name, value) for name, value in scope["headers"] if name != b"host"]
            scope = {**scope, "headers": [(b"host", host), *others]}
        await self._behind(scope, receive, send)  # type: ignore[arg-type]  # uvicorn has its own types for ASGI

    def _is_proxy(self, scope: Scope) -> bool:
        return comes_from(scope, self._proxies)


def comes_from(scope: Scope, networks: Iterable[Network]) -> bool:
    """Whether the direct peer of this connection is in one of the networks."""
    try:
        peer = ipaddress.ip_address((scope.get("client") or ("",))[0])
    except ValueError:
        return False
    return any(peer in each for each in networks)
