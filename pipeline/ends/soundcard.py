"""The sound card as an audio end: a microphone and a headset chosen by name, which may vanish and come back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import chain, repeat

import numpy as np
import soxr

from pipeline.audio import EAR_RATE, MOUTH_RATE, Samples
from pipeline.audio.echo import EchoCanceller
from pipeline.audio.portaudio import Devices, SoundCardError, Stream
from pipeline.audio.portaudio_process import PortAudioApart
from pipeline.cleanup import uninterrupted, until_one_ends
from pipeline.conversation.conversation import Conversation
from pipeline.conversation.events import Event, Notice, Severity
from pipeline.ends.playback import Playback, ReplyKey

STALLED = 2.0
"""Seconds without a block after which a microphone counts as gone; some drivers only fall silent."""

RETRIES = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Seconds between attempts to find a device that vanished; the last value repeats."""

QUALITY = "LQ"
"""soxr's quality setting. 16 bits are enough for speech, and it delays sound by 20 ms; the better ones by 40."""

Hear = Callable[[Samples], None]
Played = Callable[[int], None]
Tell = Callable[[Severity, str], None]


class SoundCard:
    """Plays the conversation's reply and listens for the user, while `run` runs."""

    def __init__(
        self, microphone: str | None = None, headset: str | None = None, library: Devices | None = None
    ) -> None:
        """`microphone` and `headset` are device names or parts of them; None is the system's default."""
        self._microphone = microphone
        self._headset = headset
        self._library = library or PortAudioApart()
        self._playback = Playback()

    def follow(self, event: Event) -> None:
        """Take an event of the conversation; every event must be passed in."""
        self._playback.follow(event)

    async def find(self) -> None:
        """Check that the devices are there. Raises SoundCardError."""
        await asyncio.to_thread(self._library.pick, "input", self._microphone)
        await asyncio.to_thread(self._library.pick, "output", self._headset)

    async def run(self, hear: Hear, played: Played, tell: Tell) -> None:
        """Run both devices. `hear` gets 16 kHz samples; `played` gets how many 24 kHz samples of the reply were heard.

        If a device vanishes, `tell` gets a warning, and the device is opened again once it is back; the reply goes on
        where it stopped.

        Raises:
            SoundCardError: the devices cannot be opened in the first place.
        """
        lost = await self._until_lost(hear, played, tell)
        while True:
            tell("warning", f"{lost} Parley continues as soon as it is back.")
            for wait in chain(RETRIES, repeat(RETRIES[-1])):
                await asyncio.sleep(wait)
                try:
                    lost = await self._until_lost(hear, played, tell)
                except SoundCardError:
                    continue
                break

    async def _until_lost(self, hear: Hear, played: Played, tell: Tell) -> str:
        """Run both streams until one ends; return a sentence that says which."""
        loop = asyncio.get_running_loop()
        gone: asyncio.Future[str] = loop.create_future()

        def lose(why: str) -> None:
            if not gone.done():
                gone.set_result(why)

        def open_both() -> list[Stream]:
            microphone = self._library.pick("input", self._microphone)
            headset = self._library.pick("output", self._headset)
            echo = self._echo_canceller(lambda text: _on(loop, tell, "warning", text))
            ear = _Ear(microphone.rate, hear, loop, lambda: lose("The microphone fell silent."), echo)
            mouth = _Mouth(headset.rate, self._playback, played, loop, echo)
            listening = self._library.listen(
                microphone, ear.capture, lambda: _on(loop, lose, "The microphone is gone.")
            )
            try:
                playing = self._library.play(headset, mouth.render, lambda: _on(loop, lose, "The headset is gone."))
            except SoundCardError:
                listening.close()
                raise
            _on(loop, tell, "info", f"Listening at “{microphone.name}”, speaking through “{headset.name}”.")
            return [listening, playing]

        async with _opened(open_both):
            return await gone

    def _echo_canceller(self, warn: Callable[[str], None]) -> EchoCanceller | None:
        try:
            return EchoCanceller()
        except ImportError:
            warn("Parley may hear itself through loudspeakers: use headphones, or run `python3 setup.py` again.")
            return None


async def converse(
    conversation: Conversation, card: SoundCard, watch: Callable[[Event], None] = lambda event: None
) -> None:
    """Hold the conversation at the sound card until the conversation is closed; `watch` gets every event.

    Raises SoundCardError if the devices cannot be opened.
    """

    def tell(severity: Severity, text: str) -> None:
        watch(Notice(0, 0, severity, text))

    await until_one_ends(card.run(conversation.hear, conversation.played, tell), _follow(conversation, card, watch))


async def levels(microphone: str | None, library: Devices | None = None) -> AsyncGenerator[float, None]:
    """Yield the microphone's peak, 0 to 1, ten times a second, for a meter; use aclosing. Raises SoundCardError."""
    library = library or PortAudioApart()
    loop = asyncio.get_running_loop()
    heard: asyncio.Queue[float | None] = asyncio.Queue()

    def open_one() -> list[Stream]:
        return [
            library.listen(
                library.pick("input", microphone),
                lambda block: _on(loop, heard.put_nowait, float(np.abs(block).max(initial=0.0))),
                lambda: _on(loop, heard.put_nowait, None),
            )
        ]

    async with _opened(open_one):
        patience = None  # some devices take seconds to start
        while True:
            peaks: list[float] = []
            while len(peaks) < 10:
                try:
                    peak = await asyncio.wait_for(heard.get(), patience)
                except TimeoutError:
                    peak = None
                if peak is None:
                    raise SoundCardError("The microphone is gone: plug it in again.")
                peaks.append(peak)
                patience = STALLED
            yield min(1.0, max(peaks))


async def play_tone(headset: str | None, library: Devices | None = None) -> None:
    """Play two soft notes, a fifth apart, to test an output; return once they were heard. Raises SoundCardError."""
    await _play(headset, _two_notes, library)


async def play(headset: str | None, samples: Samples, library: Devices | None = None) -> None:
    """Play 24 kHz samples, such as a voice sample; return once they were heard. Raises SoundCardError."""
    await _play(headset, lambda rate: soxr.resample(samples, MOUTH_RATE, rate), library)


async def _play(headset: str | None, at_rate: Callable[[int], Samples], library: Devices | None) -> None:
    library = library or PortAudioApart()
    loop = asyncio.get_running_loop()
    heard = asyncio.Event()

    def open_one() -> list[Stream]:
        device = library.pick("output", headset)
        sound = at_rate(device.rate)
        place = 0

        def render(count: int, delay: float) -> Samples:
            nonlocal place
            block = sound[place : place + count]
            place += count
            if place >= len(sound):
                _on(loop, loop.call_later, delay + count / device.rate, heard.set)
            return np.pad(block, (0, count - len(block)))

        return [library.play(device, render, lambda: _on(loop, heard.set))]

    async with _opened(open_one):
        await heard.wait()


class _Ear:
    """Brings sound from the microphone's thread and rate to the loop and the conversation's rate."""

    def __init__(
        self,
        rate: int,
        hear: Hear,
        loop: asyncio.AbstractEventLoop,
        stalled: Callable[[], None],
        echo: EchoCanceller | None = None,
    ) -> None:
        self._echo = echo
        self._resampler = soxr.ResampleStream(rate, EAR_RATE, 1, dtype="float32", quality=QUALITY)
        self._hear = hear
        self._loop = loop
        self._stalled = stalled
        self._watchdog: asyncio.TimerHandle | None = None

    def capture(self, block: Samples) -> None:
        _on(self._loop, self._take, block)

    def _take(self, block: Samples) -> None:
        if self._watchdog is not None:
            self._watchdog.cancel()
        self._watchdog = self._loop.call_later(STALLED, self._stalled)
        sound = np.clip(self._resampler.resample_chunk(block), -1, 1)
        if self._echo is not None:
            sound = self._echo.hear(sound)
        if len(sound):
            self._hear(sound)


class _Mouth:
    """Brings sound from the reply's queue to the headset's thread and rate, and reports what was heard to the loop."""

    STEP = MOUTH_RATE // 100

    def __init__(
        self,
        rate: int,
        playback: Playback,
        played: Played,
        loop: asyncio.AbstractEventLoop,
        echo: EchoCanceller | None = None,
    ) -> None:
        self._echo = echo
        self._rate = rate
        self._resampler = soxr.ResampleStream(MOUTH_RATE, rate, 1, dtype="float32", quality=QUALITY)
        self._playback = playback
        self._played = played
        self._loop = loop
        self._ready: Samples = np.zeros(0, np.float32)
        self._told: tuple[ReplyKey, int] | None = None
        self._reported: tuple[ReplyKey, int] | None = None

    def render(self, count: int, delay: float) -> Samples:
        while len(self._ready) < count:
            sound = self._playback.take(self.STEP)
            sound = np.pad(sound, (0, self.STEP - len(sound)))  # silence flushes the resampler's last samples
            if self._echo is not None:
                _on(self._loop, self._echo.play, sound)
            self._ready = np.concatenate([self._ready, self._resampler.resample_chunk(sound)])
        block, self._ready = self._ready[:count], self._ready[count:]
        self._tell(delay + (count + len(self._ready) + self._resampler.delay()) / self._rate)
        return block

    def _tell(self, delay: float) -> None:
        reply = self._playback.reply
        if reply is not None and self._told != (reply, self._playback.played):
            self._told = (reply, self._playback.played)
            _on(self._loop, self._loop.call_later, delay, self._report, *self._told)

    def _report(self, reply: ReplyKey, samples: int) -> None:
        if self._playback.reply != reply or (self._reported is not None and (reply, samples) < self._reported):
            return  # of an old reply, or late: the reports of two blocks rendered at once may come in any order
        self._reported = reply, samples
        self._played(samples)


@asynccontextmanager
async def _opened(open_streams: Callable[[], list[Stream]]) -> AsyncIterator[None]:
    """Open and close streams in a thread, since PortAudio is slow; close them even if cancelled while opening."""
    opening = asyncio.create_task(asyncio.to_thread(open_streams))
    try:
        await asyncio.shield(opening)
        yield
    finally:
        await uninterrupted(_close(opening))


async def _close(opening: asyncio.Task[list[Stream]]) -> None:
    await asyncio.wait({opening})
    if opening.exception() is None:
        for stream in opening.result():
            await asyncio.to_thread(stream.close)


async def _follow(conversation: Conversation, card: SoundCard, watch: Callable[[Event], None]) -> None:
    async for event in conversation.events():
        card.follow(event)
        watch(event)


def _on(loop: asyncio.AbstractEventLoop, act: Callable[..., object], *arguments: object) -> None:
    """Call `act` on the loop, unless it is closed; a device's thread may outlive the loop by a block."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(act, *arguments)


def _two_notes(rate: int) -> Samples:
    notes = []
    for pitch in (523.25, 783.99):
        time = np.arange(round(0.35 * rate)) / rate
        notes.append(0.25 * np.sin(2 * np.pi * pitch * time) * np.minimum(1, 100 * time) * np.exp(-6 * time))
    return np.concatenate(notes).astype(np.float32)
