"""A simulated user with a headset: speaks recordings in real time to a running Parley and keeps both audio tracks.

Everything is measured on these two tracks, as a listener between the two would hear it.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidMessage, InvalidStatus

from pipeline.audio.pcm import from_pcm16, to_pcm16
from tests.support.recordings import recording

ROOT = Path(__file__).resolve().parent.parent
RATE = 24_000
TICK = RATE // 100
"""Samples in 10 ms, the step of the simulated headset."""
BLOCK_TICKS = 2
"""The microphone sends 20 ms at a time, as browsers do."""
SESSION_S = 20.0
"""Seconds within which a server must begin the session."""

Samples = NDArray[np.float32]


@cache
def load(name: str) -> Samples:
    """A recording of the tests at 24 kHz, with the silence at its edges removed."""
    sound, rate = soundfile.read(recording(name), dtype="float32", always_2d=True)
    return trimmed(soxr.resample(sound.mean(axis=1), rate, RATE).astype(np.float32))


def loud(sound: Samples, share: float = 0.05) -> NDArray[np.bool_]:
    """Which 10 ms steps contain sound: those above a share of the loudest step's RMS (26 dB below it)."""
    steps = sound[: len(sound) // TICK * TICK].reshape(-1, TICK)
    level = np.sqrt((steps**2).mean(axis=1))
    return level > max(share * level.max(), 1e-4) if len(level) else np.zeros(0, bool)


def trimmed(sound: Samples) -> Samples:
    where = np.flatnonzero(loud(sound))
    return sound[where[0] * TICK : (where[-1] + 1) * TICK]


@dataclass(slots=True)
class Tracks:
    """The sound into the microphone and the sound out of the headset, on one time axis, 24 kHz."""

    user: list[Samples] = field(default_factory=list)
    reply: list[Samples] = field(default_factory=list)
    records: list[dict[str, Any]] = field(default_factory=list)
    """The product's own records, only for the breakdown."""
    history: list[tuple[str, str]] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return len(self.user) * TICK / RATE

    def forget(self) -> None:
        """Discard everything so far; time starts again."""
        self.user.clear()
        self.reply.clear()
        self.records.clear()
        self.history.clear()

    def stretches(self, which: Sequence[Samples], joined: float = 0.35) -> list[tuple[float, float]]:
        """(start, end) in seconds of every stretch of sound; gaps of up to `joined` seconds do not divide a stretch."""
        found: list[tuple[float, float]] = []
        for step in np.flatnonzero(loud(np.concatenate(list(which)))) if which else []:
            at = step * TICK / RATE
            if found and at - found[-1][1] <= joined:
                found[-1] = (found[-1][0], at + TICK / RATE)
            else:
                found.append((at, at + TICK / RATE))
        return found


class Headset:
    """Plays what arrives in real time, obeys pause and drop at once, and reports what was played."""

    def __init__(self, socket: ClientConnection, tracks: Tracks) -> None:
        self._socket = socket
        self.tracks = tracks
        self._queue = np.zeros(0, np.float32)
        self._paused = False
        self._reply = ""
        self._played = 0
        self._saying = np.zeros(0, np.float32)
        self._said = asyncio.Event()
        self.turn_done = asyncio.Event()

    @property
    def silent(self) -> bool:
        return not len(self._queue)

    def say(self, sound: Samples) -> None:
        self._saying = np.concatenate([self._saying, sound])

    async def speak(self, sound: Samples) -> None:
        """Say the sound, and wait until it has been said."""
        self.say(sound)
        self._said.clear()
        await self._said.wait()

    async def run(self) -> None:
        """Run the sound card's clock."""
        began, ticks, block = time.monotonic(), 0, []
        while True:
            ticks += 1
            await asyncio.sleep(max(0.0, began + ticks * TICK / RATE - time.monotonic()))
            word, self._saying = self._saying[:TICK], self._saying[TICK:]
            if not len(self._saying):
                self._said.set()
            word = np.pad(word, (0, TICK - len(word)))
            self.tracks.user.append(word)
            block.append(word)
            self.tracks.reply.append(self._play())
            if len(block) == BLOCK_TICKS:
                pcm = to_pcm16(np.concatenate(block))
                await self._send("input_audio_buffer.append", audio=base64.b64encode(pcm).decode())
                block = []
            if ticks % 5 == 0 and self._reply:
                await self._send("parley.playback", response_id=self._reply, samples=self._played)

    def _play(self) -> Samples:
        if self._paused:
            return np.zeros(TICK, np.float32)
        sound, self._queue = self._queue[:TICK], self._queue[TICK:]
        self._played += len(sound)
        return np.pad(sound, (0, TICK - len(sound)))

    async def _send(self, type: str, **fields: Any) -> None:
        await self._socket.send(json.dumps({"type": type, **fields}))

    async def listen(self) -> None:
        async for message in self._socket:
            event = json.loads(message)
            match event["type"]:
                case "response.created":
                    self._reply, self._played, self._paused = event["response"]["id"], 0, False
                    self._queue = np.zeros(0, np.float32)
                case "response.output_audio.delta":
                    self._queue = np.concatenate([self._queue, from_pcm16(base64.b64decode(event["delta"]))])
                case "parley.pause":
                    self._paused = True
                case "parley.resume":
                    self._paused = False
                case "parley.reply":
                    self._queue = np.zeros(0, np.float32)
                    self._reply = ""
                    if event["heard"]:
                        self.tracks.history.append(("assistant", event["heard"]))
                case "conversation.item.input_audio_transcription.completed":
                    self.tracks.history.append(("user", event["transcript"]))
                case "parley.turn":
                    self.tracks.records.append(event["record"])
                    self.turn_done.set()
                case "error":
                    raise RuntimeError(event["error"]["message"])


class Refused(Exception):
    """The server had no room; the message is the server's."""


@asynccontextmanager
async def headset(port: int, *, at: str = "", token: str = "") -> AsyncIterator[Headset]:
    """Connect a microphone and a speaker, which run until the block is left. Raises Refused, TimeoutError.

    Args:
        port: of a Parley on this machine.
        at: the address of another server instead, such as wss://parley.example.
        token: the token for that server.
    """
    address = at or f"ws://127.0.0.1:{port}"
    async with await connected(f"{address}/v1/realtime?parley=1", token=token) as socket:
        async with asyncio.timeout(SESSION_S):
            await wait_for(socket, "session.created")
        user = Headset(socket, Tracks())
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(user.run()), tasks.create_task(user.listen())]
            yield user
            for task in running:
                task.cancel()


async def connected(address: str, limit_s: float = 20.0, token: str = "") -> ClientConnection:
    """Connect, with retries: a peer that serves one caller after the other may not be listening yet. Raises Refused."""
    headers = {"Authorization": f"Bearer {token}"} if token else None
    until = time.monotonic() + limit_s
    while True:
        try:
            return await connect(address, max_size=None, additional_headers=headers)
        except InvalidStatus as refusal:
            raise Refused(refusal.response.body.decode(errors="replace").strip()) from None
        except (OSError, InvalidMessage):
            if time.monotonic() > until:
                raise
            await asyncio.sleep(0.2)


async def wait_for(socket: ClientConnection, type: str) -> None:
    """Wait for an event of that type. Raises Refused if an error comes instead."""
    async for message in socket:
        event = json.loads(message)
        if event["type"] == type:
            return
        if event["type"] == "error":
            raise Refused(event["error"]["message"])


@contextmanager
def parley(*arguments: str) -> Iterator[int]:
    """Start a Parley with its own data folder; yield its port once every engine is ready."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as data:
        server = subprocess.Popen(
            [sys.executable, "main.py", "--no-browser", "--port", str(port), "--data", data, *arguments],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
        )
        try:
            wait_until_ready(port, server)
            yield port
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(20)


def wait_until_ready(port: int, server: subprocess.Popen[bytes], limit_s: float = 120.0) -> None:
    until = time.monotonic() + limit_s
    while time.monotonic() < until:
        if server.poll() is not None:
            raise RuntimeError(f"Parley ended with {server.returncode} before it was ready.")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=2):
                return
        except OSError:  # nobody listens yet, or the answer is a 503
            pass
        time.sleep(0.25)
    raise RuntimeError("Parley was not ready in time.")


def machine() -> str:
    """One line about the machine of this run."""
    model = "unknown processor"
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists() and (named := re.search(r"model name\s*: (.+)", cpuinfo.read_text())):
        model = named[1]
    load_average = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return (
        f"{model}, {os.cpu_count()} cores{load_average}, Python {sys.version.split()[0]}, {time.strftime('%Y-%m-%d')}"
    )
