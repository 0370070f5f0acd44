"""Behind a proxy of the owner's: its name and its pages are Parley's own, and only its word is believed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin

from tests.web.conftest import Running, served
from web.address import Address
from web.forwarded import network

PUBLIC = "https://parley.example"
TOKEN = "t" * 43
AS_CADDY = {"Host": "parley.example", "X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "https"}
AS_TAILSCALE = {"X-Forwarded-Host": "parley.example", "X-Forwarded-Proto": "https", "X-Forwarded-For": "100.64.0.9"}


@pytest.fixture
async def proxied(tmp_path: Path) -> AsyncIterator[Running]:
    async with served(tmp_path, token=TOKEN, public=[PUBLIC], proxies=["127.0.0.1"]) as running:
        yield running


@pytest.mark.parametrize("headers", [AS_CADDY, AS_TAILSCALE])
async def test_its_pages_are_parleys_own(proxied: Running, headers: dict[str, str]) -> None:
    async with proxied.client(headers=headers) as client:
        opened = await client.get("/", params={"token": TOKEN})
        assert opened.status_code == 303
        assert "Secure" in opened.headers["set-cookie"]
        page = await client.get("/setup", headers={"Authorization": f"Bearer {TOKEN}"})
        assert "wss://parley.example" in page.headers["content-security-policy"]
        asked = {"Authorization": f"Bearer {TOKEN}", "Origin": PUBLIC}
        assert (await client.put("/api/settings", json={"set_up": True}, headers=asked)).status_code == 200
        assert (await client.get("/api/settings")).status_code == 401


async def test_a_proxy_that_is_not_named_may_pass_its_pages_on_too(tmp_path: Path) -> None:
    """Its word is not believed, and not needed: the browser says where its page is from."""
    async with served(tmp_path, token=TOKEN, public=[PUBLIC]) as running, running.client(headers=AS_CADDY) as client:
        asked = {"Authorization": f"Bearer {TOKEN}", "Origin": PUBLIC}
        assert (await client.put("/api/settings", json={"set_up": True}, headers=asked)).status_code == 200
        asked["Origin"] = "https://evil.example"
        assert (await client.put("/api/settings", json={"set_up": True}, headers=asked)).status_code == 403


async def test_its_sockets_are_parleys_own(proxied: Running) -> None:
    owner = {**AS_TAILSCALE, "Authorization": f"Bearer {TOKEN}"}
    async with proxied.connect(origin=Origin(PUBLIC), additional_headers=owner):
        pass
    with pytest.raises(InvalidStatus):
        async with proxied.connect(origin=Origin("https://evil.example"), additional_headers=owner):
            pass


@pytest.mark.parametrize("host", ["evil.example", "parley.example:8443", "parley.example, evil.example", ""])
async def test_no_other_name_is_answered_to(proxied: Running, host: str) -> None:
    async with proxied.client(headers={"X-Forwarded-Host": host}) as client:
        assert (await client.get("/health")).status_code == 421


async def test_who_is_no_proxy_is_not_believed(tmp_path: Path) -> None:
    async with served(tmp_path, public=[PUBLIC], proxies=["192.0.2.0/24"]) as running:
        async with running.client(headers={"X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil.example"}) as client:
            page = await client.get("/setup")
        assert page.status_code == 200
        assert f"ws://{running.host}" in page.headers["content-security-policy"]


def test_a_public_address_is_a_name_and_a_port() -> None:
    address = Address("127.0.0.1", 8000, "t", public=(PUBLIC, "https://home.example:8443"))
    allowed = ["parley.example", "parley.example:443", "home.example:8443", "localhost:8000"]
    assert all(map(address.allows_host, allowed))
    assert not any(map(address.allows_host, ["parley.example:80", "home.example", "evil.example", "localhost"]))
    assert address.proxied() == ["https://parley.example/?token=t", "https://home.example:8443/?token=t"]


@pytest.mark.parametrize("given", ["", "proxy.example", "10.0.0.0/99", "*"])
def test_what_is_no_address_is_no_proxy(given: str) -> None:
    with pytest.raises(ValueError, match="write a proxy as"):
        network(given)


async def test_another_device_is_told_where_to_go(proxied: Running) -> None:
    async with proxied.client(headers={"Authorization": f"Bearer {TOKEN}"}) as client:
        told = (await client.get("/api/phone")).json()
        assert told == {"addresses": [f"{PUBLIC}/?token={TOKEN}"], "trust": None, "fingerprint": None}
        drawn = await client.get("/api/phone/code.svg")
        assert drawn.headers["content-type"] == "image/svg+xml" and drawn.text.startswith("<svg ")
        assert f"{PUBLIC}/?token={TOKEN}" in (await client.get("/setup")).text
        assert (await client.get("/parley.crt")).status_code == 404
        client.headers.clear()
        for path in ("/api/phone", "/api/phone/code.svg", "/parley.crt"):
            assert (await client.get(path)).status_code == 401


async def test_where_nobody_else_gets_there_is_no_code(running: Running) -> None:
    async with running.client() as client:
        assert (await client.get("/api/phone/code.svg")).status_code == 404
        assert "--https" in (await client.get("/setup")).text
