"""A talk on a real server, and what `/metrics` says of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import websockets
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from tests.web.conftest import Running, served
from tests.web.metrics.exported import exported
from tests.web.realtime.test_tools import Capable
from tests.web.realtime.wire import LOUD, SILENCE, Client
from web.api.audio.errors import Refused
from web.api.audio.queue import Queue
from web.metrics.metrics import STEPS


async def talk(connect: Callable[[str], websockets.connect]) -> None:
    """One turn, spoken, heard to its end by our own page."""
    async with connect("?parley=1") as socket:
        client = Client(socket, stock=False)
        await client.the("session.created")
        await client.speak(LOUD, SILENCE, SILENCE)
        created = await client.the("response.created")
        await client.until("response.done")
        await client.send("parley.playback", response_id=created["response"]["id"], samples=10_000_000)
        await client.the("parley.turn")


async def test_a_talk_is_counted_and_every_step_of_its_turn_is_timed(running: Running) -> None:
    async with running.client() as client:
        before = await exported(client)
        assert before["parley_talks_total", ""] == 0
        assert {step for name, step in before if name == "parley_turn_seconds_count"} == set(STEPS)
        await talk(running.connect)
        after = await exported(client)
    assert after["parley_talks_total", ""] == 1
    assert after["parley_turns_total", "completed"] == 1
    steps = {step: after["parley_turn_seconds_count", step] for step in STEPS}
    assert steps.pop("recalled") in (0, 1)  # only where there is a memory
    assert steps == dict.fromkeys(steps, 1)
    assert after["parley_turn_seconds_sum", "understood"] <= after["parley_turn_seconds_sum", "heard"]


async def test_what_runs_now_is_read_off_when_prometheus_asks(running: Running) -> None:
    async with running.client() as client, running.connect() as socket:
        await Client(socket).the("session.created")
        now = await exported(client)
        assert now["parley_talks_open", ""] == 1
        assert now["parley_talk_places", ""] >= 1
        assert now["parley_engine_ready", "scripted ears"] == 1
        assert now["parley_engine_restarts_total", "voice"] == 0
        assert {now["parley_queue_waiting", kind] for kind in ("speaking", "hearing", "writing")} == {0}
        assert now["parley_memory_bytes", "server"] > 10_000_000
        assert {now["parley_engine_busy", stage] for stage in ("ears", "mind", "voice")} == {0}


async def test_nothing_that_was_said_and_nobodys_id_is_in_it(running: Running) -> None:
    running.engines.ears.text = "my dog is called rufus"
    await talk(running.connect)
    async with running.client() as client:
        text = (await client.get("/metrics")).text
    assert "parley_turns_total" in text
    assert "rufus" not in text.lower() and "sunny" not in text and "conv_" not in text


async def test_refusals_are_counted_by_their_reason(tmp_path: Path) -> None:
    async with served(tmp_path, token="secret") as running, running.client() as client:
        running.service.places.most = 0
        key = {"Authorization": "Bearer secret"}
        for headers in ({}, {"Host": "evil.example"}, key | {"Origin": "https://evil.example"}):
            await client.get("/api/settings", headers=headers)
        await client.put("/api/settings", content="x", headers=key | {"Content-Type": "text/plain"})
        await client.put("/api/settings", content=b"x" * (2 << 20), headers=key | {"Content-Type": "application/json"})
        async with running.connect("?parley=1", additional_headers=key) as socket:
            assert (await Client(socket).error())["code"] == "too_many_conversations"
        client.headers.update(key)
        found = await exported(client)
    reasons = {reason: count for (name, reason), count in found.items() if name == "parley_refusals_total"}
    assert reasons == {"token": 1, "host": 1, "origin": 1, "content_type": 1, "large_body": 1, "no_place": 1}


async def test_only_who_has_the_token_sees_it(tmp_path: Path) -> None:
    async with served(tmp_path, token="secret") as running, running.client() as client:
        assert (await client.get("/metrics")).status_code == 401
        assert (await client.get("/metrics", headers={"Host": "evil.example"})).status_code == 421
        assert (await client.get("/metrics", headers={"Authorization": "Bearer secret"})).status_code == 200


async def test_calls_of_the_owners_tools_are_counted_once_they_are_settled(running: Running) -> None:
    running.engines.mind = Capable()
    async with running.connect() as socket, running.client() as http:
        client = Client(socket)
        await client.the("session.created")
        await client.write("What day is the third of March 2027?")
        await client.send("response.create")
        await client.until("response.done")
        await client.until("response.done")
        assert (await exported(http))["parley_tool_calls_total", "done"] == 1


async def test_who_asks_for_openmetrics_gets_it(running: Running) -> None:
    async with running.client(headers={"Accept": "application/openmetrics-text; version=1.0.0"}) as client:
        answer = await client.get("/metrics")
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    families = text_string_to_metric_families(answer.text)  # type: ignore[no-untyped-call]  # its package is typed in part
    assert "parley_talks" in {family.name for family in families}


async def test_two_servers_in_one_process_count_each_for_itself(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    async with served(tmp_path / "one") as one, served(tmp_path / "other") as other:
        await talk(one.connect)
        async with one.client() as first, other.client() as second:
            assert (await exported(first))["parley_talks_total", ""] == 1
            assert (await exported(second))["parley_talks_total", ""] == 0


async def test_a_full_queue_is_counted_and_waiting_ones_are_seen() -> None:
    reasons: list[str] = []
    queue = Queue(1, waiting=1, refused=reasons.append)
    async with asyncio.timeout(60), queue.place(), queue.taken_in():
        assert (queue.working, queue.waiting) == (1, 1)
        with pytest.raises(Refused):
            await queue.taken_in().__aenter__()
    assert (queue.working, queue.waiting, reasons) == (0, 0, ["queue_full"])


async def test_the_page_of_the_last_hour_is_told_of_it_too(running: Running) -> None:
    await talk(running.connect)
    async with running.client() as client:
        answer: httpx.Response = await client.get("/api/activity")
    told = answer.json()
    assert told["turns"] == 1
    assert told["median"] == told["bins"][-1]["medians"]["heard"] == told["p95"]
