"""The whole product as a user starts it: `main.py` in a process of its own, talked to over its WebSocket."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from websockets.sync.client import ClientConnection, connect

from config.places import ROOT

PATIENT: dict[str, Any] = {"open_timeout": None, "ping_interval": None}
"""Options of a WebSocket client that gives nobody up because the machine is busy: a test has a time limit as it is."""

READY_S = 120.0
ANSWER_S = 60.0


@dataclass(slots=True)
class Product:
    port: int
    process: subprocess.Popen[bytes]
    output: Path
    """Where it writes what it prints."""

    def printed(self) -> str:
        return self.output.read_text(encoding="utf-8")

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=60) as answer:
            text: str = answer.read().decode()
        return text

    def health(self) -> dict[str, Any]:
        health: dict[str, Any] = json.loads(self.get("/health"))
        return health

    def wait_until(self, state: str = "ready") -> None:
        until = time.monotonic() + READY_S
        while time.monotonic() < until:
            assert self.process.poll() is None, "Parley ended by itself"
            with contextlib.suppress(OSError):
                if all(engine["state"] == state for engine in self.health()["engines"].values()):
                    return
            time.sleep(0.1)
        raise AssertionError(f"not {state} in {READY_S:.0f} s: {self.health()}")

    def workers(self) -> list[psutil.Process]:
        return [child for child in psutil.Process(self.process.pid).children() if child.is_running()]

    @contextmanager
    def conversation(self) -> Iterator[ClientConnection]:
        with connect(f"ws://127.0.0.1:{self.port}/v1/realtime?parley=1", max_size=None, **PATIENT) as socket:
            await_event(socket, "session.created")
            yield socket

    def kill(self) -> None:
        """As a power cut would: no chance to tidy up."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(60)


def await_event(socket: ClientConnection, *types: str) -> dict[str, Any]:
    until = time.monotonic() + ANSWER_S
    while time.monotonic() < until:
        event: dict[str, Any] = json.loads(socket.recv(timeout=ANSWER_S))
        if event["type"] in types:
            return event
    raise AssertionError(f"none of {types} came in {ANSWER_S:.0f} s")


def send(socket: ClientConnection, type: str, **fields: Any) -> None:
    socket.send(json.dumps({"type": type, **fields}))


def type_in(socket: ClientConnection, text: str) -> None:
    """A typed turn, as the page sends it."""
    content = [{"type": "input_text", "text": text}]
    send(socket, "conversation.item.create", item={"type": "message", "role": "user", "content": content})
    send(socket, "response.create")


def hear_out(socket: ClientConnection) -> dict[str, Any]:
    """Take the whole reply and report it as played; the `parley.reply` that ends it."""
    samples, response = 0, ""
    while True:
        event = await_event(
            socket, "response.created", "response.output_audio.delta", "response.done", "parley.reply", "error"
        )
        match event["type"]:
            case "response.created":
                response = event["response"]["id"]
            case "response.output_audio.delta":
                samples += len(event["delta"]) * 3 // 4 // 2  # base64 of 16-bit samples
            case "response.done":
                send(socket, "parley.playback", response_id=response, samples=samples)
            case "parley.reply":
                return event
            case _:
                raise AssertionError(event)


def ask(socket: ClientConnection, text: str) -> str:
    """Type a turn, hear the reply to its end; what was heard."""
    type_in(socket, text)
    heard: str = hear_out(socket)["heard"]
    await_event(socket, "parley.turn")
    return heard


@contextmanager
def started(data: Path, *arguments: str) -> Iterator[Product]:
    """Started on a free port, which it names; on leaving it is ended as Ctrl-C does, unless it already is."""
    settled = "--profile" in arguments or (data / "settings.json").exists()
    profile = () if settled else ("--profile", "offline")  # a first start would take the small one
    with running("--no-browser", "--data", str(data), *profile, *arguments) as product:
        yield product


@contextmanager
def running(*arguments: str) -> Iterator[Product]:
    """main.py with these arguments, as `started` starts it."""
    command = [sys.executable, "main.py", *arguments, "--port", "0"]
    with tempfile.TemporaryDirectory(prefix="parley-output-") as folder:
        output = Path(folder) / "output"
        with output.open("wb") as written:
            process = subprocess.Popen(command, cwd=ROOT, stdout=written, stderr=subprocess.STDOUT)
        product = Product(0, process, output)
        try:
            product.port = _address(product)
            yield product
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            try:
                process.wait(60)
            finally:
                process.kill()


def _address(product: Product) -> int:
    """The port at which it says that it is."""
    until = time.monotonic() + READY_S
    while not (found := re.search(r"http://localhost:(\d+)\s", product.printed())):
        assert product.process.poll() is None and time.monotonic() < until, product.printed()
        time.sleep(0.05)
    return int(found[1])
