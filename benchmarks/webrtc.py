"""What WebRTC adds to a WebSocket's latency: `python benchmarks/webrtc.py`.

Two clients ask one Parley the same question in turn, in real time, 20 ms at a time. Latency is measured from the
question's last loud 10 ms to the first of the reply, as it arrives; a browser's own jitter buffer comes on top. Turns
end by silence alone, so that both clients wait for the same.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import statistics
import sys
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import soxr
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from av import AudioFrame
from websockets.asyncio.client import connect

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.simulated_user import RATE, Samples, load, machine, parley
from pipeline.audio.pcm import from_pcm16, to_pcm16
from web.realtime.webrtc.hearing import RTP_RATE
from web.realtime.webrtc.peer import hear_at_once, listen

BLOCK_S = 0.02
LOUD = 0.02
"""Share of full scale: espeak's first sound is louder, its silence is not."""
SESSION = {
    "type": "realtime",
    "audio": {"input": {"turn_detection": {"type": "server_vad", "silence_duration_ms": 500}}},
}


class Client(ABC):
    """Asks a question and waits for the first sound of the reply."""

    def __init__(self) -> None:
        self._now = asyncio.get_running_loop().time
        self._saying: list[Samples] = []
        self._said = 0.0
        self._heard: asyncio.Future[float] | None = None
        self._over = asyncio.Event()

    async def ask(self, question: Samples) -> float:
        """Ask; return the seconds from the question's end to the reply's first sound."""
        self._heard, block = asyncio.get_running_loop().create_future(), int(BLOCK_S * RATE)
        self._over.clear()
        padded = np.pad(question, (0, -len(question) % block))
        self._saying = list(padded.reshape(-1, block))
        async with asyncio.timeout(30):
            heard = await self._heard
            await self._over.wait()
        return heard - self._said

    def next_block(self) -> Samples:
        """The microphone's sound of the last 20 ms."""
        if not self._saying:
            return np.zeros(int(BLOCK_S * RATE), np.float32)
        if len(self._saying) == 1:
            self._said = self._now()
        return self._saying.pop(0)

    def hears(self, sound: Samples, rate: int) -> None:
        """Take sound that can be played from now on."""
        loud = np.flatnonzero(np.abs(sound) > LOUD)
        if len(loud) and self._heard is not None and not self._heard.done():
            self._heard.set_result(self._now() + int(loud[0]) / rate)

    def told(self, event: dict[str, Any]) -> None:
        if event["type"] == self.last:
            self._over.set()

    last = "response.done"

    @abstractmethod
    async def send(self, message: dict[str, Any]) -> None: ...


class OverWebSocket(Client):
    def __init__(self, socket: Any) -> None:
        super().__init__()
        self._socket = socket

    async def send(self, message: dict[str, Any]) -> None:
        await self._socket.send(json.dumps(message))

    async def speak(self) -> None:
        began, blocks = self._now(), 0
        while True:
            blocks += 1
            await asyncio.sleep(began + blocks * BLOCK_S - self._now())
            pcm = to_pcm16(self.next_block())
            await self.send({"type": "input_audio_buffer.append", "audio": base64.b64encode(pcm).decode()})

    async def listen(self) -> None:
        async for text in self._socket:
            event = json.loads(text)
            if event["type"] == "response.output_audio.delta":
                self.hears(from_pcm16(base64.b64decode(event["delta"])), RATE)
            self.told(event)


class Microphone(MediaStreamTrack):
    kind = "audio"

    def __init__(self, client: Client) -> None:
        super().__init__()
        self._client = client
        self._now = asyncio.get_running_loop().time
        self._began, self._blocks = self._now(), 0
        self._resampled = soxr.ResampleStream(RATE, RTP_RATE, 1, dtype="float32", quality="QQ")

    async def recv(self) -> AudioFrame:
        self._blocks += 1
        await asyncio.sleep(max(0.0, self._began + self._blocks * BLOCK_S - self._now()))
        sound = self._resampled.resample_chunk(self._client.next_block())
        frame = AudioFrame.from_ndarray(
            np.frombuffer(to_pcm16(sound), "<i2")[np.newaxis, :], format="s16", layout="mono"
        )
        frame.sample_rate, frame.time_base = RTP_RATE, Fraction(1, RTP_RATE)
        frame.pts = (self._blocks - 1) * len(sound)
        return frame


class OverWebRtc(Client):
    last = "output_audio_buffer.stopped"

    def __init__(self) -> None:
        super().__init__()
        self.connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.channel = self.connection.createDataChannel("oai-events")
        self.opened = asyncio.Event()
        self.channel.on("open", self.opened.set)
        self.channel.on("message", lambda text: self.told(json.loads(text)))
        self._listening: asyncio.Task[None] | None = None
        self.connection.on("track", self._track)

    async def call(self, url: str) -> None:
        self.connection.addTrack(Microphone(self))
        offer = await self.connection.createOffer()
        for transceiver in self.connection.getTransceivers():
            hear_at_once(transceiver.receiver)
            await listen(transceiver.receiver.transport.transport, ["127.0.0.1"])
        assert self.connection.sctp is not None
        await listen(self.connection.sctp.transport.transport, ["127.0.0.1"])
        await self.connection.setLocalDescription(offer)
        async with httpx.AsyncClient() as client:
            sdp, kind = self.connection.localDescription.sdp, {"Content-Type": "application/sdp"}
            answer = await client.post(f"{url}/v1/realtime/calls", content=sdp, headers=kind)
        await self.connection.setRemoteDescription(RTCSessionDescription(answer.raise_for_status().text, "answer"))
        await self.opened.wait()

    async def send(self, message: dict[str, Any]) -> None:
        self.channel.send(json.dumps(message))

    def _track(self, track: MediaStreamTrack) -> None:
        self._listening = asyncio.create_task(self._listen(track))

    async def _listen(self, track: MediaStreamTrack) -> None:
        while True:
            try:
                frame = await track.recv()
            except MediaStreamError:
                return
            assert isinstance(frame, AudioFrame)
            self.hears(from_pcm16(frame.to_ndarray().reshape(-1, 2)[:, 0].tobytes()), RTP_RATE)


@asynccontextmanager
async def over_websocket(port: int) -> AsyncIterator[Client]:
    async with connect(f"ws://127.0.0.1:{port}/v1/realtime", max_size=None) as socket:
        client = OverWebSocket(socket)
        tasks = [asyncio.create_task(work) for work in (client.speak(), client.listen())]
        try:
            yield client
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def over_webrtc(port: int) -> AsyncIterator[Client]:
    client = OverWebRtc()
    try:
        await client.call(f"http://127.0.0.1:{port}")
        yield client
    finally:
        await client.connection.close()


async def measure(port: int, turns: int) -> dict[str, list[float]]:
    question = load("weather_question.wav")
    found: dict[str, list[float]] = {"WebSocket": [], "WebRTC": []}
    async with over_websocket(port) as socket, over_webrtc(port) as call:
        clients = {"WebSocket": socket, "WebRTC": call}
        for client in clients.values():
            await client.send({"type": "session.update", "session": SESSION})
        for turn in range(turns + 1):  # the first warms up
            for name, client in clients.items():
                await asyncio.sleep(1.0)
                seconds = await client.ask(question)
                await asyncio.sleep(2.0 if name == "WebSocket" else 0.0)  # by then the reply has been played
                if turn:
                    found[name].append(1000 * seconds)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=8, help="of each (8)")
    options = parser.parse_args()
    print(machine())
    with parley("--profile", "offline") as port:
        found = asyncio.run(measure(port, options.turns))
    for name, times in found.items():
        print(f"{name:10} median {statistics.median(times):5.0f} ms   ({min(times):.0f} to {max(times):.0f})")
    added = statistics.median(found["WebRTC"]) - statistics.median(found["WebSocket"])
    print(f"added by WebRTC {added:.0f} ms   (goal: at most 60)")


if __name__ == "__main__":
    main()
