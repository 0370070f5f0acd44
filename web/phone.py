"""Connects a phone to this machine: the addresses, as text and as a QR code, and the certificate to trust."""

from __future__ import annotations

from io import StringIO

import segno
from fastapi import APIRouter
from fastapi.responses import Response

from web.address import Address
from web.api.http import Problem
from web.certificate import Certificate
from web.network import lan_addresses

TRUST = "/parley.crt"


def addresses(address: Address) -> list[str]:
    """Return what to open on another device, best first: the owner's proxy, then this network's addresses."""
    return [*address.proxied(), *address.elsewhere(lan_addresses())]


def code(url: str) -> str:
    """Draw a QR code for the terminal, dark on light in any colour scheme."""
    drawn = StringIO()
    segno.make(url, error="l").terminal(drawn, compact=True, border=2)
    return drawn.getvalue()


def phone(address: Address, certificate: Certificate | None) -> APIRouter:
    router = APIRouter()

    @router.get("/api/phone")
    async def told() -> dict[str, object]:
        """The addresses at which other devices can reach Parley."""
        trusted = certificate is not None and certificate.authority is not None
        return {
            "addresses": addresses(address),
            "trust": TRUST if trusted else None,
            "fingerprint": certificate.authority_fingerprint if trusted and certificate is not None else None,
        }

    @router.get("/api/phone/code.svg")
    async def drawn() -> Response:
        """The first of these addresses as a QR code."""
        found = addresses(address)
        if not found:
            raise Problem(404, "Parley listens on this computer only: start it with --https.")
        svg = segno.make(found[0], error="l").svg_inline(scale=5, dark="#111", light="#fff", border=2)
        return Response(svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1), media_type="image/svg+xml")

    @router.get(TRUST)
    async def trust() -> Response:
        """The certificate of Parley's own authority, without its key."""
        if certificate is None or certificate.authority is None:
            raise Problem(404, "Parley has not made a certificate of its own here.")
        return Response(certificate.public(), media_type="application/x-x509-ca-cert")

    return router
