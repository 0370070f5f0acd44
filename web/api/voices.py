"""Recordings of the voice to speak with: sent here, listened to for their words, and taken away again."""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, cast

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict, Field

from config import Settings
from config.settings import Reference
from pipeline.audio import EAR_RATE, Samples
from pipeline.ends.file import AudioFileError, read_sound
from pipeline.engine import EngineError
from pipeline.engines.trial import transcribe
from pipeline.stt import SpeechToText
from web.api.http import Problem, checked, json_object
from web.service import Service

MAX_RECORDING = 20_000_000
"""Bytes: a minute and a half of stereo at 96 kHz, or many of anything smaller."""
MAX_UPLOAD = MAX_RECORDING * 4 // 3 + 10_000
"""The same in base64, with its frame."""
SHORTEST_S, LONGEST_S = 1.0, 60.0
"""Of a recording: less says nothing about a voice, and more takes the place of the conversation."""
MAX_RECORDINGS = 5
FORMATS = {".wav": "audio/wav", ".flac": "audio/flac", ".mp3": "audio/mpeg"}
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}\.(wav|flac|mp3)")


class Upload(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: Annotated[str, Field(max_length=300)]
    data: Annotated[str, Field(max_length=MAX_UPLOAD)]
    """The file in base64."""


class Words(BaseModel):
    model_config = ConfigDict(extra="forbid")
    text: Annotated[str, Field(max_length=2000)]


def voices_api(service: Service) -> APIRouter:
    router = APIRouter()
    folder = service.data / "voices"

    @router.post("/api/voice/references")
    async def add(request: Request) -> dict[str, Any]:
        """Take a recording; its words are proposed by the ears that run, or left open where they cannot say."""
        upload = checked(Upload, await json_object(request))
        kept = service.settings.voice.references
        if len(kept) >= MAX_RECORDINGS:
            raise Problem(409, f"There may be {MAX_RECORDINGS} recordings: remove one first.")
        name, sound = await asyncio.to_thread(_keep, folder, upload)
        try:
            text = await _words(service, sound)
            await _change(service, lambda kept: [*kept, Reference(recording=name, text=text)])
        except BaseException:
            (folder / name).unlink(missing_ok=True)
            raise
        return {"recording": name, "text": text, "seconds": round(len(sound) / EAR_RATE, 2)}

    @router.put("/api/voice/references/{name}")
    async def say(name: str, request: Request) -> dict[str, Any]:
        """Correct what is said in a recording."""
        text = checked(Words, await json_object(request)).text.strip()
        _known(service, name)
        said = Reference(recording=name, text=text)
        await _change(service, lambda kept: [said if each.recording == name else each for each in kept])
        return {"recording": name, "text": text}

    @router.delete("/api/voice/references/{name}")
    async def remove(name: str) -> dict[str, Any]:
        _known(service, name)
        await _change(service, lambda kept: [each for each in kept if each.recording != name])
        if NAME.fullmatch(name):
            await asyncio.to_thread((folder / name).unlink, missing_ok=True)
        return {"removed": name}

    @router.get("/api/voice/references/{name}")
    async def listen(name: str) -> FileResponse:
        _known(service, name)
        file = folder / name
        if not NAME.fullmatch(name) or not file.is_file():
            raise Problem(404, f"The recording {name} is not in {folder}: remove it here and send it again.")
        return FileResponse(file, media_type=FORMATS[file.suffix])

    return router


def _known(service: Service, name: str) -> None:
    if all(each.recording != name for each in service.settings.voice.references):
        raise Problem(404, "There is no such recording: load the page again.")


async def _change(service: Service, edit: Callable[[list[Reference]], list[Reference]]) -> None:
    def edited(old: Settings) -> Settings:
        new = old.model_copy(deep=True)
        new.voice.references = edit(new.voice.references)
        return new

    await service.change(edited)


async def _words(service: Service, sound: Samples) -> str:
    try:
        ears = cast(SpeechToText, service.engines.running("ears"))
        return (await transcribe(ears, sound))[0][:2000]
    except EngineError:
        return ""  # the user can still write them


def _keep(folder: Path, upload: Upload) -> tuple[str, Samples]:
    """Write the file under a name of our own making and read it as sound. Raises Problem."""
    suffix = Path(upload.name).suffix.lower()
    if suffix not in FORMATS:
        raise Problem(422, "Send a recording as .wav, .flac or .mp3.", "name")
    try:
        content = base64.b64decode(upload.data, validate=True)
    except (binascii.Error, ValueError):
        raise Problem(422, "The recording came damaged: send it again.", "data") from None
    if len(content) > MAX_RECORDING:
        raise Problem(413, f"The recording may have {MAX_RECORDING // 1_000_000} MB: cut it to half a minute.", "data")
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", Path(upload.name).stem).strip("-_")[:48] or "voice"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, suffix=suffix, prefix=".new-", delete=False) as file:
            file.write(content)
        temporary = Path(file.name)
    except OSError as error:
        raise Problem(507, f"The recording could not be kept ({error.strerror}): free some space.") from error
    try:
        sound = read_sound(temporary)
        seconds = len(sound) / EAR_RATE
        if not SHORTEST_S <= seconds <= LONGEST_S:
            raise Problem(422, f"The recording is {seconds:.1f} s long: it should be {SHORTEST_S:.0f} to "
                               f"{LONGEST_S:.0f} s, and 10 to 30 s serve best.", "data")  # fmt: skip
        name = next(each for each in _names(stem, suffix) if not (folder / each).exists())
        temporary.rename(folder / name)
        return name, sound
    except AudioFileError as error:
        raise Problem(422, str(error).replace(str(temporary), "The file"), "data") from error
    finally:
        temporary.unlink(missing_ok=True)


def _names(stem: str, suffix: str) -> Iterator[str]:
    yield f"{stem}{suffix}"
    yield from (f"{stem}-{number}{suffix}" for number in range(2, 1000))
