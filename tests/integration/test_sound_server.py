"""The sound card's end at a real sound server: a virtual headset, spoken into, listened to, pulled out and back."""

from __future__ import annotations

import asyncio
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from config import Settings
from config.packages import PIPER_JOE, SMOLLM2_135M, WHISPER_BASE
from config.profiles import Name
from pipeline.audio import EAR_RATE, MOUTH_RATE, Samples
from pipeline.audio.portaudio import SoundCardError
from pipeline.audio.portaudio_process import PortAudioApart
from pipeline.conversation.events import ReplyAudio, ReplyDone, ReplyMade
from pipeline.doctor import Finding, Working, examine
from pipeline.ends.soundcard import SoundCard, levels, play_tone
from tests.support.real_models import folder, heard
from tests.support.recordings import recording
from tests.support.sound_server import MICROPHONE, SPEAKER, SoundServer, missing, sound_server
from tests.support.transcript import transcribed
from tests.web.scripted import ScriptedEngines

QUESTION = recording("weather_question.wav")
PATIENCE = 120
"""Seconds after which a test that waits for a device gives up."""
LONG_S = 120.0
"""Of sound that is still going on when the doctor comes to the microphone, however busy the machine."""

pytestmark = [pytest.mark.sound_server, pytest.mark.skipif(bool(missing()), reason=f"not installed: {missing()}")]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[SoundServer]:
    with sound_server() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.fixture
def library(server: SoundServer) -> PortAudioApart:
    return PortAudioApart()


class Ends:
    """What the card handed over, and a way to wait for it."""

    def __init__(self) -> None:
        self.heard: list[Samples] = []
        self.played = 0
        self.told: list[str] = []
        self._changed = asyncio.Event()

    def hear(self, samples: Samples) -> None:
        self.heard.append(samples)
        self._changed.set()

    def report(self, samples: int) -> None:
        self.played = samples
        self._changed.set()

    def tell(self, severity: str, text: str) -> None:
        self.told.append(f"{severity}: {text}")
        self._changed.set()

    @property
    def sound(self) -> Samples:
        return np.concatenate(self.heard) if self.heard else np.zeros(0, np.float32)

    @property
    def words(self) -> Samples:
        """A quarter of a second from where the first sound is; none before that has come."""
        sounding = np.abs(self.sound) > 0.02
        start = int(sounding.argmax()) if sounding.any() else len(sounding)
        found = self.sound[start : start + EAR_RATE // 4]
        return found if len(found) == EAR_RATE // 4 else found[:0]

    async def until(self, reached: object) -> None:
        assert callable(reached)
        async with asyncio.timeout(PATIENCE):
            while not reached():
                self._changed.clear()
                await self._changed.wait()


@asynccontextmanager
async def running(card: SoundCard) -> AsyncIterator[Ends]:
    ends = Ends()
    task = asyncio.create_task(card.run(ends.hear, ends.report, ends.tell))
    task.add_done_callback(lambda _: ends.tell("error", "it ended"))
    try:
        await ends.until(lambda: ends.told)
        if task.done():
            task.result()
        yield ends
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def tone(seconds: float, rate: int = MOUTH_RATE) -> Samples:
    return (0.4 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def pitch(sound: Samples, rate: int) -> float:
    return float(np.abs(np.fft.rfft(sound)).argmax() * rate / len(sound))


def test_the_headset_is_listed(library: PortAudioApart) -> None:
    names = {device.name: device for device in library.devices()}
    assert names[MICROPHONE].inputs > 0
    assert names[SPEAKER].outputs > 0
    assert any(device.default_input for device in names.values())


async def test_the_microphone_is_heard_and_the_reply_is_played(
    server: SoundServer, library: PortAudioApart, tmp_path: Path
) -> None:
    soundfile.write(tmp_path / "a.wav", tone(1.0), MOUTH_RATE)
    card = SoundCard(MICROPHONE, SPEAKER, library)
    async with running(card) as ends:
        await server.say(tmp_path / "a.wav")
        await ends.until(lambda: len(ends.words))
        assert pitch(ends.words, EAR_RATE) == pytest.approx(440, abs=5)

        reply = tone(1.0)
        async with asyncio.timeout(PATIENCE):
            for number in range(1, 10):
                ends.played = 0
                async with server.recording() as recording:
                    for start in range(0, len(reply), 2400):
                        card.follow(ReplyAudio(number, 0, reply[start : start + 2400], start))
                    card.follow(ReplyMade(number, 0, len(reply)))
                    played = await recording.until_quiet(0.5)
                    await ends.until(lambda: ends.played == len(reply))
                    card.follow(ReplyDone(number, 0, "completed", "la", "la", "heard"))
                voiced = np.flatnonzero(np.abs(played) > 0.01)
                whole = len(voiced) > 0.9 * MOUTH_RATE and voiced[-1] - voiced[0] < 1.1 * MOUTH_RATE
                # A click: the tone itself moves by 0.046 a sample.
                if whole and np.abs(np.diff(played)).max() < 0.08:
                    break  # else the machine had no time for the sound server, which is no fault of the card's
            else:
                pytest.fail("none of nine replies was played in one piece and without a click")
        assert pitch(played[: MOUTH_RATE // 2], MOUTH_RATE) == pytest.approx(440, abs=5)


async def test_the_headset_is_pulled_out_and_comes_back(
    server: SoundServer, library: PortAudioApart, tmp_path: Path
) -> None:
    soundfile.write(tmp_path / "a.wav", tone(1.0), MOUTH_RATE)
    async with running(SoundCard(MICROPHONE, SPEAKER, library)) as ends:
        server.unplug()
        await ends.until(lambda: any(text.startswith("warning") for text in ends.told))
        assert "as soon as it is back" in ends.told[-1]
        server.plug_in()
        await ends.until(lambda: len(ends.told) == 3)
        assert ends.told[2] == ends.told[0] == f"info: Listening at “{MICROPHONE}”, speaking through “{SPEAKER}”."
        ends.heard.clear()
        await server.say(tmp_path / "a.wav")
        await ends.until(lambda: len(ends.words))


@pytest.mark.slow
async def test_the_sound_server_dies_and_comes_back(
    server: SoundServer, library: PortAudioApart, tmp_path: Path
) -> None:
    soundfile.write(tmp_path / "a.wav", tone(1.0), MOUTH_RATE)
    async with running(SoundCard(MICROPHONE, SPEAKER, library)) as ends:
        server.kill()
        await ends.until(lambda: any(text.startswith("warning") for text in ends.told))
        await asyncio.to_thread(server.start)
        await ends.until(lambda: ends.told[-1] == ends.told[0] and len(ends.told) > 1)
        ends.heard.clear()
        await server.say(tmp_path / "a.wav")
        await ends.until(lambda: len(ends.words))


async def test_a_headset_that_is_not_there_is_said_at_once(server: SoundServer, library: PortAudioApart) -> None:
    server.unplug()
    with pytest.raises(SoundCardError, match="cannot be opened"):
        async with running(SoundCard(MICROPHONE, SPEAKER, library)):
            pass
    with pytest.raises(SoundCardError, match=r"no microphone named “Nobody's”.*“headset_microphone”"):
        async with running(SoundCard("Nobody's", SPEAKER, library)):
            pass


async def test_the_setup_page_can_try_both(server: SoundServer, library: PortAudioApart, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(1.0), MOUTH_RATE)
    async with asyncio.timeout(PATIENCE), server.recording() as recording:
        await play_tone(SPEAKER, library)
        assert np.abs(await recording.until_quiet(0.3)).max() > 0.1
        async with aclosing(levels(MICROPHONE, library)) as meter:
            assert 0 <= await anext(meter) <= 1  # the microphone is open
            saying = asyncio.create_task(server.say(tmp_path / "a.wav"))
            while (level := await anext(meter)) <= 0.3:
                assert level >= 0
        await saying


@pytest.mark.slow  # tests/web/realtime/test_sound_server.py asks a question at a headset in the ordinary run
@pytest.mark.parametrize("profile", ["offline", "small"])
async def test_a_question_asked_at_the_headset_is_answered_aloud(
    server: SoundServer, tmp_path: Path, profile: Name
) -> None:
    """The whole product at the sound card; the answer, transcribed again, speaks of what was asked."""
    if profile == "small":
        for model in (WHISPER_BASE, SMOLLM2_135M, PIPER_JOE):
            folder(model)
    lines: list[str] = []
    async with asyncio.timeout(2 * PATIENCE), server.recording() as recording:
        talking = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "pipeline.commands.talk", "--data", str(tmp_path), "--profile", profile,
            "--microphone", MICROPHONE, "--headset", SPEAKER,
            env={**server.variables, "PYTHONUNBUFFERED": "1"}, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert talking.stdout is not None
        try:
            while not (lines and lines[-1].startswith("Listening at")):
                lines.append((await talking.stdout.readline()).decode())
                assert lines[-1], "the conversation ended before it began"
            saying = asyncio.create_task(server.say(QUESTION))
            answer = await recording.until_quiet(1.5)
            await saying
        finally:
            talking.send_signal(signal.SIGINT)
            rest, _ = await talking.communicate()
    assert talking.returncode == 0, "Ctrl-C ends it cleanly"
    said = "".join(lines) + rest.decode()
    assert "weather" in said
    assert np.sqrt(np.mean(answer**2)) > 0.01
    understood = heard(answer).lower() if profile == "small" else transcribed(answer)
    assert re.search(r"\b(weather|whether|forecast|paris|look|connection|going)\b", understood), understood


# --- the doctor -------------------------------------------------------------------------------------------------------


async def listened(
    microphone: str = MICROPHONE, headset: str = SPEAKER, during: Callable[[], None] = lambda: None
) -> dict[str, Finding]:
    """The doctor's verdicts on a microphone and headphones; scripted engines, since it is not about them.

    `during` is called once the microphone is being listened to.
    """
    settings = Settings()
    settings.audio.place, settings.audio.input, settings.audio.output = "soundcard", microphone, headset
    engines: Any = ScriptedEngines()
    await engines.start()
    found: dict[str, Finding] = {}
    called = False
    async with asyncio.timeout(PATIENCE), aclosing(examine(engines, settings, Path("nowhere"))) as steps:
        async for step in steps:
            if isinstance(step, Working) and step.check == "microphone" and step.passing and not called:
                await asyncio.to_thread(during)
                called = True
            if isinstance(step, Finding):
                found[step.check] = step
            if "speaker" in found:
                break
    return found


async def test_the_doctor_hears_the_microphone_and_plays_to_the_headphones(server: SoundServer, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(LONG_S), MOUTH_RATE)
    async with server.recording() as recording:
        saying = asyncio.create_task(server.say(tmp_path / "a.wav"))
        try:
            found = await listened()
        finally:
            saying.cancel()
        assert found["microphone"].grade == "good"
        assert found["microphone"].figures["peak_dbfs"] == pytest.approx(20 * np.log10(0.4), abs=1.5)
        assert found["speaker"].grade == "good"
        async with asyncio.timeout(PATIENCE):
            assert np.abs(await recording.until_quiet(0.3)).max() > 0.1, "the two notes are really played"


@pytest.mark.slow
async def test_the_doctor_on_a_room_in_which_nobody_speaks(server: SoundServer, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", 0.02 * tone(LONG_S), MOUTH_RATE)
    saying = asyncio.create_task(server.say(tmp_path / "a.wav"))
    try:
        found = await listened()
    finally:
        saying.cancel()
    assert found["microphone"].grade == "fair"
    assert "no more than a quiet room" in found["microphone"].text


async def test_the_doctor_on_a_muted_microphone(server: SoundServer, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(LONG_S), MOUTH_RATE)
    server.mute()
    saying = asyncio.create_task(server.say(tmp_path / "a.wav"))
    try:
        found = await listened()
    finally:
        saying.cancel()
    assert (found["microphone"].grade, found["microphone"].text) == (
        "bad", "It is silent: unmute it, or choose another on the setup page.",
    )  # fmt: skip


@pytest.mark.slow
async def test_the_doctor_on_a_headset_that_is_not_plugged_in(server: SoundServer) -> None:
    server.unplug()
    found = await listened()
    assert found["microphone"].grade == found["speaker"].grade == "bad"
    assert "cannot be opened" in found["microphone"].text
    assert "cannot be opened" in found["speaker"].text
    found = await listened("Nobody’s", "Nobody’s")
    assert "There is no microphone named “Nobody’s”" in found["microphone"].text


async def test_the_doctor_on_a_headset_that_is_pulled_out_meanwhile(server: SoundServer) -> None:
    found = await listened(during=server.unplug)
    assert (found["microphone"].grade, found["microphone"].text) == (
        "bad", "The microphone is gone: plug it in again.",
    )  # fmt: skip
    assert "cannot be opened" in found["speaker"].text
