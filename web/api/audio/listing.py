"""The lists of voices and models with which clients fill their menus."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from fastapi import APIRouter

from pipeline.engine import EngineError
from web.api.audio.errors import Refused
from web.api.audio.voice_choice import OWN, speakable
from web.service import Service
from web.voices import Voices

MIND, SPEECH, TRANSCRIPTION = "parley", "tts-1", "whisper-1"
"""Names for clients that choose from a list; any other name works too, since each stage has only one model."""

_TASKS = {MIND: "text-generation", SPEECH: "text-to-speech", TRANSCRIPTION: "automatic-speech-recognition"}


def listing_api(service: Service, voices: Voices) -> APIRouter:
    router = APIRouter()

    @router.get("/v1/models")
    @router.get("/models")
    async def models() -> dict[str, Any]:
        """The models, for clients that choose from a list."""
        return {"object": "list", "data": [_model(name) for name in _TASKS]}

    @router.get("/v1/models/{name:path}")
    async def model(name: str) -> dict[str, Any]:
        """One model."""
        if name not in _TASKS:
            raise Refused(404, f"There is no model {name[:100]!r}; a request may name any.", "model", "model_not_found")
        return _model(name)

    @router.get("/v1/audio/models")
    @router.get("/audio/models")
    async def audio_models() -> dict[str, Any]:
        """The speech models, as Open WebUI asks for them."""
        return {"models": [{"id": SPEECH, "name": SPEECH}]}

    @router.get("/v1/audio/voices")
    @router.get("/audio/voices")
    async def all_voices() -> dict[str, Any]:
        """The voices, in the formats of Open WebUI and Kokoro-FastAPI (`voices`) and of OpenAI's lists (`data`)."""
        offered = [{"id": OWN, "name": "Parley, as set up"}]
        with suppress(EngineError):  # while the voice is loading, only the voices made here are listed
            offered += [{"id": voice.name, "name": voice.label} for voice in await service.engines.voices()]
        offered += [{"id": voice.id, "name": voice.name} for voice in speakable(service, voices)]
        data = [{**voice, "object": "audio.voice"} for voice in offered]
        return {"object": "list", "voices": offered, "data": data, "has_more": False}

    return router


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "parley", "task": _TASKS[name]}
