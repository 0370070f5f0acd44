"""`POST /generate_audio`: the interface of CSM's deployment on Cerebrium, with two additions its authors wished for.

    {"text": "…"}  →  {"run_id", "result": {"audio_data", "format": "wav", "encoding": "base64"}, "run_time_ms"}

`stream` sends the WAV itself while it is generated; `references` are recordings of the voice to speak with.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import io
import tempfile
import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import Annotated

import soundfile
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from pipeline.audio import MOUTH_RATE
from pipeline.audio.decode import decode
from pipeline.audio.encode import FORMATS
from web.api.audio.errors import Refused, explained
from web.api.audio.made_voices import LONGEST_S
from web.api.audio.paths import DEPLOYED, GENERATE
from web.api.audio.queue import Queue
from web.api.audio.requests import checked, json_body
from web.api.audio.speech import LONGEST, encoded, speakable_clauses, spoken
from web.api.audio.streamed import Streamed, answered, base64_text
from web.api.audio.voice_choice import Choose, chosen, like, running_voice
from web.service import Service
from web.voices import Voices

MOST = 3
"""The most references."""
MAX_BODY = 40_000_000
"""Bytes: enough for references of a minute each, in base64."""


class SentRecording(BaseModel):
    model_config = ConfigDict(extra="ignore")
    audio_data: Annotated[str, Field(max_length=MAX_BODY)]
    """A recording in base64, of any format."""
    text: Annotated[str, Field(min_length=1, max_length=2000)]
    """The recording's transcript."""


class Generation(BaseModel):
    model_config = ConfigDict(extra="ignore")
    text: Annotated[str, Field(max_length=LONGEST)]
    voice: Annotated[str, Field(max_length=200)] = ""
    stream: bool = False
    references: Annotated[list[SentRecording], Field(max_length=MOST)] = Field(default_factory=list)
    consent: bool = False
    """Whether everyone in the references has agreed to this."""


def generate_api(service: Service, voices: Voices, queue: Queue) -> APIRouter:
    router = APIRouter()

    @router.post(GENERATE)
    @router.post(DEPLOYED)
    async def generate(request: Request) -> Response:
        """Speak a text, in the format of CSM's deployment on Cerebrium."""
        began = time.monotonic()
        asked = checked(Generation, await json_body(request))
        said = await asyncio.to_thread(speakable_clauses, asked.text, "text")
        async with AsyncExitStack() as opened:
            choose = await _voice(asked, opened)
            wav = encoded(spoken(running_voice(service), choose, said, queue), "wav")
            if asked.stream:
                return Streamed(_within(opened.pop_all(), wav), FORMATS["wav"].media_type)
            data = await answered(request, _whole(wav))
        result = {"audio_data": base64_text(data), "format": "wav", "encoding": "base64"}
        run_time = round((time.monotonic() - began) * 1000, 1)
        return JSONResponse({"run_id": str(uuid.uuid4()), "result": result, "run_time_ms": run_time})

    async def _voice(asked: Generation, opened: AsyncExitStack) -> Choose:
        if not asked.references:
            return await chosen(service, voices, asked.voice)
        if not asked.consent:
            raise Refused(400, "Send consent: true if everyone in the recordings has agreed to this.", "consent")
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="parley-references-")))
        files = [(folder / f"{number}.flac", reference) for number, reference in enumerate(asked.references)]
        choose = like(
            running_voice(service).current.engine, [(file, reference.text) for file, reference in files], "references"
        )
        for file, reference in files:
            await asyncio.to_thread(_keep, file, reference)
        return choose

    return router


def _keep(file: Path, reference: SentRecording) -> None:
    """Store a reference. Raises Refused if it is not a recording."""
    try:
        content = base64.b64decode(reference.audio_data, validate=True)
    except (binascii.Error, ValueError):
        raise Refused(400, "audio_data is not base64.", "references") from None
    with explained("references"):
        soundfile.write(file, decode(io.BytesIO(content), MOUTH_RATE, LONGEST_S), MOUTH_RATE)


async def _within(opened: AsyncExitStack, pieces: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    async with opened, aclosing(pieces):
        async for piece in pieces:
            yield piece


async def _whole(pieces: AsyncGenerator[bytes, None]) -> bytes:
    """Return the whole WAV with its length, which is known now, in the header."""
    async with aclosing(pieces):
        data = b"".join([piece async for piece in pieces])
    return with_length(data)


def with_length(wav: bytes) -> bytes:
    """Set the lengths of a streamed WAV: bytes 4 to 8 count what follows them, and bytes 40 to 44 its samples."""
    return wav[:4] + (len(wav) - 8).to_bytes(4, "little") + wav[8:40] + (len(wav) - 44).to_bytes(4, "little") + wav[44:]
