"""Wyoming's port knows no key: whatever comes there is answered or hung up on, and takes nobody's ears away."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.error import Error

from pipeline.audio import EAR_RATE
from tests.support.fuzz import Fuzz
from tests.web.wyoming.test_wyoming import SECOND, Wyoming, exchange, serving, wyoming
from web.api.audio.queue import LISTENING
from web.wyoming import handler

__all__ = ["wyoming"]

SOUND = {"rate": 16_000, "width": 2, "channels": 1}
EVENTS = (
    {"type": "describe"},
    {"type": "ping", "data": {"text": "x"}},
    {"type": "transcribe", "data": {"name": "x", "language": "en"}},
    {"type": "audio-start", "data": SOUND},
    {"type": "audio-chunk", "data": SOUND, "payload_length": 640},
    {"type": "audio-stop", "data": {}},
    {"type": "synthesize", "data": {"text": "hello", "voice": {"name": "parley", "language": "en", "speaker": "x"}}},
    {"type": "synthesize-start", "data": {"voice": {"name": "parley"}}},
    {"type": "synthesize-chunk", "data": {"text": "Hello there. "}},
    {"type": "synthesize-stop", "data": {}},
    {"type": "transcript", "data": {"text": "what time is it", "language": "en", "context": {"a": 1}}},
    {"type": "ping", "data": {"a": "b"}, "data_length": 13},
)


async def said(wyoming: Wyoming, *sent: bytes) -> bytes:
    """What comes back until the end of the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", wyoming.port)
    try:
        writer.writelines(sent)
        writer.write_eof()
        async with asyncio.timeout(60):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def test_events_at_random(wyoming: Wyoming, caplog: pytest.LogCaptureFixture) -> None:
    for seed in range(150):
        fuzz, sent = Fuzz(seed), list[bytes]()
        for _ in range(fuzz.random.randint(1, 6)):
            event = fuzz.one_of(EVENTS)
            text = fuzz.text(event) if fuzz.random.random() < 0.7 else json.dumps(event)
            sent.append(text.encode() + b"\n" + (bytes(640) if "payload_length" in event else b""))
            sent.append(fuzz.bytes(b'{"text": "x"}', 2) if "data_length" in event else b"")
        await said(wyoming, *sent)
        assert not [each for each in caplog.records if each.levelno >= logging.ERROR], seed
    assert b'"pong"' in await said(wyoming, b'{"type": "ping"}\n')


@pytest.mark.parametrize(
    "head",
    [
        b'{"type": "x", "data": [1], "data_length": 2}\n{}',
        b'{"type": "ping", "data": 5}\n',
        b'{"type": ["ping"]}\n',
        b'{"type": "ping", "payload_length": 999999999}\n',
        b'{"type": "ping", "data_length": -1}\n',
        b"[" * 60_000 + b"\n",
        b"x" * 10_000_000,
        b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\n" + b'{"type": "ping"}\n',
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
    ids=["a list", "a number", "a type", "long", "negative", "nested", "endless", "HTTP", "TLS"],
)
async def test_what_is_no_event_is_hung_up_on(wyoming: Wyoming, head: bytes, caplog: pytest.LogCaptureFixture) -> None:
    assert await said(wyoming, head) == b""
    assert not [each for each in caplog.records if each.levelno >= logging.WARNING]


@pytest.mark.parametrize("text", [["a"], {"a": 1}, 5, None, True])
@pytest.mark.parametrize("event", ["transcript", "synthesize"])
async def test_a_text_that_is_none_is_refused(wyoming: Wyoming, event: str, text: object) -> None:
    sent = json.dumps({"type": event, "data": {"text": text}}).encode() + b"\n"
    assert b"cannot be read" in await said(wyoming, sent)


async def test_dictations_leave_the_ears_to_those_who_talk(wyoming: Wyoming) -> None:
    start = AudioStart(EAR_RATE, 2, 1)
    async with AsyncExitStack() as opened:
        clients = [await opened.enter_async_context(wyoming.client()) for _ in range(LISTENING + 2)]
        for client in clients[:LISTENING]:
            await exchange(client, start, SECOND, until="transcript-start")
        for client in clients[LISTENING:]:
            (answer,) = await exchange(client, start, until="error")
            assert Error.from_event(answer).code == "queue_full"
        await exchange(clients[0], AudioStop(), until="transcript-stop")
        async with wyoming.client() as another:
            await exchange(another, start, until="transcript-start")


async def test_a_dictation_in_which_nothing_comes_gives_its_place_back(
    wyoming: Wyoming, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handler, "SILENT_S", 0.01)
    async with wyoming.client() as client:
        await exchange(client, AudioStart(EAR_RATE, 2, 1), until="transcript-start")
        assert await client.read_event() is None
    for _ in range(LISTENING + 1):
        async with wyoming.client() as client:
            await exchange(client, AudioStart(EAR_RATE, 2, 1), until="transcript-start")
            assert await client.read_event() is None


async def test_an_end_with_clients_is_no_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(tmp_path) as wyoming:
        client = wyoming.client()
        await client.connect()
        await exchange(client, AudioStart(EAR_RATE, 2, 1), until="transcript-start")
    await asyncio.sleep(0)
    assert not [each for each in caplog.records if each.levelno >= logging.WARNING]
    with suppress(ConnectionError):
        await client.disconnect()


async def test_a_sound_without_bytes_is_silence(wyoming: Wyoming) -> None:
    async with wyoming.client() as client:
        asked = (AudioStart(EAR_RATE, 2, 1), AudioChunk(EAR_RATE, 2, 1, audio=b""), AudioStop())
        await exchange(client, *asked, until="transcript-stop")
