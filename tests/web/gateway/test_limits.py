"""One user cannot take all places, nor all requests, nor ask all the time: refused with a reason, and when to retry."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.web.gateway.conftest import gateway_served
from tests.web.realtime.test_protocol import eventually, say, the
from web.gateway.limits import Limits, Requests, TooManyRequests


async def test_one_user_s_talks_leave_places_to_others(tmp_path: Path, tokens: dict[str, str]) -> None:
    async with gateway_served(tmp_path, most=3, limits=Limits(talks=2)) as served:
        async with served.connect(tokens["anna"], "") as one, served.connect(tokens["anna"], "") as two:
            for socket in (one, two):
                await the(socket, "session.created")
            with pytest.raises(InvalidStatus) as refused:
                await served.connect(tokens["anna"], "")
            response = refused.value.response
            assert (response.status_code, response.headers["retry-after"]) == (429, "5")
            assert b"as many as one user may have: close one" in response.body
            async with served.connect(tokens["anna"]) as page:  # a browser tells its page nothing before the upgrade
                assert "as one user may have" in (await the(page, "error"))["error"]["message"]
                with pytest.raises(ConnectionClosed):
                    await the(page, "never")
            async with served.connect(tokens["ben"]) as ben:
                await the(ben, "session.created")
                await say(ben, "Hello.")
        await eventually(lambda: served.places.taken == 0)
        async with served.connect(tokens["anna"], "") as again:
            await the(again, "session.created")


async def test_one_user_s_requests_leave_room_for_others(tmp_path: Path, tokens: dict[str, str]) -> None:
    async with (
        gateway_served(tmp_path, limits=Limits(requests=2)) as served,
        served.client(tokens["anna"]) as anna,
        served.client(tokens["ben"]) as ben,
    ):
        sending = asyncio.Event()

        async def body() -> AsyncIterator[bytes]:
            await sending.wait()
            yield b"{}"

        headers = {"Content-Type": "application/json"}
        slow = [asyncio.create_task(anna.put("/api/settings", content=body(), headers=headers)) for _ in range(2)]
        await eventually(lambda: served.gateway._requests._open["anna"] == 2)
        refused = await anna.get("/api/memory")
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert "2 requests under way" in json.loads(refused.text)["error"]["message"]
        assert (await anna.get("/static/css/base.css")).status_code == 200, "which costs nothing"
        assert (await ben.get("/api/memory")).status_code == 200
        sending.set()
        assert [answer.status_code for answer in await asyncio.gather(*slow)] == [200, 200]
        assert (await anna.get("/api/memory")).status_code == 200


def test_requests_come_back_with_time() -> None:
    now = 100.0
    requests, http = Requests(Limits(a_minute=3), lambda: now), {"type": "http", "path": "/api/memory"}

    def ask(name: str = "anna", scope: dict[str, str] = http) -> None:
        with requests.one(name, scope):
            pass

    for _ in range(3):
        ask()
    with pytest.raises(TooManyRequests, match="3 requests in a minute") as refused:
        ask()
    assert refused.value.retry_s == 20
    ask("ben")
    ask(scope={"type": "http", "path": "/static/css/base.css"})
    ask(scope={"type": "websocket", "path": "/v1/realtime"})
    now += 20
    ask()
    with pytest.raises(TooManyRequests):
        ask()


async def test_a_user_who_asks_all_the_time_is_told_when_to_go_on(tmp_path: Path, tokens: dict[str, str]) -> None:
    async with (
        gateway_served(tmp_path, limits=Limits(a_minute=2)) as served,
        served.client(tokens["anna"]) as anna,
        served.client(tokens["ben"]) as ben,
    ):
        assert [(await anna.get("/api/memory")).status_code for _ in range(2)] == [200, 200]
        refused = await anna.get("/api/memory")
        assert refused.status_code == 429 and 1 < int(refused.headers["retry-after"]) <= 60
        assert "2 requests in a minute" in json.loads(refused.text)["error"]["message"]
        assert (await ben.get("/api/memory")).status_code == 200
