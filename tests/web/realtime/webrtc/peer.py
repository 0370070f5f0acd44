"""A stock WebRTC client of `/v1/realtime/calls`, by aiortc, on this machine alone."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from fractions import Fraction
from typing import Any

import httpx
import numpy as np
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from av import AudioFrame

from tests.web.realtime.wire import SERVER_EVENT, Told
from web.realtime.webrtc.peer import listen

CALLS = "/v1/realtime/calls"
SDP = {"Content-Type": "application/sdp"}
RATE = 48_000
FRAME = 960
LOUD = (np.sin(np.arange(RATE) / 20) * 8000).astype("<i2")
"""A second that the scripted voice activity takes for speech."""


class Microphone(MediaStreamTrack):
    """What is put into it, as fast as it goes; then nothing at all."""

    kind = "audio"

    def __init__(self) -> None:
        super().__init__()
        self._frames: deque[np.ndarray] = deque()
        self._more = asyncio.Event()
        self._at = 0

    def speak(self, *sounds: np.ndarray) -> None:
        for sound in sounds:
            self._frames.extend(sound.reshape(-1, FRAME))
        self._more.set()

    def sleep(self, seconds: float) -> None:
        """The RTP clock goes on, and nothing is sent."""
        self._at += int(seconds * RATE)

    async def recv(self) -> AudioFrame:
        while not self._frames:
            self._more.clear()
            await self._more.wait()
        frame = AudioFrame.from_ndarray(self._frames.popleft()[np.newaxis, :], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = RATE, self._at, Fraction(1, RATE)
        self._at += FRAME
        return frame


class Peer:
    """Every event is checked against the stock SDK's own definitions as it comes."""

    def __init__(self) -> None:
        self.connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.microphone = Microphone()
        self.channel = self.connection.createDataChannel("oai-events")
        self.location = ""
        self.loud = 0
        """Frames heard with a sound in them."""
        self._told: asyncio.Queue[Told] = asyncio.Queue()
        self._sounded, self._ended = asyncio.Event(), asyncio.Event()
        self._listening: asyncio.Task[None] | None = None
        self.connection.addTrack(self.microphone)
        self.channel.on("message", lambda text: self._told.put_nowait(json.loads(text)))
        self.connection.on("track", self._track)
        self.connection.on("connectionstatechange", self._state)

    async def offer(self) -> str:
        offer = await self.connection.createOffer()
        for transceiver in self.connection.getTransceivers():
            await listen(transceiver.receiver.transport.transport, ["127.0.0.1"])
        assert self.connection.sctp is not None
        await listen(self.connection.sctp.transport.transport, ["127.0.0.1"])
        await self.connection.setLocalDescription(offer)
        return str(self.connection.localDescription.sdp)

    async def call(self, client: httpx.AsyncClient, **session: Any) -> httpx.Response:
        """With a session as a form, without as the SDP alone."""
        sdp = await self.offer()
        if session:
            form = {"sdp": (None, sdp), "session": (None, json.dumps({"type": "realtime", **session}))}
            answer = await client.post(CALLS, files=form)
        else:
            answer = await client.post(CALLS, content=sdp, headers=SDP)
        if answer.status_code == 201:
            self.location = answer.headers["location"]
            await self.connection.setRemoteDescription(RTCSessionDescription(answer.text, "answer"))
        return answer

    def send(self, type: str, **fields: Any) -> None:
        self.channel.send(json.dumps({"type": type, **fields}))

    def write(self, text: str) -> None:
        content = [{"type": "input_text", "text": text}]
        self.send("conversation.item.create", item={"type": "message", "role": "user", "content": content})
        self.send("response.create")

    async def until(self, *types: str) -> list[Told]:
        seen: list[Told] = []
        async with asyncio.timeout(60):
            while not seen or seen[-1]["type"] not in types:
                seen.append(await self._told.get())
                SERVER_EVENT.validate_python(seen[-1])
        return seen

    async def the(self, type: str) -> Told:
        return (await self.until(type))[-1]

    async def hears(self) -> None:
        """Wait for a sound."""
        self._sounded.clear()
        async with asyncio.timeout(60):
            await self._sounded.wait()

    async def ended(self) -> None:
        """Wait until the other side has ended it."""
        async with asyncio.timeout(60):
            await self._ended.wait()

    def _state(self) -> None:
        if self.connection.connectionState in {"closed", "failed"}:
            self._ended.set()

    async def close(self) -> None:
        await self.connection.close()
        if self._listening is not None:
            await self._listening

    def _track(self, track: MediaStreamTrack) -> None:
        self._listening = asyncio.create_task(self._listen(track))

    async def _listen(self, track: MediaStreamTrack) -> None:
        while True:
            try:
                frame = await track.recv()
            except MediaStreamError:
                return
            assert isinstance(frame, AudioFrame)
            if np.abs(frame.to_ndarray()).max() > 1000:
                self.loud += 1
                self._sounded.set()


@asynccontextmanager
async def peer() -> AsyncIterator[Peer]:
    peer = Peer()
    try:
        yield peer
    finally:
        await peer.close()
