"""The routes of the audio API, and the size limits of its paths, by canonical name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fastapi import APIRouter

from config import Settings
from web.api.audio.chat import chat_api
from web.api.audio.generate import MAX_BODY as GENERATE_BODY
from web.api.audio.generate import generate_api
from web.api.audio.listing import listing_api
from web.api.audio.made_voices import made_voices_api
from web.api.audio.paths import GENERATE
from web.api.audio.queue import Queues
from web.api.audio.speech import speech_api
from web.api.audio.transcriptions import transcriptions_api
from web.service import Service
from web.voices import Voices

RECORDINGS = ("/v1/audio/transcriptions", "/v1/audio/translations")
SAMPLES = ("/v1/audio/voices", "/v1/audio/voice_consents")
FORMS = (*RECORDINGS, *SAMPLES)
SAMPLE_BYTES = 10 << 20
"""For a voice's recording; as much as OpenAI takes."""
CHAT_BYTES = 8 << 20
"""For a conversation."""
FRAME_BYTES = 64 << 10
"""For the form around a file."""


def audio_api(service: Service, voices: Voices, queues: Queues) -> APIRouter:
    router = APIRouter()
    for each in (
        speech_api(service, voices, queues.speaking),
        transcriptions_api(service, queues.hearing),
        made_voices_api(service, voices, queues.hearing),
        listing_api(service, voices),
        chat_api(service, queues.writing),
        generate_api(service, voices, queues.speaking),
    ):
        router.include_router(each)
    return router


def larger_bodies(settings: Callable[[], Settings]) -> Mapping[str, Callable[[], int]]:
    """Return how many bytes may be sent to each path; the limit for recordings is in the settings."""
    return {
        **dict.fromkeys(RECORDINGS, lambda: (settings().api.upload_mb << 20) + FRAME_BYTES),
        **dict.fromkeys(SAMPLES, lambda: SAMPLE_BYTES + FRAME_BYTES),
        "/v1/chat/completions": lambda: CHAT_BYTES,
        "/v1/completions": lambda: CHAT_BYTES,
        GENERATE: lambda: GENERATE_BODY,
    }
