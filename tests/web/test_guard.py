"""Nobody but this server's own pages, and programs that know the token, gets in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus

from tests.web.conftest import Running, served
from web.guard import MAX_BODY

TOKEN = "a-token-of-more-than-thirty-two-characters"


async def test_another_name_is_refused(running: Running) -> None:
    async with running.client() as client:
        assert (await client.get("/health")).status_code == 200
        answer = await client.get("/health", headers={"Host": f"evil.example:{running.address.port}"})
        assert answer.status_code == 421
        assert "localhost" in answer.text


async def test_two_host_headers_are_refused(running: Running) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", running.address.port)
    writer.write(f"GET /health HTTP/1.1\r\nHost: {running.host}\r\nHost: evil.example\r\n\r\n".encode())
    status = await reader.readline()
    writer.close()
    assert b"200" not in status


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1:{port}", "http://127.0.0.1:1"])
async def test_a_foreign_origin_is_refused_everywhere(running: Running, origin: str) -> None:
    headers = {"Origin": origin.format(port=running.address.port)}
    async with running.client() as client:
        assert (await client.get("/api/settings", headers=headers)).status_code == 403
        answer = await client.put("/api/settings", json={"set_up": False}, headers=headers)
        assert answer.status_code == 403
    assert running.service.settings.set_up
    with pytest.raises(InvalidStatus) as refused:
        async with running.connect(additional_headers=headers):
            pass
    assert refused.value.response.status_code == 403


async def test_our_own_origin_is_welcome(running: Running) -> None:
    headers = {"Origin": running.url}
    async with running.client() as client:
        assert (await client.put("/api/settings", json={"set_up": True}, headers=headers)).status_code == 200
    async with running.connect(additional_headers=headers):
        pass


async def test_a_page_elsewhere_cannot_read_by_an_embedded_request(running: Running) -> None:
    async with running.client() as client:
        assert (await client.get("/api/memory", headers={"Sec-Fetch-Site": "cross-site"})).status_code == 403


@pytest.mark.parametrize("type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
async def test_what_a_form_can_send_changes_nothing(running: Running, type: str) -> None:
    async with running.client() as client:
        answer = await client.put("/api/settings", content='{"set_up": false}', headers={"Content-Type": type})
    assert answer.status_code == 415
    assert running.service.settings.set_up


async def test_a_body_too_large_is_refused_declared_or_not(running: Running) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b" " * 65536

    async with running.client() as client:
        answer = await client.put(
            "/api/settings", content=b" " * (MAX_BODY + 1), headers={"Content-Type": "application/json"}
        )
        assert answer.status_code == 413
        answer = await client.put("/api/settings", content=endless(), headers={"Content-Type": "application/json"})
        assert answer.status_code == 413
        assert (await client.get("/health")).status_code == 200


async def test_every_page_carries_a_strict_policy(running: Running) -> None:
    async with running.client() as client:
        answer = await client.get("/health")
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert "unsafe" not in policy
    assert f"ws://{running.host}" in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert "server" not in answer.headers


async def test_a_token_opens_the_door_and_nothing_else_does(tmp_path: Path) -> None:
    async with served(tmp_path, token=TOKEN) as running, running.client() as client:
        for path in ("/", "/health", "/api/settings", "/static/css/base.css", "/talk"):
            assert (await client.get(path)).status_code == 401
        assert (await client.get("/?token=wrong")).status_code == 401
        with pytest.raises(InvalidStatus) as refused:
            async with running.connect():
                pass
        assert refused.value.response.status_code == 401
        answer = await client.get(f"/talk?token={TOKEN}&a=b")
        assert (answer.status_code, answer.headers["location"]) == (303, "/talk?a=b")
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert (await client.get("/health")).status_code == 200  # the client keeps its cookies
        async with running.connect(additional_headers={"Authorization": f"Bearer {TOKEN}"}):
            pass
        async with running.connect(additional_headers={"Cookie": f"parley_token={TOKEN}"}):
            pass


async def test_the_redirect_that_hides_the_token_stays_here(tmp_path: Path) -> None:
    async with served(tmp_path, token=TOKEN) as running, running.client() as client:
        answer = await client.get(f"{running.url}//evil.example/?token={TOKEN}")
        assert answer.headers["location"] == "/evil.example/"
