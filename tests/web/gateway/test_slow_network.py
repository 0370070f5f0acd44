"""Talks through a gateway over a network of 200 ms each way that loses two of a hundred packets: they go on."""

from __future__ import annotations

import asyncio
import base64

import numpy as np
import pytest
import websockets
from aiortc import RTCSessionDescription

from tests.support.product import PATIENT
from tests.support.slow_network import slow_call, slow_tcp
from tests.web.gateway.conftest import RunningGateway
from tests.web.realtime.test_protocol import LOUD, SILENCE, append, say, send, the, until
from tests.web.realtime.webrtc.peer import LOUD as SPOKEN
from tests.web.realtime.webrtc.peer import SDP, peer

pytestmark = pytest.mark.slow

BLOCK = 480
"""Samples of a message from a microphone: 20 ms."""


async def test_a_talk_over_a_slow_connection_loses_nothing(served: RunningGateway, tokens: dict[str, str]) -> None:
    async with (
        slow_tcp(served.port) as port,
        websockets.connect(
            f"ws://{served.host}/v1/realtime?parley=1",
            host="127.0.0.1",
            port=port,
            max_size=None,
            **PATIENT,
            additional_headers={"Authorization": f"Bearer {tokens['anna']}"},
        ) as socket,
    ):
        await the(socket, "session.created")
        for turn in range(3):
            sound = np.concatenate([SILENCE[:12_000], LOUD, SILENCE])
            await append(socket, *np.split(sound, len(sound) // BLOCK))
            events = await until(socket, "response.done")
            stopped = next(event for event in events if event["type"] == "input_audio_buffer.speech_stopped")
            before = turn * 1000 * len(sound) / 24_000
            assert 1400 <= stopped["audio_end_ms"] - before <= 1700, "every block has arrived, in order"
            deltas = [each["delta"] for each in events if each["type"] == "response.output_audio.delta"]
            heard = b"".join(base64.b64decode(delta) for delta in deltas)
            assert len(heard) == 2 * 9600, "and all of the reply"
            await send(socket, "parley.playback", response_id=events[-1]["response"]["id"], samples=9600)
            assert (await the(socket, "parley.reply"))["outcome"] == "completed"
        await say(socket, "Are you still there?")
    async with served.client(tokens["anna"]) as anna:
        while (await anna.get("/api/memory")).json()["size"]["turns"] < 8:  # noqa: ASYNC110  it is told nowhere
            await asyncio.sleep(0)


async def test_a_webrtc_call_with_losses_goes_on(served: RunningGateway, tokens: dict[str, str]) -> None:
    async with served.client(tokens["anna"]) as anna, peer() as caller, slow_call() as way:
        offer = way.seen_by_server(await caller.offer())
        answer = await anna.post("/v1/realtime/calls", content=offer, headers=SDP)
        assert answer.status_code == 201, answer.text
        seen = RTCSessionDescription(way.seen_by_client(answer.text), "answer")
        await caller.connection.setRemoteDescription(seen)
        await caller.the("session.created")
        for _ in range(2):
            caller.microphone.speak(SPOKEN)
            await caller.until("output_audio_buffer.stopped")
            caller.write("Hello")
            await caller.until("output_audio_buffer.stopped")
        assert caller.connection.connectionState == "connected"
        assert caller.loud and way.lost
        records = served.gateway.here["anna"].service.turns.last(10)
        assert [record.outcome for record in records] == ["completed"] * 4
