"""`POST /v1/audio/speech` reads a text aloud, in every format, and streams the sound while it is generated."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from pipeline.audio import Samples
from pipeline.audio.encode import FASTEST, FORMATS, SLOWEST, SoundEncoder
from pipeline.cleanup import uninterrupted
from pipeline.engines.lease import LeasedVoice
from pipeline.tts.reading import clauses, read_aloud
from web.api.audio.errors import Refused, explained
from web.api.audio.queue import Queue
from web.api.audio.requests import checked, json_body
from web.api.audio.streamed import EVENT_STREAM, Streamed, base64_text, events
from web.api.audio.voice_choice import Choose, chosen, running_voice
from web.service import Service
from web.voices import Voices

LONGEST = 10_000
"""Characters: about twelve minutes of speech. OpenAI takes 4,096."""

FormatName = Literal["mp3", "opus", "aac", "flac", "wav", "pcm"]


class VoiceId(BaseModel):
    id: Annotated[str, Field(max_length=200)]


class Speech(BaseModel):
    model_config = ConfigDict(extra="ignore")
    input: Annotated[str, Field(max_length=LONGEST)]
    voice: Annotated[str, Field(max_length=200)] | VoiceId = ""
    response_format: FormatName = "mp3"
    speed: Annotated[float, Field(ge=SLOWEST, le=FASTEST)] = 1.0
    stream_format: Literal["audio", "sse"] = "audio"

    @property
    def voice_name(self) -> str:
        return (self.voice if isinstance(self.voice, str) else self.voice.id).strip()


def speech_api(service: Service, voices: Voices, queue: Queue) -> APIRouter:
    router = APIRouter()

    @router.post("/v1/audio/speech")
    @router.post("/audio/speech")
    async def speak(request: Request) -> Response:
        """Speak a text; the sound is streamed while it is generated."""
        asked = checked(Speech, await json_body(request))
        said = await asyncio.to_thread(speakable_clauses, asked.input, "input")
        choose = await chosen(service, voices, asked.voice_name)
        sounds = spoken(running_voice(service), choose, said, queue)
        pieces = encoded(sounds, asked.response_format, asked.speed)
        if asked.stream_format == "sse":
            return Streamed(events(_deltas(pieces, asked.input)), EVENT_STREAM)
        return Streamed(pieces, FORMATS[asked.response_format].media_type)

    return router


def speakable_clauses(text: str, param: str) -> list[str]:
    """Split the text into clauses. Raises Refused if nothing in it can be said."""
    if not text.strip():
        raise Refused(400, f"{param} is empty: write something to say.", param)
    if not (said := clauses(text)):
        raise Refused(400, f"Nothing in {param} can be said aloud: write it in words.", param)
    return said


async def spoken(
    voice: LeasedVoice, choose: Choose, said: Sequence[str], queue: Queue
) -> AsyncGenerator[Samples, None]:
    """Yield 24 kHz sound as it is generated; if there is none at all, try once more. Raises Refused.

    Texts take turns clause by clause, so that a sentence need not wait for a chapter.
    """
    with explained():
        async with queue.taken_in():
            for _ in range(2):
                made = False
                speaker = voice.reader(choose)
                try:
                    for clause in said:
                        async with queue.turn(), aclosing(read_aloud(speaker, [clause])) as sounds:
                            async for sound in sounds:
                                made = True
                                yield sound
                finally:
                    await uninterrupted(speaker.close())
                if made:
                    return
    raise Refused(503, "The voice produced no sound for this text: try again, or rephrase it.", "input")


async def encoded(
    sounds: AsyncGenerator[Samples, None], format: str, speed: float = 1.0
) -> AsyncGenerator[bytes, None]:
    encoder = SoundEncoder(format, speed)
    async with aclosing(sounds):
        async for sound in sounds:
            if data := await asyncio.to_thread(encoder.feed, sound):
                yield data
    if data := await asyncio.to_thread(encoder.finish):
        yield data


async def _deltas(pieces: AsyncGenerator[bytes, None], text: str) -> AsyncGenerator[Mapping[str, Any], None]:
    sent = 0
    async with aclosing(pieces):
        async for piece in pieces:
            sent += 1
            yield {"type": "speech.audio.delta", "audio": base64_text(piece)}
    words = len(text.split())
    usage = {"input_tokens": words, "output_tokens": sent, "total_tokens": words + sent}
    yield {"type": "speech.audio.done", "usage": usage}
