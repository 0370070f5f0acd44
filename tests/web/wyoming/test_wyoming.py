"""The Wyoming server, asked by Wyoming's own client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from wyoming.asr import Transcribe, TranscriptChunk
from wyoming.asr import Transcript as Heard
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.error import Error
from wyoming.event import Event, Eventable
from wyoming.handle import Handled, HandledChunk
from wyoming.info import Describe, Info
from wyoming.ping import Ping
from wyoming.tts import Synthesize, SynthesizeChunk, SynthesizeStart, SynthesizeStop, SynthesizeVoice

from config import Settings, SettingsStore
from pipeline.audio import EAR_RATE, MOUTH_RATE
from pipeline.audio.pcm import from_pcm16
from tests.web.api.audio.test_transcriptions import Writing
from tests.web.scripted import ScriptedEngines
from web.api.audio.queue import Queues
from web.preconditions import listen
from web.service import Service
from web.voices import Voices
from web.wyoming.server import MOST, WyomingServer
from web.wyoming.wire import PAYLOAD

SECOND = AudioChunk(EAR_RATE, 2, 1, audio=(np.ones(EAR_RATE, "<i2") * 8000).tobytes())


@dataclass
class Wyoming:
    port: int
    engines: ScriptedEngines
    settings: Settings

    def client(self) -> AsyncTcpClient:
        return AsyncTcpClient("127.0.0.1", self.port)


@asynccontextmanager
async def serving(data: Path) -> AsyncIterator[Wyoming]:
    engines = ScriptedEngines()
    await engines.start()
    settings = Settings()
    service = Service(engines, SettingsStore(data), data, settings)  # type: ignore[arg-type]
    server = WyomingServer(service, Voices(data), Queues())
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        await server.start(listener)
        try:
            yield Wyoming(port, engines, settings)
        finally:
            await server.stop()


@pytest.fixture
async def wyoming(tmp_path: Path) -> AsyncIterator[Wyoming]:
    async with serving(tmp_path) as wyoming:
        yield wyoming


async def exchange(client: AsyncTcpClient, *asked: Eventable, until: str) -> list[Event]:
    """What comes back, up to the first event of that type."""
    for event in asked:
        await client.write_event(event.event())
    answers: list[Event] = []
    while not answers or answers[-1].type != until:
        answer = await client.read_event()
        assert answer is not None, [event.type for event in answers]
        answers.append(answer)
    return answers


def types(events: list[Event]) -> list[str]:
    return [event.type for event in events]


def sound(events: list[Event]) -> bytes:
    return b"".join(AudioChunk.from_event(event).audio for event in events if AudioChunk.is_type(event.type))


async def test_it_tells_what_it_is(wyoming: Wyoming) -> None:
    async with wyoming.client() as client:
        (answer,) = await exchange(client, Describe(), until="info")
    info = Info.from_event(answer)
    assert [program.name for program in (*info.asr, *info.tts, *info.handle)] == ["parley"] * 3
    assert info.asr[0].supports_transcript_streaming and info.tts[0].supports_synthesize_streaming
    assert info.handle[0].supports_handled_streaming
    assert info.asr[0].models[0].languages == ["en"]
    voices = {voice.name: voice.languages for voice in info.tts[0].voices}
    assert voices["parley"] and voices["en-gb"] == ["en-GB"]


async def test_what_is_said_is_understood_and_its_chunks_are_the_transcript(wyoming: Wyoming) -> None:
    async with wyoming.client() as client:
        asked = (Transcribe(language="en"), AudioStart(EAR_RATE, 2, 1), SECOND, SECOND, AudioStop())
        answers = await exchange(client, *asked, until="transcript-stop")
        again = await exchange(client, AudioStart(EAR_RATE, 2, 1), SECOND, AudioStop(), until="transcript-stop")
    assert types(answers)[0] == "transcript-start" and types(answers)[-2:] == ["transcript", "transcript-stop"]
    said = Heard.from_event(answers[-2]).text
    assert said == wyoming.engines.ears.text
    chunks = [TranscriptChunk.from_event(event).text for event in answers if TranscriptChunk.is_type(event.type)]
    assert "".join(chunks) == said
    assert Heard.from_event(again[-2]).text == said


async def test_another_language_reaches_ears_that_take_wishes(wyoming: Wyoming) -> None:
    ears = Writing()
    wyoming.engines.ears = ears
    wyoming.settings.ears.engine, wyoming.settings.ears.model = "whisper", "base"
    stereo = AudioChunk(48_000, 2, 2, audio=(np.ones(2 * 48_000, "<i2") * 8000).tobytes())
    async with wyoming.client() as client:
        asked = (Transcribe(language="de"), AudioStart(48_000, 2, 2), stereo, AudioStop())
        answers = await exchange(client, *asked, until="transcript-stop")
    assert Heard.from_event(answers[-2]).text == ears.text
    assert [wish.language for wish in ears.wishes] == ["de"]


async def test_a_text_is_spoken_once(wyoming: Wyoming) -> None:
    async with wyoming.client() as client:
        asked = Synthesize("It is warm. It is sunny.", voice=SynthesizeVoice(name="alloy"))
        answers = await exchange(client, asked, until="audio-stop")
    assert types(answers)[0] == "audio-start"
    assert AudioStart.from_event(answers[0]).rate == MOUTH_RATE
    assert len(from_pcm16(sound(answers))) == 2 * 0.2 * MOUTH_RATE


async def test_a_text_in_chunks_is_spoken_as_its_clauses_come(wyoming: Wyoming) -> None:
    async with wyoming.client() as client:
        first = await exchange(client, SynthesizeStart(), SynthesizeChunk("It is wa"), SynthesizeChunk("rm. It is"),
                               until="audio-start")  # fmt: skip
        rest = (SynthesizeChunk(" sunny."), Synthesize("It is warm. It is sunny."), SynthesizeStop())
        answers = [*first, *await exchange(client, *rest, until="synthesize-stopped")]
    assert types(answers)[-2:] == ["audio-stop", "synthesize-stopped"]
    assert types(answers).count("audio-start") == types(answers).count("audio-stop") == 1
    assert len(from_pcm16(sound(answers))) == 2 * 0.2 * MOUTH_RATE


async def test_nothing_to_say_ends_all_the_same(wyoming: Wyoming) -> None:
    async with wyoming.client() as client:
        assert types(await exchange(client, Synthesize("…"), until="audio-stop")) == ["audio-start", "audio-stop"]


async def test_the_mind_answers_and_remembers_what_was_said_on_this_connection(wyoming: Wyoming) -> None:
    async with wyoming.client() as client:
        answers = await exchange(client, Heard("What is the weather?"), until="handled-stop")
        await exchange(client, Heard("And tomorrow?"), until="handled-stop")
    assert types(answers)[0] == "handled-start"
    assert Handled.from_event(answers[-2]).text == wyoming.engines.mind.text
    chunks = [HandledChunk.from_event(event).text for event in answers if HandledChunk.is_type(event.type)]
    assert "".join(chunks).strip() == wyoming.engines.mind.text
    last = wyoming.engines.mind.prompts[-1].history
    assert [message.text for message in last] == ["What is the weather?", wyoming.engines.mind.text, "And tomorrow?"]


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        (Synthesize("Hello.", voice=SynthesizeVoice(name="nobody")).event(), "voice_not_found"),
        (Synthesize("Hello.", voice=SynthesizeVoice(language="xx")).event(), "voice_not_found"),
        (Synthesize("a" * 10_001).event(), "invalid_request"),
        (AudioStart(EAR_RATE, 3, 1).event(), "invalid_request"),
        (AudioStart(1, 2, 1).event(), "invalid_request"),
        (Transcribe(language="xx").event(), "unsupported_language"),
        (Event("synthesize", {"voice": 5}), "invalid_event"),
    ],
)
async def test_what_goes_wrong_is_told_once_and_ends_the_connection(wyoming: Wyoming, asked: Event, code: str) -> None:
    async with wyoming.client() as client:
        await client.write_event(asked)
        for _ in range(20):  # it speaks on, as one does who has not heard yet
            await client.write_event(SECOND.event())
        await client.write_event(AudioStop().event())
        answer = await client.read_event()
        assert answer is not None
        error = Error.from_event(answer)
        assert error.text.endswith(".") and error.code == code
        assert await client.read_event() is None


async def test_a_mind_that_fails_says_so_and_the_connection_survives_it(wyoming: Wyoming) -> None:
    async with wyoming.client() as client:
        wyoming.engines.mind.error = "The mind is gone."
        answers = await exchange(client, Heard("Hello?"), until="handled-stop")
        assert "not-handled" in types(answers)
        await client.write_event(Event("something-else"))
        assert (await exchange(client, Ping(text="still there"), until="pong"))[0].data["text"] == "still there"


async def test_a_voice_is_asked_for_by_its_language(wyoming: Wyoming) -> None:
    async with wyoming.client() as client:
        for language in ("en", "en_GB"):
            asked = Synthesize("Hello.", voice=SynthesizeVoice(language=language))
            assert "audio-chunk" in types(await exchange(client, asked, until="audio-stop"))


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"[1]\n",
        b"[" * 60_000 + b"\n",
        b"x" * 100_000,
        json.dumps({"type": "audio-chunk", "payload_length": PAYLOAD + 1}).encode() + b"\n",
        json.dumps({"type": "describe", "data_length": -1}).encode() + b"\n",
        json.dumps({"data": {}}).encode() + b"\n",
    ],
)
async def test_who_does_not_speak_wyoming_is_hung_up_on(wyoming: Wyoming, sent: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", wyoming.port)
    writer.write(sent)
    assert await reader.read() == b""
    writer.close()


async def test_too_many_are_turned_away_and_those_who_left_make_room(wyoming: Wyoming) -> None:
    clients = [wyoming.client() for _ in range(MOST)]
    for client in clients:
        await client.connect()
        await exchange(client, Describe(), until="info")
    reader, writer = await asyncio.open_connection("127.0.0.1", wyoming.port)
    assert b"16 clients are already connected: try again later." in await reader.read()
    writer.close()
    for client in clients:
        await client.disconnect()
    while True:
        async with wyoming.client() as client:
            await client.write_event(Describe().event())
            answer = await client.read_event()
            if answer is not None and Info.is_type(answer.type):
                break
