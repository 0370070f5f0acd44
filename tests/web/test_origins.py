"""Browsers elsewhere: pages that the owner lists, and keys for them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from openai import AsyncOpenAI
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin, Subprotocol

from tests.web.conftest import Running, served
from web.origins import origin
from web.realtime import parts
from web.realtime.client_secrets import ClientSecrets

TOKEN = "a-token-of-more-than-thirty-two-characters"
PAGE = "https://page.example"


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[Running]:
    async with served(tmp_path, token=TOKEN, origins=[PAGE]) as running:
        yield running


def offered(key: str) -> list[Subprotocol]:
    """As agents-realtime offers them in a browser."""
    return [Subprotocol("realtime"), Subprotocol(f"openai-insecure-api-key.{key}")]


async def test_a_page_that_is_listed_speaks_with_the_api_by_its_key(guarded: Running) -> None:
    async with guarded.connect(origin=Origin(PAGE), subprotocols=offered(TOKEN)) as socket:
        assert socket.subprotocol == "realtime"
        assert json.loads(await socket.recv())["type"] == "session.created"


@pytest.mark.parametrize(
    ("page", "key", "status"),
    [
        ("https://evil.example", TOKEN, 403),
        (PAGE, "wrong", 401),
        ("http://page.example", TOKEN, 403),
        ("null", TOKEN, 403),
    ],
)
async def test_others_are_turned_away(guarded: Running, page: str, key: str, status: int) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with guarded.connect(origin=Origin(page), subprotocols=offered(key)):
            pass
    assert refused.value.response.status_code == status


async def test_a_listed_page_may_ask_the_api_and_nothing_else(guarded: Running) -> None:
    ask = {"Origin": PAGE, "Access-Control-Request-Method": "POST", "Sec-Fetch-Site": "cross-site"}
    async with guarded.client() as client:
        asked = await client.options("/v1/realtime/client_secrets", headers=ask)
        assert (asked.status_code, asked.headers["access-control-allow-origin"]) == (204, PAGE)
        assert "authorization" in asked.headers["access-control-allow-headers"].lower()
        ask["Access-Control-Request-Headers"] = "x-openai-agents-sdk,x-stainless-os, x y, " + "a" * 65
        asked = await client.options("/v1/realtime/calls", headers=ask)
        allowed = "Authorization, Content-Type, x-openai-agents-sdk, x-stainless-os"
        assert asked.headers["access-control-allow-headers"] == allowed
        foreign = await client.options("/v1/realtime/client_secrets", headers={**ask, "Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in foreign.headers
        headers = {"Origin": PAGE, "Authorization": f"Bearer {TOKEN}", "Sec-Fetch-Site": "cross-site"}
        made = await client.post("/v1/realtime/client_secrets", headers=headers, json={})
        assert (made.status_code, made.headers["access-control-allow-origin"]) == (200, PAGE)
        cookie = {"Origin": PAGE, "Cookie": f"parley_token={TOKEN}"}
        assert (await client.post("/v1/realtime/client_secrets", headers=cookie, json={})).status_code == 401
        settings = await client.get("/api/settings", headers=headers)
        assert settings.status_code == 403
        assert "access-control-allow-origin" not in settings.headers


async def test_a_client_secret_opens_a_session_as_it_was_asked_for_and_nothing_more(guarded: Running) -> None:
    async with AsyncOpenAI(base_url=f"{guarded.url}/v1", api_key=TOKEN) as sdk:
        made = await sdk.realtime.client_secrets.create(
            expires_after={"anchor": "created_at", "seconds": 60},
            session={"type": "realtime", "instructions": "Be brief.", "output_modalities": ["text"]},
        )
    assert made.value.startswith("ek_")
    for _ in range(2):  # a page may have to come back
        async with guarded.connect(origin=Origin(PAGE), subprotocols=offered(made.value)) as socket:
            session = json.loads(await socket.recv())["session"]
            assert (session["instructions"], session["output_modalities"]) == ("Be brief.", ["text"])
    bearer = {"Authorization": f"Bearer {made.value}"}
    async with guarded.client(headers=bearer) as client:
        assert (await client.post("/v1/realtime/client_secrets", json={})).status_code == 401
        assert (await client.get("/api/settings")).status_code == 401
        assert (await client.get("/v1/models")).status_code == 401


async def test_a_client_secret_that_never_was_is_refused_where_no_token_is_needed_too(running: Running) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with running.connect(additional_headers={"Authorization": "Bearer ek_invented"}):
            pass
    assert refused.value.response.status_code == 401


async def test_what_is_impossible_is_refused(running: Running) -> None:
    async with running.client() as client:
        for seconds in (1, 100_000, "long"):
            body = {"expires_after": {"anchor": "created_at", "seconds": seconds}}
            answer = await client.post("/v1/realtime/client_secrets", json=body)
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, "expires_after.seconds")
            assert answer.json()["error"]["type"] == "invalid_request_error"
        session = {"type": "realtime", "tool_choice": {"type": "function", "name": "get_weather"}}
        answer = await client.post("/v1/realtime/client_secrets", json={"session": session})
        assert answer.json()["error"]["message"] == "There is no tool 'get_weather' to choose: add it to tools."


def test_a_client_secret_ends_with_its_time_and_there_are_only_so_many() -> None:
    now, wall = 1000.0, 1e9
    secrets = ClientSecrets(lambda: now, lambda: wall)
    first, ends = secrets.make(parts.Session(), 60)
    assert (ends, secrets.opens(first)) == (1e9 + 60, True)
    wall += 3600
    assert secrets.opens(first), "a clock that is set ends nothing"
    now = 1060.0
    assert not secrets.opens(first)
    oldest, _ = secrets.make(parts.Session(), 60)
    for _ in range(1000):
        newest, _ = secrets.make(parts.Session(), 60)
    assert (secrets.opens(oldest), secrets.opens(newest)) == (False, True)


@pytest.mark.parametrize("given", ["page.example", "ftp://page.example", "https://page.example/path", "", "https://"])
def test_what_is_no_origin_is_not_listed(given: str) -> None:
    with pytest.raises(ValueError, match="not an origin"):
        origin(given)


def test_an_origin_is_written_as_browsers_write_it() -> None:
    assert origin("HTTPS://Page.example/") == "https://page.example"
