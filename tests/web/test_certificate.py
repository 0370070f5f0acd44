"""The certificate for phones: made once, kept, renewed, and good for nothing but this."""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from tests.support import virtual_time
from web.certificate import AUTHORITY, SERVER, Certificate, CertificateError, keep_fresh, own

NOW = datetime(2026, 11, 30, tzinfo=UTC)
PHONE = ["192.168.1.20"]


def accepted(certificate: Certificate, name: str) -> bool:
    """Whether a client that trusts the authority takes it for a server of that name."""
    assert certificate.authority is not None
    client = ssl.create_default_context(cafile=str(certificate.authority))
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    there = certificate.context().wrap_bio(to_server, to_client, server_side=True)
    here = client.wrap_bio(to_client, to_server, server_hostname=name)
    for _ in range(3):
        for side in (here, there):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLCertVerificationError:
                return False
    return True


def test_a_phone_that_trusts_it_is_content(tmp_path: Path) -> None:
    certificate = own(tmp_path, PHONE)
    assert accepted(certificate, "192.168.1.20") and accepted(certificate, "localhost")
    assert not accepted(certificate, "192.168.1.21")
    assert b"PRIVATE" not in certificate.public()
    assert len(certificate.fingerprint.split(":")) == len(certificate.authority_fingerprint.split(":")) == 32
    assert certificate.fingerprint != certificate.authority_fingerprint, (
        "a browser warns of the one, and trusts the other"
    )


def test_only_its_owner_can_read_the_keys(tmp_path: Path) -> None:
    own(tmp_path / "https", PHONE)
    files = [tmp_path / "https" / name for name in (AUTHORITY, SERVER)]
    assert [file.stat().st_mode & 0o777 for file in files] == [0o600, 0o600]
    assert (tmp_path / "https").stat().st_mode & 0o777 == 0o700


def test_it_is_kept_and_renewed_before_its_end_under_the_same_authority(tmp_path: Path) -> None:
    def state(addresses: list[str], days: int) -> tuple[bytes, bytes]:
        certificate = own(tmp_path, addresses, NOW + timedelta(days=days))
        return certificate.public(), certificate.chain.read_bytes()

    authority, first = state(PHONE, 0)
    assert state(PHONE, 300) == (authority, first)
    kept, renewed = state(PHONE, 340)
    assert kept == authority and renewed != first
    kept, moved = state(["10.0.0.7"], 341)
    assert kept == authority and moved != renewed
    another, _ = state(PHONE, 3400)  # the authority would end before what it signs
    assert another != authority


def test_its_authority_can_sign_for_no_website(tmp_path: Path) -> None:
    own(tmp_path, PHONE)
    authority = x509.load_pem_x509_certificate((tmp_path / AUTHORITY).read_bytes())
    limits = authority.extensions.get_extension_for_class(x509.NameConstraints)
    assert limits.critical
    networks = [each.value for each in limits.value.permitted_subtrees or () if isinstance(each, x509.IPAddress)]
    assert all(network.is_private or str(network) == "100.64.0.0/10" for network in networks)
    certificate = own(tmp_path, ["8.8.8.8"])
    assert not accepted(certificate, "8.8.8.8")


@pytest.mark.parametrize(
    "broken", ["", "no certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"]
)
def test_what_is_broken_is_said_in_a_sentence(tmp_path: Path, broken: str) -> None:
    (tmp_path / AUTHORITY).write_text(broken)
    with pytest.raises(CertificateError, match="delete that folder"):
        own(tmp_path, PHONE)
    with pytest.raises(CertificateError, match="give a chain in PEM"):
        Certificate(tmp_path / AUTHORITY, tmp_path / AUTHORITY).context()
    with pytest.raises(CertificateError, match="give a chain in PEM"):
        Certificate(tmp_path / "none", tmp_path / "none").context()


def test_a_server_that_runs_for_months_serves_with_the_next_one(tmp_path: Path) -> None:
    first = own(tmp_path, PHONE)
    context = first.context()
    renewed: list[int] = []

    def renew() -> Certificate:
        renewed.append(1)
        if len(renewed) == 1:
            raise CertificateError("The disk is full.")  # and the next day it is not
        (tmp_path / SERVER).unlink(missing_ok=True)
        return own(tmp_path, ["192.168.1.99"])

    async def scene() -> None:
        task = asyncio.create_task(keep_fresh(context, renew, every_s=24 * 3600))
        await asyncio.sleep(49 * 3600)
        task.cancel()

    virtual_time.run(scene())
    assert len(renewed) == 2
    assert serves_for(context, first, "192.168.1.99")


def serves_for(context: ssl.SSLContext, certificate: Certificate, name: str) -> bool:
    class Given(Certificate):
        def context(self) -> ssl.SSLContext:
            return context

    return accepted(Given(certificate.chain, certificate.key, certificate.authority), name)
