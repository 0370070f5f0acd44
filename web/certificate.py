"""This machine's own certificate, for phones on its network: made once, kept, and renewed before it expires.

Browsers allow the microphone only on https pages, and no public authority signs for the addresses of a home network.
So Parley makes an authority that a phone can trust once, and that signs only for private addresses and this machine's
names: even if it is stolen, it cannot impersonate a bank.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import socket
import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY, SERVER = "authority.pem", "server.pem"
LASTS = timedelta(days=397)
"""Browsers reject longer ones from public authorities, and Apple rejects 825 days from any authority."""
AUTHORITY_LASTS = timedelta(days=3650)
RENEWED = timedelta(days=60)
"""Time before its end at which it is renewed."""
EARLY = timedelta(days=1)
"""How far it is backdated, as a phone's clock may be behind this one's."""
PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "100.64.0.0/10", "127.0.0.0/8",
           "192.0.2.0/24", "fc00::/7", "fe80::/10", "::1/128")  # fmt: skip
"""Networks outside the public internet: RFC 1918, 3927, 6598, 5737, 4193, 4291."""

logger = logging.getLogger(__name__)

Key = ec.EllipticCurvePrivateKey


class CertificateError(Exception):
    """There is no usable certificate; the message is one sentence that says what to do."""


@dataclass(frozen=True, slots=True)
class Certificate:
    chain: Path
    key: Path
    authority: Path | None = None
    """The certificate that a phone may trust; None for a certificate that the owner supplied."""

    def context(self) -> ssl.SSLContext:
        """Raises CertificateError."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.load_into(context)
        return context

    def load_into(self, context: ssl.SSLContext) -> None:
        """Use this certificate for new connections from now on. Raises CertificateError."""
        try:
            context.load_cert_chain(self.chain, self.key, password=lambda: "")
        except (OSError, ssl.SSLError) as error:
            raise CertificateError(
                f"The certificate {self.chain} cannot be used with the key {self.key} ({error.strerror or error}): "
                "give a chain in PEM, and its key without a password."
            ) from error

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of the certificate that a browser warns of, in the browser's format."""
        return _sha256(self.chain)

    @property
    def authority_fingerprint(self) -> str:
        """The SHA-256 of the certificate that a phone may trust."""
        return _sha256(self.authority or self.chain)

    def public(self) -> bytes:
        """Return the certificate to trust, in PEM, without its key."""
        certificate = x509.load_pem_x509_certificate((self.authority or self.chain).read_bytes())
        return certificate.public_bytes(serialization.Encoding.PEM)


async def keep_fresh(
    context: ssl.SSLContext, renew: Callable[[], Certificate | None], every_s: float = 24 * 3600
) -> None:
    """Replace the certificate of a long-running server before it expires. A failure is retried."""
    while True:
        await asyncio.sleep(every_s)
        try:
            if (certificate := renew()) is not None:
                certificate.load_into(context)
        except CertificateError as error:
            logger.error("%s", error)


def own(folder: Path, addresses: Iterable[str], now: datetime | None = None) -> Certificate:
    """Return the folder's certificate; it is made or renewed if it is missing, expires soon or lacks an address.

    Raises CertificateError.
    """
    now = datetime.now(UTC) if now is None else now
    names = _names(addresses)
    server, authority = folder / SERVER, folder / AUTHORITY
    found = Certificate(server, server, authority)
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        trusted = _kept(authority, now, AUTHORITY_LASTS - LASTS - RENEWED)
        if trusted is None:
            trusted = _made_authority(now)
            _write(authority, *trusted)
            server.unlink(missing_ok=True)
        kept = _kept(server, now, RENEWED)
        if kept is None or not set(names) <= set(_signed_for(kept[0])):
            _write(server, *_made(names, trusted, now))
    except (OSError, ValueError) as error:
        raise CertificateError(
            f"The certificate in {folder} cannot be used ({error}): delete that folder, and Parley makes a new one."
        ) from error
    return found


def _names(addresses: Iterable[str]) -> list[x509.GeneralName]:
    host = socket.gethostname().lower()
    named = ["localhost", *(f"{host}{end}" for end in ("", ".local") if _is_name(host))]
    return [x509.DNSName(name) for name in named] + [
        x509.IPAddress(ipaddress.ip_address(address)) for address in sorted({"127.0.0.1", "::1", *addresses})
    ]


def _is_name(host: str) -> bool:
    return host.isascii() and all(part.replace("-", "").isalnum() for part in host.split("."))


def _kept(file: Path, now: datetime, left: timedelta) -> tuple[x509.Certificate, Key] | None:
    """Read a certificate; None if it is missing or expires within `left`. Raises ValueError if it or its key is bad."""
    if not file.exists():
        return None
    text = file.read_bytes()
    certificate, key = x509.load_pem_x509_certificate(text), serialization.load_pem_private_key(text, None)
    if not isinstance(key, Key):
        raise ValueError("its key is of another kind")
    return (certificate, key) if certificate.not_valid_after_utc - now > left else None


def _signed_for(certificate: x509.Certificate) -> list[x509.GeneralName]:
    return list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)


def _made_authority(now: datetime) -> tuple[x509.Certificate, Key]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _subject(f"Parley on {socket.gethostname()}"[:64])
    only = [x509.IPAddress(ipaddress.ip_network(network)) for network in PRIVATE]
    names = [each for each in _names(()) if isinstance(each, x509.DNSName)]
    builder = _dated(name, name, key, now, AUTHORITY_LASTS)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(x509.NameConstraints([*only, *names], None), critical=True)
    builder = builder.add_extension(_usage(signs=True), critical=True)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    return builder.sign(key, hashes.SHA256()), key


def _made(
    names: list[x509.GeneralName], authority: tuple[x509.Certificate, Key], now: datetime
) -> tuple[x509.Certificate, Key]:
    key = ec.generate_private_key(ec.SECP256R1())
    issuer, signing = authority
    builder = _dated(_subject("Parley"), issuer.subject, key, now, LASTS)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    builder = builder.add_extension(_usage(signs=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    known = x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key())
    return builder.add_extension(known, critical=False).sign(signing, hashes.SHA256()), key


def _dated(subject: x509.Name, issuer: x509.Name, key: Key, now: datetime, lasts: timedelta) -> x509.CertificateBuilder:
    return x509.CertificateBuilder(
        issuer_name=issuer,
        subject_name=subject,
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=now - EARLY,
        not_valid_after=now - EARLY + lasts,
    )


def _sha256(file: Path) -> str:
    return x509.load_pem_x509_certificate(file.read_bytes()).fingerprint(hashes.SHA256()).hex(":").upper()


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _write(file: Path, certificate: x509.Certificate, key: Key) -> None:
    """Write the file completely or not at all, readable by its owner only."""
    text = certificate.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    fresh = file.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as written:
        written.write(text)
    fresh.replace(file)
