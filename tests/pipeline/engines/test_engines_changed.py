"""The running set changed while it is in use, with the real engines: what fails leaves what works, and no turn breaks.

The Whisper is a tiny one that hears the same words in any sound; everything else is what the offline profile has.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from datetime import datetime
from pathlib import Path

import numpy as np
import psutil
import pytest
import pytest_asyncio

from config.places import ROOT
from config.settings import Settings
from pipeline.audio import EAR_RATE, Samples
from pipeline.conversation.conversation import Conversation
from pipeline.conversation.events import ReplyAudio, ReplyDone, ReplyStarted
from pipeline.ends.file import read_sound
from pipeline.engine import EngineError
from pipeline.engines.running import Engines
from pipeline.engines.trial import transcribe
from pipeline.llm import Message, Prompt
from tests.support.begun import IN_ONE_LOOP
from tests.support.recordings import recording
from tests.support.tiny_models import HEARD, write_llama, write_whisper


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_whisper(tmp_path_factory.mktemp("whisper") / "tiny")


@pytest.fixture(scope="module")
def weather() -> Samples:
    return read_sound(recording("weather_question.wav"))


@asynccontextmanager
async def running(data: Path, settings: Settings | None = None) -> AsyncIterator[Engines]:
    """The offline profile, or other settings; at the end no process may be left."""
    before = psutil.Process().children(recursive=True)
    engines = Engines(settings or Settings(), data)
    await engines.start()
    assert all(status.state == "ready" for status in engines.health().values()), engines.health()
    try:
        yield engines
    finally:
        await engines.stop()
        assert [child for child in psutil.Process().children(recursive=True) if child not in before] == []


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def offline(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engines]:
    async with running(tmp_path_factory.mktemp("data")) as engines:
        yield engines


@pytest_asyncio.fixture(loop_scope="module")
async def engines(offline: Engines) -> AsyncIterator[Engines]:
    """The offline profile, which runs for all of this module; whoever changes it finds it as it was."""
    yield offline
    await offline.apply(Settings())


def ears(model: Path | str) -> Settings:
    settings = Settings()
    settings.ears.engine, settings.ears.model = "whisper", str(model)
    return settings


def mind(url: str) -> Settings:
    settings = Settings()
    settings.mind.engine, settings.mind.url = "openai", url
    return settings


def voice(pitch: int, engine: str = "espeak", model: str = "") -> Settings:
    settings = Settings()
    settings.voice.pitch, settings.voice.engine, settings.voice.model = pitch, engine, model
    return settings


def prompt(text: str) -> Prompt:
    return Prompt("You are kind.", (Message("user", text),), None, datetime(2026, 3, 4, 15, 30))


async def heard(engines: Engines, sound: Samples) -> str:
    return (await transcribe(engines.stages().ears, sound))[0]


async def replied(engines: Engines) -> str:
    return "".join([str(piece) async for piece in engines.stages().mind.reply(prompt("What time is it?"))])


async def spoken(engines: Engines) -> int:
    speaker = engines.stages().voice.speaker()
    sounds = [len(sound.samples) async for sound in speaker.speak("I am still here.")]
    await speaker.close()
    return sum(sounds)


@asynccontextmanager
async def http(answer: Callable[[str, asyncio.StreamWriter], object]) -> AsyncIterator[str]:
    """A server of one coroutine function, which gets the request's path and answers; its address, with /v1."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        await answer(head.split()[1], writer)  # type: ignore[misc]
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"


async def broken(path: str, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 500 .\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    await writer.drain()


@IN_ONE_LOOP
async def test_what_cannot_be_loaded_leaves_what_works(engines: Engines, tmp_path: Path, weather: Samples) -> None:
    noise = tmp_path / "noise"
    noise.mkdir()
    (noise / "config.json").write_text("{}")
    (noise / "model.bin").write_bytes(os.urandom(1_000_000))
    llama = write_llama(tmp_path / "llama")
    async with http(broken) as url:
        before = engines.stages()
        for settings, words in (
            (ears(noise), "noise"),
            (ears(tmp_path / "nowhere"), "nowhere"),
            (ears(noise / "model.bin"), "model.bin"),
            (voice(50, "csm", str(llama)), "llama"),
            (voice(50, "csm", str(noise)), "noise"),
            (mind(url), "answered 500"),
            (mind("http://127.0.0.1:9/v1"), "No server answers"),
        ):
            with pytest.raises(EngineError) as refused:
                await engines.apply(settings)
            sentence = str(refused.value)
            assert words in sentence and "\n" not in sentence and sentence.endswith("."), sentence
            assert engines.reloading() == {}
        after = engines.stages()
        assert (after.ears, after.mind, after.voice) == (before.ears, before.mind, before.voice)
        assert "weather in paris" in (await heard(engines, weather)).lower()
        assert await spoken(engines) > 10_000
        assert "3:30" in await replied(engines)
        assert {status.state for status in engines.health().values()} == {"ready"}


@IN_ONE_LOOP
async def test_a_turn_ends_with_the_ears_that_it_began_with(engines: Engines, whisper: Path, weather: Samples) -> None:
    stages = engines.stages()
    hearing = stages.ears.listen()
    half = len(weather) // 2
    await hearing.feed(weather[:half])
    assert await engines.apply(ears(whisper)) == ["ears"]
    await hearing.feed(weather[half:])
    assert "weather in paris" in (await hearing.finish()).text.lower()
    for ears_ in (engines.stages().ears, stages.ears):  # a turn that begins now, whoever held the old ones
        assert (await transcribe(ears_, weather))[0].startswith(" ".join(HEARD))
    pocketsphinx = len(psutil.Process().children())
    await hearing.close()
    await asyncio.wait_for(_until(lambda: len(psutil.Process().children()) < pocketsphinx), 120)


async def _until(condition: Callable[[], bool]) -> None:
    """For what another process does, which nothing tells of."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.02)


@IN_ONE_LOOP
async def test_a_reply_under_way_ends_with_the_engines_that_it_began_with(engines: Engines) -> None:
    tried, asked, go_on = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def slowly(path: str, writer: asyncio.StreamWriter) -> None:
        if path.endswith("/models"):
            writer.write(b'HTTP/1.1 200 .\r\nConnection: close\r\n\r\n{"data": [{"id": "slow"}]}')
            await writer.drain()
            return
        if not path.endswith("/chat/completions"):
            writer.write(b"HTTP/1.1 404 .\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            await writer.drain()
            return
        writer.write(b"HTTP/1.1 200 .\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
        if not tried.is_set():  # the question by which the engine gets to know the server
            writer.write(b'data: {"choices": [{"delta": {"content": "yes"}}]}\n\ndata: [DONE]\n\n')
            await writer.drain()
            tried.set()
            return
        writer.write(b'data: {"choices": [{"delta": {"content": "This is the first sentence. And here "}}]}\n\n')
        await writer.drain()
        asked.set()
        await go_on.wait()
        writer.write(b'data: {"choices": [{"delta": {"content": "comes the second."}}]}\n\ndata: [DONE]\n\n')
        await writer.drain()

    async with http(slowly) as url:
        assert await engines.apply(mind(url)) == ["mind"]
        conversation = Conversation(engines.stages(), mind(url), name="changing")
        done: asyncio.Queue[ReplyDone] = asyncio.Queue()

        async def listen() -> None:
            samples = 0
            async for event in conversation.events():
                match event:
                    case ReplyStarted():
                        samples = 0
                    case ReplyAudio():
                        samples += len(event.samples)
                        conversation.played(samples)
                    case ReplyDone():
                        done.put_nowait(event)

        async with conversation:
            listening = asyncio.create_task(listen())
            await conversation.say("Hello.")
            await asked.wait()
            changed = voice(80)
            assert sorted(await engines.apply(changed)) == ["mind", "voice"]
            conversation.configure(changed, stages=engines.stages())
            go_on.set()
            first = await done.get()
            assert (first.outcome, first.heard) == (
                "completed",
                "This is the first sentence. And here comes the second.",
            ), first
            await conversation.say("What time is it?")
            second = await done.get()
            assert second.outcome == "completed"
            assert second.heard and "sentence" not in second.heard, "the built-in replies have taken over"
        await listening
        assert engines.health()["mind"].engine == "builtin"


@pytest.mark.slow
async def test_two_changes_at_once_come_one_after_the_other(tmp_path: Path, whisper: Path) -> None:
    async with running(tmp_path) as engines:
        both = ears(whisper)
        both.voice.pitch = 80
        results = await asyncio.gather(
            engines.apply(ears(whisper)),
            engines.apply(ears(tmp_path / "nowhere")),
            engines.apply(both),
            return_exceptions=True,
        )
        assert results[0] == ["ears"]
        assert isinstance(results[1], EngineError)
        assert results[2] == ["voice"]
        assert await heard(engines, np.zeros(EAR_RATE, np.float32)) == ""
        assert engines.health()["ears"].engine == "whisper"
        assert await spoken(engines) > 10_000


@IN_ONE_LOOP
async def test_killed_while_it_loads(engines: Engines, whisper: Path, weather: Samples) -> None:
    before = {child.pid for child in psutil.Process().children()}
    applying = asyncio.create_task(engines.apply(ears(whisper)))
    async with aclosing(engines.changes()) as changes:  # type: ignore[type-var]  # an async generator
        async for _ in changes:
            new = [child for child in psutil.Process().children() if child.pid not in before]
            if new and engines.reloading()["ears"].progress is not None:
                new[0].kill()
                break
    with pytest.raises(EngineError, match=r"\.$"):
        await applying
    assert "weather in paris" in (await heard(engines, weather)).lower()


EXIT = """
import asyncio, pathlib, psutil, sys
from config.settings import Settings
from pipeline.engines.running import Engines

async def main():
    engines = Engines(Settings(), pathlib.Path(sys.argv[1]))
    await engines.start()
    settings = Settings()
    settings.ears.engine, settings.ears.model = "whisper", sys.argv[2]
    applying = asyncio.create_task(engines.apply(settings))
    async for _ in engines.changes():
        progress = engines.reloading()["ears"].progress if "ears" in engines.reloading() else None
        if progress is not None and "Whisper" in progress.what:  # told by the process that is loading
            print(*[child.pid for child in psutil.Process().children(recursive=True)], flush=True)
    await applying

asyncio.run(main())
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_process_that_ends_while_it_loads_leaves_no_child(tmp_path: Path, whisper: Path, how: signal.Signals) -> None:
    command = [sys.executable, "-c", EXIT, str(tmp_path / "data"), str(whisper)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        children = [psutil.Process(int(pid)) for pid in process.stdout.readline().split()]
        assert len(children) >= 5, "ears, voice, turns and memory, and the ears that are coming"
        process.send_signal(how)
        try:
            process.wait(120)
        finally:
            process.kill()
    gone, alive = psutil.wait_procs(children, timeout=120)
    assert not alive
    assert len(gone) == len(children)
