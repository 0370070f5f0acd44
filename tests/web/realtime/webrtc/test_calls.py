"""Calls by WebRTC, with a stock peer (aiortc) on the other side."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from tests.web.conftest import Running, served
from tests.web.realtime.test_protocol import eventually
from tests.web.realtime.webrtc.peer import CALLS, LOUD, SDP, Peer, peer
from web.realtime.client_secrets import ClientSecrets
from web.realtime.webrtc.playout import Playout

TOKEN = "t" * 43  # as long as a real one


def types(events: list[dict[str, object]]) -> list[object]:
    return [event["type"] for event in events]


@pytest.fixture
async def caller(running: Running) -> AsyncIterator[Peer]:
    """Connected, with a session."""
    async with running.client() as client, peer() as caller:
        assert (await caller.call(client)).status_code == 201
        await caller.the("session.created")
        yield caller


async def test_a_spoken_and_a_typed_turn(running: Running) -> None:
    async with running.client() as client, peer() as caller:
        assert (await caller.call(client, instructions="Be brief.", colour="red")).status_code == 201
        error, created = await caller.until("session.created")
        assert error["error"]["param"] == "session.colour"
        assert created["session"]["instructions"] == "Be brief."
        caller.microphone.speak(LOUD)  # and then nothing comes any more, which is silence
        spoken = await caller.until("output_audio_buffer.stopped")
        told = types(spoken)
        assert "response.output_audio.delta" not in told
        reply = spoken[told.index("response.created")]["response"]["id"]
        ours = [event for event in spoken if str(event["type"]).startswith("output_audio_buffer")]
        assert [(event["type"], event["response_id"]) for event in ours] == [
            ("output_audio_buffer.started", reply),
            ("output_audio_buffer.stopped", reply),
        ]
        assert told.index("input_audio_buffer.speech_stopped") < told.index("response.done") < len(told) - 1
        assert caller.loud
        caller.write("Hello")
        assert types(await caller.until("output_audio_buffer.stopped")).count("response.done") == 1
    await eventually(lambda: len(running.service.turns.last(2)) == 2)
    heard = [record.heard for record in running.service.turns.last(2)]
    assert heard == ["It is sunny. Shall we go out?"] * 2


async def test_speech_over_a_reply_silences_it_and_history_has_what_was_heard(
    running: Running, caller: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[Playout] = []
    monkeypatch.setattr(
        Playout, "pause", lambda self: pauses.append(self)
    )  # the reply is stopped in any case, only later
    running.engines.mind.text = "One. Two. Three."
    running.engines.voice.seconds = 30.0
    caller.write("Tell me a story")
    await caller.the("output_audio_buffer.started")
    await asyncio.sleep(0.3)
    caller.microphone.speak(LOUD)
    told = await caller.until("conversation.item.truncated")
    assert "output_audio_buffer.cleared" in types(told) and pauses
    assert 200 < told[-1]["audio_end_ms"] < 15_000
    assert running.service.turns.last(1)[0].outcome == "interrupted"
    await caller.the("response.created")  # what was said over it is answered


async def test_a_client_silences_a_reply_itself(running: Running, caller: Peer) -> None:
    running.engines.voice.seconds = 60.0
    caller.write("Tell me a story")
    await caller.the("output_audio_buffer.started")
    caller.send("output_audio_buffer.clear")
    told = await caller.until("output_audio_buffer.cleared")
    assert running.service.turns.last(1)[0].outcome == "interrupted"
    caller.send("input_audio_buffer.append", audio="AAAA")
    told = await caller.until("error")
    assert "audio track" in told[-1]["error"]["message"]


async def test_only_a_webrtc_call_has_an_output_buffer(running: Running) -> None:
    async with running.connect() as socket:
        await socket.send('{"type": "output_audio_buffer.clear"}')
        while '"error"' not in (text := str(await socket.recv())):
            pass
        assert "conversation.item.truncate" in text


async def test_a_call_ends_by_either_side_and_gives_its_place_back(running: Running) -> None:
    running.service.places.most = 1
    async with running.client() as client:
        async with peer() as first:
            await first.call(client)
            await first.the("session.created")
            async with peer() as second:
                full = await second.call(client)
            assert (full.status_code, full.json()["error"]["code"]) == (503, "too_many_conversations")
            assert full.headers["retry-after"]
            assert (await client.post(f"{first.location}/hangup")).status_code == 200
            assert running.service.conversations == 0
            await first.ended()
        assert (await client.post(f"{first.location}/hangup")).status_code == 404
        async with peer() as third:
            assert (await third.call(client)).status_code == 201
            await third.the("session.created")
            await third.close()
            await eventually(lambda: not running.service.conversations)


async def test_who_never_connects_gives_the_place_back(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("web.realtime.webrtc.connection.CONNECT_S", 0.05)
    async with running.client() as client, peer() as caller:
        answer = await client.post(CALLS, content=await caller.offer(), headers=SDP)
        assert (answer.status_code, running.service.conversations) == (201, 1)
        await eventually(lambda: not running.service.conversations)


async def test_it_listens_where_it_was_reached_and_nowhere_else(running: Running, caller: Peer) -> None:
    ports = [each.laddr for each in psutil.Process().net_connections("udp")]
    assert ports and {port.ip for port in ports} == {"127.0.0.1"}


async def test_what_cannot_be_answered_leaves_nothing_behind(running: Running) -> None:
    async with running.client() as client, peer() as caller:
        whole = await caller.offer()
        for broken in (
            "nonsense",
            whole.replace("a=ice-ufrag", "a=x"),
            whole.replace("a=rtcp-mux\r\n", ""),
            whole.replace("a=sctp-port:5000", "a=sctp-port:x"),
            whole.replace("a=mid:0", "a=mid"),
            whole[: len(whole) // 2],
        ):
            answer = await client.post(CALLS, content=broken, headers=SDP)
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_sdp"), broken
        undeclared = json.dumps({"type": "realtime", "tool_choice": {"type": "function", "name": "sing"}})
        answer = await client.post(CALLS, files={"sdp": (None, whole), "session": (None, undeclared)})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "session.tool_choice")
        for form in ({"session": (None, "{}")}, {"sdp": (None, whole), "session": (None, "{")}):
            assert (await client.post(CALLS, files=form)).status_code == 400
        assert (await client.post(CALLS, content="v=0" + "x" * 70_000, headers=SDP)).status_code == 413
        assert (await client.post(CALLS, content=whole, headers={"Content-Type": "text/plain"})).status_code == 415
    assert running.service.conversations == 0
    assert not psutil.Process().net_connections("udp")


async def test_bad_messages_get_an_error_each_and_one_that_is_too_large_ends_the_call(
    running: Running, caller: Peer
) -> None:
    odd: list[str | bytes] = [*("", "[]", "{", "null", '{"type": 3}', '{"type": "session.update"}'), b"\x00"] * 8
    for message in odd:
        caller.channel.send(message)
    for _ in odd:
        await caller.the("error")
    sctp = caller.connection.sctp
    assert sctp is not None
    sctp._remote_max_message_size = 0  # a client that keeps to nothing
    caller.channel.send("x" * (3 << 20))
    await eventually(lambda: not running.service.conversations)


async def test_keys_of_pages_open_calls_until_they_end_and_hang_up_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served(tmp_path, token=TOKEN) as running:
        owner = {"Authorization": f"Bearer {TOKEN}"}
        async with running.client() as client, peer() as caller, peer() as again:
            wanted = {"session": {"type": "realtime", "instructions": "As asked."}}
            key = (await client.post("/v1/realtime/client_secrets", json=wanted, headers=owner)).json()["value"]
            page = {"Authorization": f"Bearer {key}"}
            assert (await client.post(CALLS, content="v=0", headers=SDP)).status_code == 401
            for each in (caller, again):  # a key opens more than one
                async with running.client(headers=page) as theirs:
                    assert (await each.call(theirs)).status_code == 201
                    created = await each.the("session.created")
                    assert created["session"]["instructions"] == "As asked."
                    assert (await theirs.post(f"{each.location}/hangup")).status_code == 401
                assert (await client.post(f"{each.location}/hangup", headers=owner)).status_code == 200
            monkeypatch.setattr(ClientSecrets, "session", lambda *_: None)  # its time is over
            late = await client.post(CALLS, content="v=0", headers={**SDP, **page})
            assert (late.status_code, "get a new one" in late.text) == (401, True)
