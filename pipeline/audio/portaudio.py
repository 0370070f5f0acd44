"""This computer's sound devices, through PortAudio: lists them, and opens streams to and from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import Any, Literal, Protocol

import numpy as np

from pipeline.audio import Samples

BLOCK = 0.01
"""Seconds of a device's block: short compared with a pause in speech, long compared with a callback's cost."""

LATENCY = 0.04
"""Seconds that PortAudio may buffer: enough for a busy moment, while a pause still takes effect within 0.1 s."""

Kind = Literal["input", "output"]


class SoundCardError(Exception):
    """Sound is unavailable; the message is one sentence that says what to do."""


@dataclass(frozen=True, slots=True)
class Device:
    number: int
    """PortAudio's number, valid until the devices are listed again."""
    name: str
    inputs: int
    """Number of channels."""
    outputs: int
    rate: int
    """The device's own rate in Hz."""
    default_input: bool = False
    default_output: bool = False


class Stream(Protocol):
    def close(self) -> None:
        """Stop at once and release the device, without calling `finished`. Safe to call twice."""


Capture = Callable[[Samples], None]
"""Receives each block, mono, at the device's rate. Runs in the device's thread."""

Render = Callable[[int, float], Samples]
"""Returns that many mono samples at the device's rate, which will be heard in that many seconds. Runs there too."""

Finished = Callable[[], None]
"""Called when the device has gone. Runs in the device's thread."""


class Devices(Protocol):
    """What sound input and output need of PortAudio. Calls may block, so make them off the event loop."""

    def devices(self) -> list[Device]: ...

    def pick(self, kind: Kind, name: str | None) -> Device: ...

    def listen(self, device: Device, capture: Capture, finished: Finished) -> Stream: ...

    def play(self, device: Device, render: Render, finished: Finished) -> Stream: ...


class PortAudio:
    """The library, of which a process has one instance."""

    def __init__(self) -> None:
        """Raises SoundCardError if the library is not installed."""
        try:
            import sounddevice
        except OSError as error:
            raise SoundCardError(
                "Sound needs the PortAudio library, which is not installed here: install it with `sudo apt install "
                "libportaudio2` (Debian, Ubuntu) or `sudo dnf install portaudio` (Fedora) and start again, or use "
                "the browser's microphone on the setup page."
            ) from error
        self._library: Any = sounddevice
        self._lock = Lock()
        self._open: set[_Stream] = set()

    def devices(self) -> list[Device]:
        """Return all current devices; while a stream is open, PortAudio keeps its earlier list."""
        with self._lock:
            self._refresh()
            return [self._device(entry) for entry in self._library.query_devices()]

    def pick(self, kind: Kind, name: str | None) -> Device:
        """Find a device by name. Raises SoundCardError."""
        return pick(self.devices(), kind, name)

    def listen(self, device: Device, capture: Capture, finished: Finished) -> Stream:
        """Start to capture. Raises SoundCardError."""

        def callback(block: Any, frames: int, times: Any, status: Any) -> None:
            capture(np.asarray(block, np.float32).mean(axis=1))

        return self._start("input", device, callback, finished)

    def play(self, device: Device, render: Render, finished: Finished) -> Stream:
        """Start to play. Raises SoundCardError."""

        def callback(block: Any, frames: int, times: Any, status: Any) -> None:
            block[:] = render(frames, max(0.0, times.outputBufferDacTime - times.currentTime))[:, np.newaxis]

        return self._start("output", device, callback, finished)

    def close(self, stream: _Stream) -> None:
        with self._lock:
            self._open.discard(stream)
            stream.raw.abort(ignore_errors=True)
            stream.raw.close(ignore_errors=True)

    def _start(self, kind: Kind, device: Device, callback: Any, finished: Finished) -> Stream:
        opened = self._library.InputStream if kind == "input" else self._library.OutputStream
        problem: Exception | None = None
        for channels in dict.fromkeys((1, min(2, device.inputs if kind == "input" else device.outputs))):
            stream = _Stream(self, finished)
            try:
                with self._lock:
                    stream.raw = opened(
                        device=device.number,
                        samplerate=device.rate,
                        channels=channels,
                        dtype="float32",
                        blocksize=round(BLOCK * device.rate),
                        latency=LATENCY,
                        callback=callback,
                        finished_callback=stream.ended,
                    )
                    self._open.add(stream)
                stream.raw.start()
            except self._library.PortAudioError as error:
                problem = error
                if stream.raw is not None:
                    stream.close()
                continue
            return stream
        raise SoundCardError(
            f"The {_WORD[kind]} “{device.name}” cannot be opened ({_short(problem)}): "
            "is it plugged in, and is another program using it?"
        ) from problem

    def _device(self, entry: dict[str, Any]) -> Device:
        return Device(
            entry["index"],
            entry["name"],
            entry["max_input_channels"],
            entry["max_output_channels"],
            round(entry["default_samplerate"]),
            entry["index"] == self._default("input"),
            entry["index"] == self._default("output"),
        )

    def _default(self, kind: Kind) -> int:
        """Return the number of the system's default device; negative if there is none."""
        chosen: int = self._library.default.device[0 if kind == "input" else 1]
        hosts = self._library.query_hostapis()
        return chosen if chosen >= 0 or not hosts else int(hosts[0][f"default_{kind}_device"])

    def _refresh(self) -> None:
        """Refresh the list. PortAudio finds devices only while it initialises, which would end every open stream."""
        if not self._open:
            self._library._terminate()
            self._library._initialize()


class _Stream:
    def __init__(self, library: PortAudio, finished: Finished) -> None:
        self._library = library
        self._finished = finished
        self._closed = False
        self.raw: Any = None

    def ended(self) -> None:
        if not self._closed:
            self._finished()

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._library.close(self)


def pick(devices: list[Device], kind: Kind, name: str | None) -> Device:
    """Return the device of that name, or else the first whose name contains it; None means the system's default.

    Raises SoundCardError.
    """
    usable = [device for device in devices if (device.inputs if kind == "input" else device.outputs)]
    if not usable:
        raise SoundCardError(f"This computer has no {_WORD[kind]}: plug in a headset, or use the browser's.")
    if name is None:
        defaults = (d for d in usable if (d.default_input if kind == "input" else d.default_output))
        return next(defaults, usable[0])
    wanted = name.casefold()
    exact = [device for device in usable if device.name.casefold() == wanted]
    found = exact or [device for device in usable if wanted in device.name.casefold()]
    if not found:
        there = ", ".join(f"“{device.name}”" for device in usable)
        raise SoundCardError(f"There is no {_WORD[kind]} named “{name}”: plug it in, or choose one of {there}.")
    return found[0]


_WORD: dict[Kind, str] = {"input": "microphone", "output": "sound output"}


def _short(problem: Exception | None) -> str:
    return str(problem).split(": ", 1)[-1].split(" [")[0] if problem else "no channels"
