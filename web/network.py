"""This machine's own addresses, as the system knows them. Nothing outside is asked."""

from __future__ import annotations

import ipaddress
import socket

import psutil


def is_loopback(host: str) -> bool:
    """Whether a server bound to `host` can only be reached from this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def is_everywhere(host: str) -> bool:
    """Whether a server bound to `host` listens on all of this machine's addresses."""
    return host.strip("[]") in {"0.0.0.0", "::", ""}


def lan_addresses() -> list[str]:
    """Return the addresses at which other machines on the network reach this one."""
    found = [
        each.address for those in psutil.net_if_addrs().values() for each in those if each.family == socket.AF_INET
    ]
    return [name for name in found if ipaddress.ip_address(name).is_private and not is_loopback(name)]


def media_addresses(host: str, reached: str) -> list[str]:
    """Return the addresses for a client's media, for a server bound to `host` that the client reached at `reached`.

    That is `reached` itself; if it is loopback, a proxy may have connected for a client elsewhere, so the network's
    addresses are added if the server listens there.
    """
    own = ipaddress.ip_address(reached)
    if isinstance(own, ipaddress.IPv6Address) and own.ipv4_mapped is not None:
        own = own.ipv4_mapped
    return [str(own), *(lan_addresses() if own.is_loopback and is_everywhere(host) else [])]
