"""A real sound server of a test's own: PulseAudio in a private folder, with a virtual headset to plug in and out.

Debian packages: pulseaudio, pulseaudio-utils (pactl, paplay, parec), libasound2-plugins (ALSA's way to PulseAudio) and
libportaudio2. PortAudio finds the headset through an ALSA configuration that only this server's processes see.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import numpy as np

from pipeline.audio import MOUTH_RATE, Samples

MICROPHONE = "headset_microphone"
SPEAKER = "headset_speaker"
"""The headset's devices, as PortAudio names them."""

_ALSA = f"""
</usr/share/alsa/alsa.conf>
pcm.{MICROPHONE} {{ type pulse device virtual_microphone hint {{ show on description "Virtual microphone" }} }}
pcm.{SPEAKER} {{ type pulse device virtual_speaker hint {{ show on description "Virtual speaker" }} }}
pcm.!default {{ type pulse }}
ctl.!default {{ type pulse }}
"""

_HEADSET = (
    ("module-null-sink", "sink_name=virtual_speaker", "rate=48000", "channels=2"),
    ("module-null-sink", "sink_name=room", "rate=48000", "channels=1"),
    ("module-remap-source", "source_name=virtual_microphone", "master=room.monitor", "remix=no"),
)
"""What is played into the room is heard by the microphone; what the speaker plays can be recorded from its monitor."""

NEEDED = ("pulseaudio", "pactl", "paplay", "parec")

QUIET = 0.003
"""Peak below which a block counts as silence; the virtual devices have no noise of their own."""


def missing() -> list[str]:
    """The programs that are not installed here."""
    return [program for program in NEEDED if shutil.which(program) is None]


class Recording:
    def __init__(self, stream: asyncio.StreamReader) -> None:
        self._stream = stream

    async def next(self) -> Samples:
        """The next 20 ms, 24 kHz."""
        return np.frombuffer(await self._stream.readexactly(4 * 480), np.float32)

    async def until_quiet(self, seconds: float) -> Samples:
        """Wait for sound, and give all of it, up to `seconds` of silence."""
        blocks: list[Samples] = []
        quiet = 0
        while not blocks or quiet < seconds * MOUTH_RATE:
            block = await self.next()
            sounding = bool(np.abs(block).max() > QUIET)
            quiet = 0 if sounding else quiet + len(block)
            if sounding or blocks:
                blocks.append(block)
        return np.concatenate(blocks)


class SoundServer:
    def __init__(self, folder: Path) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._modules: list[str] = []
        self._holders: list[subprocess.Popen[bytes]] = []
        alsa = folder / "alsa.conf"
        alsa.write_text(_ALSA)
        self.socket = folder / "native"
        self.environment = {
            "HOME": str(folder),
            "XDG_RUNTIME_DIR": str(folder),
            "XDG_CONFIG_HOME": str(folder),
            "PULSE_SERVER": f"unix:{self.socket}",
            "ALSA_CONFIG_PATH": str(alsa),
        }

    @property
    def variables(self) -> dict[str, str]:
        """The environment of a process that is to see this server and no other."""
        return {**os.environ, **self.environment}

    def start(self) -> None:
        """Start the server and plug the headset in."""
        self.socket.unlink(missing_ok=True)
        self._process = subprocess.Popen(
            [
                "pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no", "--log-target=stderr",
                "-L", f"module-native-protocol-unix auth-anonymous=1 socket={self.socket}",
            ],
            env=self.variables, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        _wait_until(self._answers, "PulseAudio does not start")
        self.plug_in()

    def kill(self) -> None:
        """As a crash would end it; safe to call twice."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(60)
        for holder in self._holders:
            holder.terminate()
            holder.wait(60)
        self._process, self._modules, self._holders = None, [], []

    def plug_in(self) -> None:
        """Load the headset's modules, and hold them to a short latency: left alone they run two seconds ahead."""
        self._modules = [self._pactl("load-module", *module) for module in _HEADSET]
        self._holders = [
            subprocess.Popen(
                ["parec", f"--device={sink}.monitor", "--raw", "--latency-msec=20"],
                env=self.variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )
            for sink in ("virtual_speaker", "room")
        ]  # fmt: skip
        _wait_until(lambda: max(self._latencies()) < 0.1, "the virtual headset runs ahead")

    def unplug(self) -> None:
        """The headset's modules are unloaded; with no device left to move to, its streams are ended."""
        for holder in self._holders:
            holder.terminate()
            holder.wait(60)
        for module in reversed(self._modules):
            self._pactl("unload-module", module)
        self._modules, self._holders = [], []

    def mute(self) -> None:
        self._pactl("set-source-mute", "virtual_microphone", "1")

    def _latencies(self) -> list[float]:
        """Seconds that each sink is ahead."""
        return [
            int(found) / 1e6 for found in re.findall(r"^\s+Latency: (\d+) usec", self._pactl("list", "sinks"), re.M)
        ]

    async def say(self, recording: Path) -> None:
        """Play a recording into the microphone; returns when it was."""
        process = await asyncio.create_subprocess_exec(
            "paplay", "--latency-msec=50", "--device=room", str(recording), env=self.variables
        )
        assert await process.wait() == 0

    @asynccontextmanager
    async def recording(self) -> AsyncIterator[Recording]:
        """Record what the speaker plays, from when this is entered."""
        process = await asyncio.create_subprocess_exec(
            "parec", "--device=virtual_speaker.monitor", "--raw", "--format=float32le", f"--rate={MOUTH_RATE}",
            "--channels=1", "--latency-msec=20", env=self.variables, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert process.stdout is not None
        recording = Recording(process.stdout)
        try:
            await recording.next()
            yield recording
        finally:
            process.terminate()
            await process.communicate()  # it has not ended for asyncio before what it wrote is read (gh-119710)

    def _pactl(self, *arguments: str) -> str:
        done = subprocess.run(
            ["pactl", *arguments], env=self.variables, capture_output=True, text=True, check=True, timeout=60
        )
        return done.stdout.strip()

    def _answers(self) -> bool:
        done = subprocess.run(["pactl", "info"], env=self.variables, capture_output=True, check=False, timeout=60)
        return done.returncode == 0


@contextmanager
def sound_server() -> Iterator[SoundServer]:
    """A running server with its headset plugged in; gone, with all its files, afterwards."""
    # A socket's path may have 107 characters, and pytest's folders are longer.
    with tempfile.TemporaryDirectory(prefix="parley-sound-") as name:
        server = SoundServer(Path(name))
        try:
            server.start()
            yield server
        finally:
            server.kill()


def _wait_until(reached: Callable[[], bool], problem: str) -> None:
    deadline = time.monotonic() + 60
    while not reached():
        if time.monotonic() > deadline:
            raise RuntimeError(problem)
        time.sleep(0.05)
