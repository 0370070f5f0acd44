"""Requests as chat programs send them, which cannot be run here; written after their sources.

Open WebUI: backend/open_webui/routers/audio.py at 01fb3e4; SillyTavern: src/endpoints/openai.js at 00a72b5; LibreChat:
api/server/services/Files/Audio/STTService.js at 00b3bc3 (a fork's copy).
"""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.web.api.audio.conftest import tone
from tests.web.api.audio.test_transcriptions import Writing, ears

__all__ = ["ears"]

SPEECH: dict[str, tuple[str, dict[str, str], dict[str, Any]]] = {
    "Open WebUI": (
        "/v1/audio/speech",
        {"Authorization": "Bearer sk-1", "X-OpenWebUI-User-Name": "Ann", "X-OpenWebUI-User-Role": "admin"},
        {"model": "tts-1", "input": "It is warm.", "voice": "alloy"},
    ),
    "SillyTavern, without a key": (
        "/v1/audio/speech",
        {"Authorization": "Bearer"},
        {"input": "It is warm.", "response_format": "mp3", "voice": "alloy", "speed": 1, "model": "tts-1"},
    ),
    "LibreChat": (
        "/v1/audio/speech",
        {"Authorization": "Bearer none"},
        {"input": "It is warm.", "model": "tts-1", "voice": "nova", "backend": None},
    ),
}


@pytest.mark.parametrize("program", SPEECH)
async def test_a_text_becomes_an_mp3(client: httpx.AsyncClient, program: str) -> None:
    path, headers, body = SPEECH[program]
    answer = await client.post(path, headers=headers, json=body)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "audio/mpeg" and len(answer.content) > 1000


@pytest.mark.parametrize(
    ("name", "fields", "headers"),
    [
        ("0b7c8f3e.wav", {"model": ""}, {"Authorization": "Bearer sk-1"}),  # Open WebUI, no model entered
        ("audio.wav", {"model": "whisper-1", "language": "en"}, {"Authorization": "Bearer none"}),  # SillyTavern
        ("audio.webm", {"model": "whisper-1", "language": "en"}, {}),  # LibreChat calls it so whatever it is
    ],
)
async def test_a_recording_becomes_a_text(
    client: httpx.AsyncClient, ears: Writing, name: str, fields: dict[str, str], headers: dict[str, str]
) -> None:
    answer = await client.post("/v1/audio/transcriptions", files={"file": (name, tone())}, data=fields, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.json()["text"] == ears.text


async def test_open_webui_fills_its_menus_without_a_key(client: httpx.AsyncClient) -> None:
    voices = (await client.get("/v1/audio/voices")).json()["voices"]
    models = (await client.get("/v1/audio/models")).json()["models"]
    assert voices and all({"id", "name"} <= set(voice) for voice in voices)
    assert models and all("id" in model for model in models)
