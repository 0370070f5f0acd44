"""`POST /v1/audio/transcriptions` and `/translations` transcribe a recording of any kind and length."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, cast

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse, Response
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from starlette.datastructures import UploadFile

from pipeline.engines.lease import LeasedEars
from pipeline.engines.transcription import HeardPassage, Segment, joined, transcribed
from pipeline.stt import TranscriptionWishes
from web.api.audio.errors import Refused, explained
from web.api.audio.queue import Queue
from web.api.audio.requests import checked, form_body, texts, uploaded
from web.api.audio.streamed import EVENT_STREAM, Streamed, answered, events
from web.api.audio.subtitles import srt, vtt
from web.service import Service

Granularity = Literal["word", "segment"]

BESIDE_WORDS = re.compile(r"^[^\w$€£%+#&]+|[^\w$€£%+#&]+$")
"""Punctuation around words, which OpenAI's words do not include."""


class TranscriptionForm(BaseModel):
    """The fields of a form, all of which are sent as text."""

    model_config = ConfigDict(extra="ignore")
    response_format: Literal["json", "text", "srt", "vtt", "verbose_json"] = "json"
    language: Annotated[str, Field(max_length=40)] = ""
    prompt: Annotated[str, Field(max_length=10_000)] = ""
    temperature: Annotated[float, Field(ge=0, le=1)] = 0.0
    timestamp_granularities: list[Granularity] = Field(default_factory=list)
    stream: bool = False

    @model_validator(mode="after")
    def _one_shape(self) -> TranscriptionForm:
        if self.stream and self.response_format not in ("json", "verbose_json"):
            raise ValueError(f"a stream has its own format, so leave out response_format {self.response_format}")
        return self

    @field_validator("timestamp_granularities", mode="before")
    @classmethod
    def _several(cls, value: object) -> object:
        """Accept a single value without brackets, or several with commas, as some clients send."""
        return [part.strip() for part in value.split(",")] if isinstance(value, str) else value

    @field_validator("temperature", "stream", mode="before")
    @classmethod
    def _left_out(cls, value: object) -> object:
        return 0 if value == "" else value

    def wishes(self, translate: bool) -> TranscriptionWishes:
        language = self.language.strip().lower().partition("-")[0]
        code = None if language in ("", "auto") else language
        return TranscriptionWishes(code, self.prompt, translate, self.temperature)


@dataclass
class TranscribedFile:
    """The transcript so far."""

    seconds: float = 0.0
    language: str | None = None
    segments: list[Segment] = field(default_factory=list)

    def add(self, heard: HeardPassage) -> None:
        self.seconds = heard.seconds
        self.language = self.language or heard.language
        self.segments += heard.segments

    @property
    def text(self) -> str:
        return joined([segment.text for segment in self.segments], self.language)


def transcriptions_api(service: Service, queue: Queue) -> APIRouter:
    router = APIRouter()

    @router.post("/v1/audio/transcriptions")
    @router.post("/audio/transcriptions")
    async def transcribe(request: Request) -> Response:
        """Transcribe a recording."""
        return await write_down(request, translate=False)

    @router.post("/v1/audio/translations")
    @router.post("/audio/translations")
    async def translate(request: Request) -> Response:
        """Transcribe a recording, translated into English."""
        return await write_down(request, translate=True)

    async def write_down(request: Request, *, translate: bool) -> Response:
        async with AsyncExitStack() as opened:
            form = await opened.enter_async_context(form_body(request))
            asked = checked(TranscriptionForm, texts(form))
            file = uploaded(form, "file")
            if "word" in asked.timestamp_granularities and not running_ears(service).writes_down:
                raise Refused(
                    400, "The current ears do not report the times of words: choose Whisper on the setup page.",
                    "timestamp_granularities[]",
                )  # fmt: skip
            longest_s = service.settings.api.longest_h * 3600
            passages = written_down(service, queue, file, asked.wishes(translate), longest_s, "file")
            if asked.stream:
                return Streamed(events(_deltas(passages, opened.pop_all())), EVENT_STREAM)
            transcript = await answered(request, _whole(passages))
        return _response(transcript, asked, "translate" if translate else "transcribe")

    return router


def running_ears(service: Service) -> LeasedEars:
    """Return the running ears. Raises Refused (503) while there are none."""
    with explained():
        return cast(LeasedEars, service.engines.running("ears"))


async def written_down(
    service: Service,
    queue: Queue,
    file: UploadFile,
    wishes: TranscriptionWishes,
    longest_s: float,
    param: str | None = None,
) -> AsyncGenerator[HeardPassage, None]:
    """Transcribe a recording sent as `param`, taking turns with other recordings. Raises Refused."""
    with explained(param):
        async with queue.taken_in():
            ears, vad = running_ears(service), service.engines.vad()
            passages = transcribed(ears, vad, file.file, wishes, longest_s, queue.turn)
            async with aclosing(passages):
                async for heard in passages:
                    yield heard


async def _whole(passages: AsyncGenerator[HeardPassage, None]) -> TranscribedFile:
    transcript = TranscribedFile()
    async with aclosing(passages):
        async for heard in passages:
            transcript.add(heard)
    return transcript


async def _deltas(
    passages: AsyncGenerator[HeardPassage, None], opened: AsyncExitStack
) -> AsyncGenerator[Mapping[str, Any], None]:
    """Yield deltas that, joined, are the text."""
    transcript, sent = TranscribedFile(), ""
    async with opened, aclosing(passages):
        async for heard in passages:
            transcript.add(heard)
            if delta := transcript.text[len(sent) :]:
                sent += delta
                yield {"type": "transcript.text.delta", "delta": delta}
    yield {"type": "transcript.text.done", "text": transcript.text, "usage": _usage(transcript)}


def _response(transcript: TranscribedFile, asked: TranscriptionForm, task: str) -> Response:
    match asked.response_format:
        case "text":
            return PlainTextResponse(transcript.text + "\n")
        case "srt":
            return PlainTextResponse(srt(transcript.segments))
        case "vtt":
            return PlainTextResponse(vtt(transcript.segments), media_type="text/vtt")
        case "verbose_json":
            tree = _verbose(transcript, asked, task)
        case _:
            tree = {"text": transcript.text, "usage": _usage(transcript)}
    return Response(json.dumps(tree, ensure_ascii=False), media_type="application/json")


def _verbose(transcript: TranscribedFile, asked: TranscriptionForm, task: str) -> dict[str, Any]:
    tree = {
        "task": task,
        "language": "en" if task == "translate" else transcript.language or "en",
        "duration": round(transcript.seconds, 3),
        "text": transcript.text,
        "usage": _usage(transcript),
    }
    if "word" in asked.timestamp_granularities:
        tree["words"] = [
            {"word": bare, "start": round(word.start, 2), "end": round(word.end, 2)}
            for segment in transcript.segments
            for word in segment.words
            if (bare := BESIDE_WORDS.sub("", word.text))
        ]
    if asked.timestamp_granularities != ["word"]:
        tree["segments"] = [_segment(number, segment, asked) for number, segment in enumerate(transcript.segments)]
    return tree


def _segment(number: int, segment: Segment, asked: TranscriptionForm) -> dict[str, Any]:
    """Return a segment. `seek` counts hundredths of a second, as in OpenAI's Whisper; tokens are not kept."""
    raw = segment.text.encode()
    return {
        "id": number,
        "seek": round(100 * segment.start),
        "start": round(segment.start, 2),
        "end": round(segment.end, 2),
        "text": segment.text,
        "tokens": [],
        "temperature": asked.temperature,
        "avg_logprob": round(segment.written.log_probability, 4),
        "compression_ratio": round(len(raw) / len(zlib.compress(raw)), 4),
        "no_speech_prob": round(segment.written.no_speech, 4),
    }


def _usage(transcript: TranscribedFile) -> dict[str, Any]:
    return {"type": "duration", "seconds": -(-transcript.seconds // 1)}
