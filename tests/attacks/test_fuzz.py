"""What comes from outside, changed at random: every door answers with a sentence, or passes over it, and goes on.

The seeds are fixed, so that this is the same each time; with PARLEY_FUZZ=20 twenty times as many are tried.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import logging
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from config import Settings, SettingsStore
from pipeline.audio import EAR_RATE, decode
from pipeline.audio.decode import Undecodable
from rag import Memory
from tests.rag.conftest import WordEmbedder
from tests.support import encoding
from tests.support.fuzz import Fuzz
from tests.web.conftest import Running
from tests.web.realtime.test_protocol import the
from tests.web.realtime.webrtc.peer import CALLS, SDP, peer
from web.turn_log import TurnLog

TIMES = int(os.environ.get("PARLEY_FUZZ", "1"))
JSON = {"Content-Type": "application/json"}
SOUND = base64.b64encode(b"\x10\x20" * 2400).decode()
FUNCTION = {
    "type": "function", "name": "f", "description": "d",
    "parameters": {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
}  # fmt: skip
SESSION: dict[str, Any] = {
    "type": "realtime", "instructions": "x", "output_modalities": ["audio"], "tools": [FUNCTION],
    "tool_choice": {"type": "function", "name": "f"}, "max_output_tokens": 50, "truncation": "auto", "tracing": "auto",
    "audio": {
        "input": {
            "format": {"type": "audio/pcm", "rate": 24000},
            "turn_detection": {"type": "server_vad", "threshold": 0.5, "silence_duration_ms": 300},
            "transcription": {"language": "en", "model": "x", "prompt": "y"},
        },
        "output": {"voice": "alloy", "speed": 1.0, "format": {"type": "audio/pcmu"}},
    },
}  # fmt: skip
TEXT = [{"type": "input_text", "text": "hello"}]


def item(type: str, **fields: Any) -> dict[str, Any]:
    return {"type": "conversation.item.create", "previous_item_id": "root", "item": {"type": type, **fields}}


EVENTS = (
    {"type": "session.update", "session": SESSION},
    {"type": "input_audio_buffer.append", "audio": SOUND},
    *({"type": each} for each in ("input_audio_buffer.commit", "input_audio_buffer.clear", "response.create")),
    item("message", role="user", content=TEXT, id="abc"),
    item("message", role="user", content=[{"type": "input_audio", "audio": SOUND, "transcript": "x"}]),
    item("message", role="assistant", content=[{"type": "output_text", "text": "hello"}]),
    item("function_call", name="f", call_id="c", arguments="{}"),
    item("function_call_output", call_id="c", output="done"),
    *({"type": f"conversation.item.{each}", "item_id": "abc"} for each in ("delete", "retrieve")),
    {"type": "conversation.item.truncate", "item_id": "abc", "content_index": 0, "audio_end_ms": 100},
    {
        "type": "response.create", "event_id": "e",
        "response": {
            "conversation": "none", "metadata": {"a": "b"}, "tools": [FUNCTION], "output_modalities": ["text"],
            "input": [{"type": "message", "role": "user", "content": TEXT}],
        },
    },
    {"type": "response.cancel", "response_id": "r"},
    {"type": "parley.playback", "response_id": "r", "samples": 100},
)  # fmt: skip
BODIES: tuple[tuple[str, str, dict[str, Any]], ...] = (
    (
        "PUT", "/api/settings",
        {
            "mind": {"persona": "x", "temperature": 0.5, "url": "http://localhost:1/v1", "api_key": "k"},
            "turns": {"silence_ms": 700}, "log": {"level": "INFO"},
            "tools": {"servers": [{"name": "a", "command": "x", "enabled": False}], "permissions": {"a": "ask"}},
        },
    ),
    ("POST", "/api/settings/import", {"profile": "offline", "voice": {"engine": "espeak", "name": "en"}}),
    ("POST", "/api/tools/servers", {"name": "a", "command": "no-such-program 'x'", "key": "k", "env": {"A": "b"}}),
    ("POST", "/api/downloads", {"models": [{"stage": "ears", "engine": "whisper", "model": "no/such"}]}),
    ("POST", "/api/mind/models", {"url": "http://127.0.0.1:9", "api_key": "x"}),
    ("POST", "/api/voice/hear", {"text": "Hello"}),
    ("POST", "/api/teaching", {"person": "Ann", "agreed": True, "language": "en"}),
    ("PUT", "/api/teaching/ann/work", {"do": "stop", "beside_talks": True}),
    ("POST", "/v1/realtime/client_secrets", {"expires_after": {"anchor": "created_at", "seconds": 60},
                                             "session": SESSION}),
    ("POST", "/v1/audio/speech", {"input": "Hello there.", "voice": {"id": "alloy"}, "response_format": "wav",
                                  "speed": 1.0, "stream_format": "audio"}),
    ("POST", "/v1/completions", {"prompt": "hello", "max_tokens": 5, "stream": True}),
    (
        "POST", "/v1/chat/completions",
        {
            "messages": [{"role": "system", "content": "be"}, {"role": "user", "content": TEXT}], "temperature": 0.2,
            "max_tokens": 5, "stream": False, "stream_options": {"include_usage": True},
        },
    ),
)  # fmt: skip


@pytest.fixture(autouse=True)
def nothing_broke(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    assert not [each.getMessage() for each in caplog.records if each.levelno >= logging.ERROR]


async def test_events_of_the_realtime_protocol(running: Running) -> None:
    for seed in range(30 * TIMES):
        fuzz = Fuzz(seed)
        async with running.connect(fuzz.one_of(["", "?parley=1", "?intent=transcription"])) as socket:
            for _ in range(fuzz.random.randint(2, 12)):
                event = fuzz.one_of(EVENTS)
                await socket.send(fuzz.text(event) if fuzz.random.random() < 0.75 else json.dumps(event))
            await socket.send('{"type": "conversation.item.retrieve", "item_id": "none", "event_id": "the last"}')
            while (await the(socket, "error"))["error"].get("event_id") != "the last":
                pass


async def test_bodies_of_the_api(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(*_: object, **__: object) -> None:
        raise OSError("no process is started here")

    monkeypatch.setattr(asyncio, "create_subprocess_exec", nothing)
    async with running.client(timeout=60) as client:
        for seed in range(60 * TIMES):
            fuzz = Fuzz(seed)
            method, path, body = fuzz.one_of(BODIES)
            answer = await client.request(method, path, content=fuzz.text(body).encode(), headers=JSON)
            assert answer.status_code < 500 or answer.status_code == 503, (seed, path, answer.text)
            if "json" in answer.headers.get("content-type", "") and answer.status_code >= 400:
                assert answer.json()["error"]["message"], (seed, path)
        assert (await client.get("/health")).status_code == 200


async def test_offers_of_webrtc(running: Running) -> None:
    async with running.client(timeout=60) as client:
        async with peer() as caller:
            lines = (await caller.offer()).split("\r\n")
        for seed in range(20 * TIMES):
            fuzz, changed = Fuzz(seed), list(lines)
            for _ in range(fuzz.random.randint(1, 4)):
                at = fuzz.random.randrange(len(changed))
                line = changed[at]
                changed[at : at + 1] = fuzz.one_of(
                    [[], [line, line], [line[:3]], [fuzz.bytes(line.encode(), 3).decode("latin-1")]]
                )
            answer = await client.post(CALLS, content="\r\n".join(changed).encode(), headers=SDP)
            assert answer.status_code in (201, 400), (seed, answer.text)
            if answer.status_code == 201:
                await client.post(f"{answer.headers['location']}/hangup")
    assert running.service.conversations == 0


def test_files_of_settings(tmp_path: Path) -> None:
    store = SettingsStore(tmp_path)
    store.save(Settings(set_up=True))
    content = store.path.read_bytes()
    tree = json.loads(content)
    for seed in range(100 * TIMES):
        fuzz = Fuzz(seed)
        store.path.write_bytes(fuzz.text(tree).encode() if fuzz.random.random() < 0.7 else fuzz.bytes(content))
        loaded = store.load()
        assert loaded.notice is None or loaded.notice.endswith("."), seed
        store.save(loaded.settings)
        assert store.load().settings == loaded.settings, seed


def test_lines_of_an_imported_memory(tmp_path: Path) -> None:
    turn = {"id": "1", "speaker": "user", "text": "hello", "at": "2026-11-20T12:00:00+00:00", "conversation": "c"}
    file = tmp_path / "memory.jsonl"
    with Memory(tmp_path / "memory", embedder=WordEmbedder()) as memory:
        for seed in range(50 * TIMES):
            fuzz = Fuzz(seed)
            lines = [fuzz.text(turn | {"id": str(number)}) for number in range(2)]
            file.write_bytes("\n".join(lines).encode() if seed % 5 else fuzz.bytes(lines[0].encode() + b"\n"))
            with suppress(ValueError):
                memory.import_(file)
            memory.export(tmp_path / "out.jsonl")
        memory.recall("hello", now=None)
        memory.forget(everything=True)
        assert memory.size().turns == 0


def test_lines_of_the_log_of_turns(tmp_path: Path) -> None:
    turn = {"conversation": "c", "turn": 1, "at": "2026-11-20T12:00:00+00:00", "user": "marmalade", "heard": "x"}
    log = TurnLog(tmp_path, lambda: True)
    for seed in range(100 * TIMES):
        fuzz = Fuzz(seed)
        lines = [fuzz.text(turn | {"turn": number}) for number in range(5)]
        log.path.write_bytes("\n".join(lines).encode() if seed % 5 else fuzz.bytes(lines[0].encode() * 2))
        log.of("c")
        log.forget(everything=True)
        assert b'"user": "marmalade"' not in log.path.read_bytes(), seed


def recordings() -> Iterator[tuple[str, bytes]]:
    noise = np.random.default_rng(0).normal(0, 0.1, (8000, 2)).astype(np.float32)
    for format in ("WAV", "FLAC", "OGG", "MP3", "AIFF", "RF64", "W64", "CAF", "AU"):
        file = io.BytesIO()
        soundfile.write(file, noise, 16_000, format=format)
        yield format, file.getvalue()
    for format in ("m4a", "aac", "wma"):
        yield format, encoding.encoded(format, np.ascontiguousarray(noise[:, 0]), 16_000)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # libsndfile may seek before a file
@pytest.mark.parametrize(("format", "content"), recordings(), ids=lambda value: value if isinstance(value, str) else "")
def test_heads_of_recordings(format: str, content: bytes) -> None:
    for seed in range(40 * TIMES):
        fuzz = Fuzz(seed)
        damaged = fuzz.bytes(content[:200]) + content[200:] if seed % 5 else fuzz.bytes(content, 20)
        with suppress(Undecodable):
            sound = decode.decode(io.BytesIO(damaged), EAR_RATE, 60)
            assert np.isfinite(sound).all()
            assert len(sound) <= 61 * EAR_RATE
