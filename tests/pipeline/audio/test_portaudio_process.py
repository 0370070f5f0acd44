"""PortAudio in its own processes, as far as a machine without sound can show; the rest is in tests/integration."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from threading import Event

import numpy as np
import pytest

from config.places import ROOT
from pipeline.audio import Samples, portaudio_process
from pipeline.audio.portaudio import Device, SoundCardError
from pipeline.audio.portaudio_process import PortAudioApart

GONE = Device(9999, "Gone", 1, 1, 48_000)


@pytest.fixture
def speaking(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A program that takes the place of the process."""
    program = tmp_path / "program.py"
    monkeypatch.setattr(portaudio_process, "_command", lambda *arguments: [sys.executable, str(program), *arguments])
    return program


def test_devices_are_those_that_the_process_found(speaking: Path) -> None:
    speaking.write_text(
        'print(\'{"devices": [{"number": 3, "name": "Hat", "inputs": 1, "outputs": 0, "rate": 48000}]}\')'
    )
    assert PortAudioApart().devices() == [Device(3, "Hat", 1, 0, 48_000)]
    assert PortAudioApart().pick("input", "hat").number == 3


@pytest.mark.parametrize(
    ("program", "sentence"),
    [
        ('print(\'{"problem": "Install PortAudio."}\')', "Install PortAudio."),
        ("raise SystemExit(3)", "does not respond"),
        ("import time; time.sleep(60)", "does not respond"),
    ],
)
def test_why_there_are_none_is_told(
    speaking: Path, program: str, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(portaudio_process, "PATIENCE", 0.5 if "sleep" in program else 120)
    speaking.write_text(program)
    with pytest.raises(SoundCardError, match=sentence):
        PortAudioApart().devices()


@pytest.mark.parametrize(
    ("program", "sentence"),
    [
        ("print('It is held by another program.')", "It is held by another program."),
        ("raise SystemExit(3)", "“Gone” does not answer"),
        ("import time; time.sleep(60)", "“Gone” does not answer"),
    ],
)
def test_a_stream_that_cannot_be_opened_is_told_and_leaves_no_process(
    speaking: Path, program: str, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[bytes]] = []
    real = subprocess.Popen

    def popen(*arguments: object, **options: object) -> subprocess.Popen[bytes]:
        started.append(real(*arguments, **options))  # type: ignore[call-overload]
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", popen)
    monkeypatch.setattr(portaudio_process, "PATIENCE", 0.5 if "sleep" in program else 120)
    speaking.write_text(program)
    with pytest.raises(SoundCardError, match=sentence):
        PortAudioApart().listen(GONE, lambda block: None, lambda: None)
    assert [process.poll() is not None for process in started] == [True]


def test_a_process_that_ends_is_a_device_that_has_gone(speaking: Path) -> None:
    speaking.write_text(
        "import sys\nsys.stdout.buffer.write(b'ready\\n' + bytes(4 * 480) + bytes(7))\nsys.stdout.flush()\n"
    )
    blocks: list[int] = []
    gone = Event()
    stream = PortAudioApart().listen(GONE, lambda block: blocks.append(len(block)), gone.set)
    assert gone.wait(60)
    assert blocks == [480]
    stream.close()
    stream.close()


def test_sound_is_given_when_it_is_asked_for(speaking: Path) -> None:
    speaking.write_text(
        "import struct, sys\n"
        "sys.stdout.buffer.write(b'ready\\n'); sys.stdout.flush()\n"
        "for delay in (0.5, 0.25):\n"
        "    sys.stdout.buffer.write(struct.pack('d', delay)); sys.stdout.flush()\n"
        "    assert len(sys.stdin.buffer.read(4 * 480)) == 4 * 480\n"
    )
    asked: list[tuple[int, float]] = []
    gone = Event()

    def render(count: int, delay: float) -> Samples:
        asked.append((count, delay))
        return np.zeros(count, np.float32)

    PortAudioApart().play(GONE, render, gone.set)
    assert gone.wait(60)
    assert asked == [(480, 0.5), (480, 0.25)]


def test_the_conversations_process_needs_no_portaudio() -> None:
    code = "import sys, pipeline.ends.soundcard; sys.exit('sounddevice' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
