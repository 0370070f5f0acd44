"""Which names the server answers to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from web.address import Address, split_host
from web.network import is_loopback

TOKEN = "a-token-of-more-than-thirty-two-characters"


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("localhost:8000", True),
        ("127.0.0.1:8000", True),
        ("[::1]:8000", True),
        ("LOCALHOST:8000", True),
        ("localhost", False),
        ("localhost:8001", False),
        ("evil.example:8000", False),
        ("127.0.0.1.evil.example:8000", False),
        ("user@localhost:8000", False),
        ("localhost:8000/x", False),
        ("localhost:x", False),
        ("[::1", False),
        ("", False),
        (None, False),
    ],
)
def test_hosts_of_a_loopback_server(host: str | None, allowed: bool) -> None:
    assert Address("127.0.0.1", 8000).allows_host(host) is allowed


def test_a_server_on_all_addresses_is_known_by_addresses_and_not_by_foreign_names() -> None:
    address = Address("0.0.0.0", 8000, TOKEN)
    assert address.allows_host("192.168.1.20:8000")
    assert not address.allows_host("rebound.example:8000")


def test_a_server_on_one_address_is_known_by_it() -> None:
    address = Address("192.168.1.20", 8000, TOKEN)
    assert address.allows_host("192.168.1.20:8000")
    assert not address.allows_host("192.168.1.21:8000")


@given(st.text(max_size=40))
def test_no_host_header_breaks_the_parser(value: str) -> None:
    parts = split_host(value)
    assert parts is None or parts[0]


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("127.8.8.8", True), ("0.0.0.0", False),
     ("::", False), ("192.168.1.2", False), ("localhost.evil.example", False)],
)  # fmt: skip
def test_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback
