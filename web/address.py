"""Where the server is reached: which Host and Origin are allowed, and what to type into a browser."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from web.network import is_everywhere, is_loopback


def split_host(value: str) -> tuple[str, int | None] | None:
    """Split `name:port` of a Host header, in lower case, IPv6 without brackets; None if it is malformed."""
    try:
        parts = urlsplit(f"//{value}")
        port = parts.port
    except ValueError:
        return None
    if not parts.hostname or parts.path or parts.query or parts.fragment or parts.username is not None:
        return None
    return parts.hostname, port


@dataclass(frozen=True, slots=True)
class Address:
    """Where the server is reached: which Host and Origin are allowed."""

    host: str
    """The address that it was told to listen on."""
    port: int
    token: str | None = None
    """None if no token is needed: on a loopback address."""
    names: frozenset[str] = field(default_factory=frozenset)
    """Further names that it may be called by."""
    origins: frozenset[str] = field(default_factory=frozenset)
    """Origins of foreign pages that may use the API."""
    https: bool = False
    """Whether it speaks TLS itself."""
    public: tuple[str, ...] = ()
    """Origins at which the owner's proxy serves it."""

    def allows(self, name: str, port: int | None) -> bool:
        """Whether it may go by this name. Any IP address will do if it listens on all: rebinding needs a name."""
        if (port or (443 if self.https else 80)) != self.port:
            return False
        if name in {"localhost", "127.0.0.1", "::1", self.host.strip("[]").lower()} | self.names:
            return True
        if not self.everywhere:
            return False
        own = socket.gethostname().lower()
        if name in {own, f"{own}.local"}:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    def allows_host(self, value: str | None) -> bool:
        parts = split_host(value) if value else None
        return parts is not None and (self.allows(*parts) or self._is_public(*parts))

    def _is_public(self, name: str, port: int | None) -> bool:
        """Whether the owner's proxy serves it by that name. A proxy may name the default port or omit it."""
        for origin in self.public:
            served = urlsplit(origin)
            usual = 443 if served.scheme == "https" else 80
            if name == served.hostname and (port or usual) == (served.port or usual):
                return True
        return False

    def allows_origin(self, origin: str | None, host: str, *, secure: bool) -> bool:
        """Whether there is no Origin (not a browser's page), or that of this server's own page, by the same name.

        Args:
            secure: whether the request came by https.
        """
        if origin is None or origin.lower() in self.public:
            return True
        try:
            parts = urlsplit(origin)
        except ValueError:
            return False
        return parts.scheme == ("https" if secure else "http") and parts.netloc.lower() == host.lower()

    @property
    def url(self) -> str:
        """What to type into a browser on this machine."""
        return self._at("localhost" if is_loopback(self.host) or self.everywhere else self.host)

    @property
    def everywhere(self) -> bool:
        """Whether it listens on all of this machine's addresses."""
        return is_everywhere(self.host)

    def elsewhere(self, names: list[str]) -> list[str]:
        """Return what to type into a browser on another machine, given this machine's addresses on its network."""
        return [self._at(name) for name in names] if self.everywhere else []

    def proxied(self) -> list[str]:
        """Return what to type into a browser that reaches the owner's proxy."""
        return [f"{origin}{self._query}" for origin in self.public]

    def _at(self, name: str) -> str:
        shown = f"[{name}]" if ":" in name else name
        return f"{'https' if self.https else 'http'}://{shown}:{self.port}{self._query}"

    @property
    def _query(self) -> str:
        return f"/?token={self.token}" if self.token else ""
