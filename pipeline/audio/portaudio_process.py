"""PortAudio in separate processes, one for each open stream.

If a driver hangs when its device is unplugged, it then blocks only a process that can be killed, and not the
conversation. Each process also sees the current devices, which PortAudio lists only once per process.

    python -m pipeline.audio.portaudio_process devices            prints them as JSON
    python -m pipeline.audio.portaudio_process listen NUMBER      "ready", then blocks of float32 without end
    python -m pipeline.audio.portaudio_process play NUMBER        "ready", then each block's delay as float64
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from queue import SimpleQueue
from threading import Thread, Timer
from typing import IO

import numpy as np

from config.places import ROOT
from pipeline.audio import Samples
from pipeline.audio.portaudio import (
    BLOCK,
    Capture,
    Device,
    Finished,
    Kind,
    PortAudio,
    Render,
    SoundCardError,
    Stream,
    pick,
)

PATIENCE = 20.0
"""Seconds after which a process that does not answer is killed."""

READY = b"ready\n"

AHEAD = 2
"""Blocks buffered in the playing process, so that a busy moment of the conversation's process is not heard."""


class PortAudioApart:
    """The interface of PortAudio, without its library in this process."""

    def devices(self) -> list[Device]:
        """Return all devices. Raises SoundCardError."""
        try:
            done = subprocess.run(
                _command("devices"),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=PATIENCE,
                cwd=ROOT,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise SoundCardError("The sound system does not respond: restart it, or the computer.") from error
        told = json.loads(
            done.stdout or b'{"problem": "The sound system does not respond: restart it, or the computer."}'
        )
        if "problem" in told:
            raise SoundCardError(told["problem"])
        return [Device(**device) for device in told["devices"]]

    def pick(self, kind: Kind, name: str | None) -> Device:
        """Find a device by name. Raises SoundCardError."""
        return pick(self.devices(), kind, name)

    def listen(self, device: Device, capture: Capture, finished: Finished) -> Stream:
        """Start to capture. Raises SoundCardError."""
        size = 4 * block_size(device)

        def read(process: subprocess.Popen[bytes]) -> None:
            stdout, _ = _pipes(process)
            while len(block := stdout.read(size)) == size:
                capture(np.frombuffer(block, np.float32))

        return _Process("listen", device, read, finished)

    def play(self, device: Device, render: Render, finished: Finished) -> Stream:
        """Start to play. Raises SoundCardError."""
        count = block_size(device)

        def answer(process: subprocess.Popen[bytes]) -> None:
            stdout, stdin = _pipes(process)
            while len(delay := stdout.read(8)) == 8:
                stdin.write(render(count, float(np.frombuffer(delay, np.float64)[0])).astype(np.float32).tobytes())
                stdin.flush()

        return _Process("play", device, answer, finished)


class _Process:
    """A stream in its own process, and the thread here that serves it."""

    def __init__(
        self, act: str, device: Device, serve: Callable[[subprocess.Popen[bytes]], None], finished: Finished
    ) -> None:
        self._closed = False
        # In its own session, because Ctrl-C is for the conversation, which closes its streams itself.
        self._process = subprocess.Popen(
            _command(act, str(device.number)), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, start_new_session=True, cwd=ROOT,
        )  # fmt: skip
        patience = Timer(PATIENCE, self._process.kill)
        patience.start()
        first = _pipes(self._process)[0].readline()
        patience.cancel()
        if first != READY:
            self.close()
            raise SoundCardError(first.decode().strip() or f"The sound device “{device.name}” does not answer.")

        def run() -> None:
            with contextlib.suppress(BrokenPipeError, ValueError):  # it ended between a request and our answer
                serve(self._process)
            if not self._closed:
                finished()

        Thread(target=run, name=f"sound: {act}", daemon=True).start()

    def close(self) -> None:
        self._closed = True
        self._process.kill()
        self._process.wait()


def block_size(device: Device) -> int:
    """Return the samples of a block at the device's rate."""
    return round(BLOCK * device.rate)


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "pipeline.audio.portaudio_process", *arguments]


def _pipes(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes]]:
    assert process.stdout is not None
    assert process.stdin is not None
    return process.stdout, process.stdin


# -- in the separate process


def _list() -> None:
    try:
        print(json.dumps({"devices": [asdict(device) for device in PortAudio().devices()]}))
    except SoundCardError as error:
        print(json.dumps({"problem": str(error)}))


def _listen(library: PortAudio, device: Device, out: IO[bytes]) -> None:
    blocks: SimpleQueue[Samples | None] = SimpleQueue()
    library.listen(device, blocks.put, lambda: blocks.put(None))
    out.write(READY)
    out.flush()
    while (block := blocks.get()) is not None:
        out.write(block.astype(np.float32).tobytes())
        out.flush()


def _play(library: PortAudio, device: Device, out: IO[bytes]) -> None:
    silence = np.zeros(block_size(device), np.float32)
    ready: SimpleQueue[Samples] = SimpleQueue()
    wanted: SimpleQueue[float | None] = SimpleQueue()

    def render(count: int, delay: float) -> Samples:
        wanted.put(delay + ready.qsize() * BLOCK)
        return ready.get() if ready.qsize() else silence

    for _ in range(AHEAD):
        ready.put(silence)
    library.play(device, render, lambda: wanted.put(None))
    out.write(READY)
    out.flush()
    while (delay := wanted.get()) is not None:
        out.write(np.float64(delay).tobytes())
        out.flush()
        block = sys.stdin.buffer.read(silence.nbytes)
        if len(block) < silence.nbytes:
            return
        ready.put(np.frombuffer(block, np.float32))


def main(arguments: list[str]) -> None:
    act, *number = arguments
    if act == "devices":
        _list()
        return
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not mix with the blocks
    try:
        library = PortAudio()
        device = library.devices()[int(number[0])]
        (_listen if act == "listen" else _play)(library, device, out)
    except SoundCardError as error:
        out.write(f"{error}\n".encode())
        out.flush()
    except BrokenPipeError:
        pass  # the conversation has ended
    os._exit(0)  # PortAudio's own termination may hang in its driver


if __name__ == "__main__":
    main(sys.argv[1:])
