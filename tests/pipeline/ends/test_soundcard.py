"""The sound card's end at a library that a test drives: choosing devices, vanishing, stalling, reporting."""

from __future__ import annotations

import asyncio
import builtins
from collections import deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soxr

from pipeline.audio import EAR_RATE, MOUTH_RATE, Samples
from pipeline.audio.portaudio import PortAudio, SoundCardError
from pipeline.conversation.events import ReplyAudio, ReplyDone, ReplyMade
from pipeline.ends import soundcard as module
from pipeline.ends.file import read_sound
from pipeline.ends.playback import Playback
from pipeline.ends.soundcard import SoundCard, levels
from tests.support import virtual_time
from tests.support.recordings import recording


class Busy(Exception):
    pass


class Library:
    """Stands for the module sounddevice: devices that a test plugs, streams that a test runs block by block."""

    PortAudioError = Busy

    def __init__(self) -> None:
        self.names = [("Built-in", 2, 2), ("Headset microphone", 1, 0), ("Headset speaker", 0, 2)]
        self.streams: list[Any] = []
        self.initialised = 0
        self.default = SimpleNamespace(device=(0, 0))
        self.refused: set[int] = set()

    def _initialize(self) -> None:
        self.initialised += 1

    def _terminate(self) -> None: ...

    def query_hostapis(self) -> list[dict[str, int]]:
        return [{"default_input_device": 0, "default_output_device": 0}]

    def query_devices(self) -> list[dict[str, Any]]:
        return [
            {
                "index": n,
                "name": name,
                "max_input_channels": i,
                "max_output_channels": o,
                "default_samplerate": 48_000.0,
            }
            for n, (name, i, o) in enumerate(self.names)
        ]

    def InputStream(self, **options: Any) -> Any:
        return self._stream("input", options)

    def OutputStream(self, **options: Any) -> Any:
        return self._stream("output", options)

    def _stream(self, kind: str, options: dict[str, Any]) -> Any:
        if options["channels"] in self.refused:
            raise Busy("Error opening stream: Invalid number of channels [PaErrorCode -9998]")
        stream = SimpleNamespace(
            kind=kind, options=options, closed=False, start=lambda: None, abort=lambda ignore_errors: None
        )

        def close(ignore_errors: bool) -> None:
            stream.closed = True
            self.streams.remove(stream)

        stream.close = close
        self.streams.append(stream)
        return stream

    def stream(self, kind: str) -> Any:
        return next(stream for stream in self.streams if stream.kind == kind)

    def speak(self, block: Samples) -> None:
        stream = self.stream("input")
        stream.options["callback"](np.tile(block[:, None], stream.options["channels"]), len(block), None, None)

    def listen(self, latency: float = 0.0) -> Samples:
        stream = self.stream("output")
        count = stream.options["blocksize"]
        block = np.zeros((count, stream.options["channels"]), np.float32)
        times = SimpleNamespace(currentTime=10.0, outputBufferDacTime=10.0 + latency)
        stream.options["callback"](block, count, times, None)
        return block[:, 0]

    def vanish(self, kind: str) -> None:
        self.stream(kind).options["finished_callback"]()


@pytest.fixture
def library() -> Library:
    return Library()


@pytest.fixture
def portaudio(library: Library, monkeypatch: pytest.MonkeyPatch) -> PortAudio:
    monkeypatch.setitem(__import__("sys").modules, "sounddevice", library)
    return PortAudio()


class Ends:
    def __init__(self) -> None:
        self.heard: list[Samples] = []
        self.played: list[int] = []
        self.told: list[str] = []

    def tell(self, severity: str, text: str) -> None:
        self.told.append(text)


async def settle(reached: Callable[[], object]) -> None:
    """Let the loop and PortAudio's threads come to where a state is reached."""
    while not reached():  # noqa: ASYNC110 - there is no event in what is tested; it only has to be let run
        await asyncio.sleep(0)


async def start(portaudio: PortAudio, *names: str | None) -> tuple[SoundCard, Ends, asyncio.Task[None]]:
    microphone, headset = names or ("headset mic", "headset sp")
    card, ends = SoundCard(microphone, headset, portaudio), Ends()
    task = asyncio.create_task(card.run(ends.heard.append, ends.played.append, ends.tell))
    await settle(lambda: ends.told or task.done())
    return card, ends, task


async def stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_devices_are_found_by_a_part_of_their_name(library: Library, portaudio: PortAudio) -> None:
    _, ends, task = await start(portaudio)
    assert ends.told == ["Listening at “Headset microphone”, speaking through “Headset speaker”."]
    assert {stream.options["device"] for stream in library.streams} == {1, 2}
    await stop(task)
    assert library.streams == []


async def test_without_names_the_systems_defaults_are_used(library: Library, portaudio: PortAudio) -> None:
    _, ends, task = await start(portaudio, None, None)
    assert ends.told == ["Listening at “Built-in”, speaking through “Built-in”."]
    await stop(task)


@pytest.mark.parametrize(
    ("names", "devices", "sentence"),
    [
        (("Nobody's", None), None, "no microphone named “Nobody's”: plug it in, or choose one of “Built-in”, “Headset"),
        ((None, "Nobody's"), None, "no sound output named"),
        ((None, None), [("Speaker", 0, 2)], "This computer has no microphone"),
        ((None, None), [("Microphone", 1, 0)], "This computer has no sound output"),
    ],
)
async def test_a_missing_device_is_said_in_one_sentence(
    library: Library,
    portaudio: PortAudio,
    names: tuple[str | None, str | None],
    devices: list[tuple[str, int, int]] | None,
    sentence: str,
) -> None:
    library.names = devices or library.names
    _, _, task = await start(portaudio, *names)
    with pytest.raises(SoundCardError, match=sentence):
        await task


async def test_a_device_that_cannot_be_opened_is_said(library: Library, portaudio: PortAudio) -> None:
    library.refused = {1, 2}
    _, _, task = await start(portaudio)
    with pytest.raises(SoundCardError, match=r"“Headset microphone” cannot be opened \(Invalid number of channels\)"):
        await task


async def test_a_device_without_mono_is_opened_with_two_channels(library: Library, portaudio: PortAudio) -> None:
    library.refused = {1}
    _, ends, task = await start(portaudio, None, None)
    library.speak(np.full(4800, 0.5, np.float32))
    await settle(lambda: ends.heard)
    assert library.stream("input").options["channels"] == 2
    await stop(task)


async def test_no_portaudio_is_said_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "sounddevice":
            raise OSError("PortAudio library not found")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(SoundCardError, match="apt install libportaudio2"):
        PortAudio()


async def test_the_microphone_is_resampled_and_bounded(library: Library, portaudio: PortAudio) -> None:
    _, ends, task = await start(portaudio)
    tone = 2 * np.sin(2 * np.pi * 440 * np.arange(48_000) / 48_000).astype(np.float32)
    for part in range(0, 48_000, 480):
        library.speak(tone[part : part + 480])
    await settle(lambda: sum(map(len, ends.heard)) > 0.9 * EAR_RATE)
    sound = np.concatenate(ends.heard)
    assert np.abs(sound).max() <= 1
    assert np.abs(np.fft.rfft(sound)).argmax() * EAR_RATE / len(sound) == pytest.approx(440, abs=2)
    await stop(task)


def test_what_was_heard_is_told_when_it_has_left_the_headset(library: Library, portaudio: PortAudio) -> None:
    """The figure comes as late as the device says that the sound does."""

    async def run() -> tuple[list[tuple[float, int]], int]:
        clock = asyncio.get_running_loop().time
        told: list[tuple[float, int]] = []
        loop = asyncio.get_running_loop()
        playback = Playback()
        mouth = module._Mouth(48_000, playback, lambda samples: told.append((clock(), samples)), loop)
        playback.follow(ReplyAudio(1, 0, np.full(2400, 0.5, np.float32), 0))
        playback.follow(ReplyMade(1, 0, 2400))
        for _ in range(20):
            mouth.render(480, 0.25)
            await asyncio.sleep(0.01)
        await asyncio.sleep(1)
        return told, playback.played

    told, played = virtual_time.run(run())
    assert [samples for _, samples in told] == sorted(samples for _, samples in told)
    assert told[-1][1] == played == 2400
    assert 0.25 < told[0][0] < 0.32


def test_reports_of_an_old_reply_are_not_taken_for_the_new() -> None:
    async def run() -> list[int]:
        told: list[int] = []
        playback = Playback()
        mouth = module._Mouth(MOUTH_RATE, playback, told.append, asyncio.get_running_loop())
        playback.follow(ReplyAudio(1, 0, np.full(2400, 0.5, np.float32), 0))
        mouth.render(480, 0.25)
        playback.follow(ReplyDone(1, 0, "interrupted", "", "", ""))
        playback.follow(ReplyAudio(2, 0, np.full(2400, 0.5, np.float32), 0))
        await asyncio.sleep(1)
        return told

    assert virtual_time.run(run()) == []


@pytest.mark.parametrize("kind", ["input", "output"])
async def test_a_device_that_vanishes_is_waited_for(
    library: Library, portaudio: PortAudio, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(module, "RETRIES", (0.0,))
    _, ends, task = await start(portaudio)
    before = library.initialised
    names, library.names = library.names, library.names[:1]
    library.vanish(kind)
    await settle(lambda: library.initialised > before + 3)
    assert ends.told[1:] == [
        f"The {'microphone' if kind == 'input' else 'headset'} is gone. Parley continues as soon as it is back."
    ]
    assert library.streams == []
    library.names = names
    await settle(lambda: len(ends.told) == 3)
    assert ends.told[2] == ends.told[0]
    library.speak(np.full(4800, 0.5, np.float32))
    await settle(lambda: ends.heard)
    await stop(task)


async def test_a_microphone_that_falls_silent_is_opened_again(
    library: Library, portaudio: PortAudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRIES", (0.0,))
    monkeypatch.setattr(module, "STALLED", 0.01)
    _, ends, task = await start(portaudio)
    library.speak(np.zeros(480, np.float32))
    await settle(lambda: len(ends.told) >= 3)
    assert ends.told[1].startswith("The microphone fell silent.")
    await stop(task)


async def test_a_reply_goes_on_where_the_headset_left_it(
    library: Library, portaudio: PortAudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRIES", (0.0,))
    card, ends, task = await start(portaudio)
    card.follow(ReplyAudio(1, 0, np.full(24_000, 0.5, np.float32), 0))
    card.follow(ReplyMade(1, 0, 24_000))
    heard = sum(np.abs(library.listen()).sum() for _ in range(20))
    library.vanish("output")
    await settle(lambda: len(ends.told) == 3)
    heard += sum(np.abs(library.listen()).sum() for _ in range(120))
    assert heard == pytest.approx(0.5 * 48_000, rel=0.05)
    await settle(lambda: ends.played and ends.played[-1] == 24_000)
    await stop(task)


async def test_the_meter_shows_peaks_and_says_when_the_microphone_is_gone(
    library: Library, portaudio: PortAudio
) -> None:
    meter = levels("headset mic", portaudio)
    waiting = asyncio.ensure_future(anext(meter))
    await settle(lambda: library.streams)
    for peak in (0.1, 0.3, 0.2) * 4:
        library.speak(np.full(480, peak, np.float32))
    assert await waiting == pytest.approx(0.3)
    library.vanish("input")
    for _ in range(10):
        library.speak(np.zeros(480, np.float32))
    with pytest.raises(SoundCardError, match="plug it in again"):
        await anext(meter)
    assert library.streams == []


async def test_what_it_plays_through_loudspeakers_is_not_heard_back(library: Library, portaudio: PortAudio) -> None:
    card, ends, task = await start(portaudio)
    reply = soxr.resample(read_sound(recording("austen_0870.wav")), EAR_RATE, MOUTH_RATE).astype(np.float32)
    card.follow(ReplyAudio(1, 0, reply, 0))
    card.follow(ReplyMade(1, 0, len(reply)))
    room = deque([np.zeros_like(library.listen())] * 4)
    echo = []
    for _ in range(400):
        room.append(0.5 * library.listen())
        echo.append(room.popleft())
        library.speak(echo[-1])
        await asyncio.sleep(0)
    await stop(task)

    def loudness(sound: Samples, rate: int) -> float:
        return float(np.sqrt(np.mean(sound[rate:] ** 2)))  # the canceller has found the room within a second

    heard = np.concatenate(ends.heard)
    assert len(heard) / EAR_RATE == pytest.approx(len(np.concatenate(echo)) / 48_000, abs=0.1)
    assert loudness(heard, EAR_RATE) < 0.05 * loudness(np.concatenate(echo), 48_000)
