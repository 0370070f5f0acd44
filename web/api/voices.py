"""Recordings of the voice to speak with: uploading, transcribing and deleting them."""

from __future__ import annotations

import asyncio
import base64
import binascii
import io
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, cast

import soundfile
import soxr
from fastapi import APIRouter, Request
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict, Field

from config import Settings
from config.settings import Reference
from pipeline.audio import EAR_RATE, MOUTH_RATE, Samples
from pipeline.audio.decode import TooLong, Undecodable, decode
from pipeline.engine import EngineError
from pipeline.engines.trial import transcribe
from pipeline.stt import SpeechToText
from web.api.http import Problem, checked, json_object
from web.csm_voices import CsmVoice, csm_folder, csm_voices
from web.service import Service

MAX_RECORDING = 20_000_000
"""Bytes: nearly a minute of 16-bit stereo at 96 kHz, or more at lower rates."""
MAX_UPLOAD = MAX_RECORDING * 4 // 3 + 10_000
"""The same in base64, plus the JSON around it."""
SHORTEST_S, LONGEST_S = 1.0, 60.0
"""Length of a recording: less says nothing about a voice, and more takes up room that the conversation needs."""
MAX_RECORDINGS = 5
KEPT = ".flac"
"""The format of stored recordings, whatever was sent; this also drops metadata about the speaker, such as the place."""
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
        """Add a recording; the running ears propose its transcript, if they can."""
        upload = checked(Upload, await json_object(request))
        kept = service.settings.voice.references
        if len(kept) >= MAX_RECORDINGS:
            raise Problem(409, f"There are already {MAX_RECORDINGS} recordings, the maximum: remove one first.")
        name, sound = await asyncio.to_thread(_keep, folder, upload)
        try:
            text = await _words(service, sound)
            await _change(service, lambda kept: [*kept, Reference(recording=name, text=text)])
        except BaseException:
            (folder / name).unlink(missing_ok=True)
            raise
        return {"recording": name, "text": text, "seconds": round(len(sound) / MOUTH_RATE, 2)}

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
        """Delete a recording."""
        _known(service, name)
        await _change(service, lambda kept: [each for each in kept if each.recording != name])
        if NAME.fullmatch(name):
            await asyncio.to_thread((folder / name).unlink, missing_ok=True)
        return {"removed": name}

    @router.get("/api/voice/references/{name}")
    async def listen(name: str) -> FileResponse:
        """The sound of a recording."""
        _known(service, name)
        file = folder / name
        if not NAME.fullmatch(name) or not file.is_file():
            raise Problem(404, f"The recording {name} is not in {folder}: remove it here and send it again.")
        return FileResponse(file, media_type=FORMATS[file.suffix])

    @router.get("/api/voices/library")
    async def library() -> dict[str, Any]:
        """The voices that `csm-voice` keeps."""
        voices = await asyncio.to_thread(lambda: [voice.told() for voice in csm_voices(csm_folder())])
        return {"voices": voices}

    @router.get("/api/voices/library/{name}")
    async def hear(name: str) -> FileResponse:
        """A sample of a voice."""
        return FileResponse((await _csm_voice(name)).recording)

    @router.post("/api/voices/library/{name}")
    async def use(name: str) -> dict[str, Any]:
        """Use this voice from now on: its recording is copied and replaces those in use; its adapter is read where it
        is."""
        return {"recording": await speak_as(service, await _csm_voice(name))}

    @router.delete("/api/voices/library/{name}")
    async def discard(name: str) -> dict[str, Any]:
        """Remove a voice from the library; copies of it stay."""
        voice = await _csm_voice(name)
        await asyncio.to_thread(shutil.rmtree, voice.folder)
        return {"removed": name}

    return router


async def speak_as(service: Service, voice: CsmVoice, engine: str | None = None) -> str:
    """Copy the voice's recording and use it; returns its new name. engine: replaces that of the settings, if given.

    Raises Problem, SettingsRefused, SettingsError.
    """
    folder = service.data / "voices"
    data = base64.b64encode(await asyncio.to_thread(voice.recording.read_bytes)).decode()
    kept, _ = await asyncio.to_thread(_keep, folder, Upload(name=voice.folder.name, data=data))

    def edited(old: Settings) -> Settings:
        new = old.model_copy(deep=True)
        new.voice.references = [Reference(recording=kept, text=voice.text[:2000])]
        new.voice.adapter = str(voice.adapter or "")
        new.voice.engine = engine or old.voice.engine
        return new

    try:
        await service.change(edited)
    except BaseException:
        (folder / kept).unlink(missing_ok=True)
        raise
    return kept


async def _csm_voice(name: str) -> CsmVoice:
    """Raises Problem."""
    for voice in await asyncio.to_thread(lambda: list(csm_voices(csm_folder()))):
        if voice.folder.name == name:
            return voice
    raise Problem(404, "This voice no longer exists: reload the page.")


def _known(service: Service, name: str) -> None:
    if all(each.recording != name for each in service.settings.voice.references):
        raise Problem(404, "There is no such recording: reload the page.")


async def _change(service: Service, edit: Callable[[list[Reference]], list[Reference]]) -> None:
    def edited(old: Settings) -> Settings:
        new = old.model_copy(deep=True)
        new.voice.references = edit(new.voice.references)
        return new

    await service.change(edited)


async def _words(service: Service, sound: Samples) -> str:
    try:
        ears = cast(SpeechToText, service.engines.running("ears"))
        heard = await asyncio.to_thread(soxr.resample, sound, MOUTH_RATE, EAR_RATE)
        return (await transcribe(ears, heard))[0][:2000]
    except EngineError:
        return ""  # the user can still write the transcript


def sound_of(upload: Upload, rate: int = MOUTH_RATE) -> Samples:
    """Return the recording, mono at `rate`. Raises Problem."""
    try:
        content = base64.b64decode(upload.data, validate=True)
    except (binascii.Error, ValueError):
        raise Problem(422, "The recording arrived damaged: send it again.", "data") from None
    if not content:
        raise Problem(422, "The file is empty: record it again.", "data")
    if len(content) > MAX_RECORDING:
        raise Problem(
            413, f"The recording may have at most {MAX_RECORDING // 1_000_000} MB: cut it to half a minute.", "data"
        )
    wanted = f"it should be {SHORTEST_S:.0f} to {LONGEST_S:.0f} s, ideally 10 to 30 s."
    try:
        sound = decode(io.BytesIO(content), rate, LONGEST_S)
    except TooLong as error:
        raise Problem(422, f"The recording is longer than {LONGEST_S:.0f} s: {wanted}", "data") from error
    except Undecodable as error:
        raise Problem(422, f"The file {error}", "data") from error
    if (seconds := len(sound) / rate) < SHORTEST_S:
        raise Problem(422, f"The recording is {seconds:.1f} s long: {wanted}", "data")
    return sound


def _keep(folder: Path, upload: Upload) -> tuple[str, Samples]:
    """Store the recording, 24 kHz mono, under a name of our own making. Raises Problem."""
    sound = sound_of(upload)
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", Path(upload.name).stem).strip("-_")[:48] or "voice"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, suffix=KEPT, prefix=".new-", delete=False) as file:
            temporary = Path(file.name)
        try:
            soundfile.write(temporary, sound, MOUTH_RATE)
            name = next(each for each in _names(stem) if not (folder / each).exists())
            temporary.rename(folder / name)
        finally:
            temporary.unlink(missing_ok=True)
    except (OSError, soundfile.LibsndfileError) as error:
        raise Problem(507, f"The recording could not be kept in {folder}: is the disk full, or read-only?") from error
    return name, sound


def _names(stem: str) -> Iterator[str]:
    yield f"{stem}{KEPT}"
    yield from (f"{stem}-{number}{KEPT}" for number in range(2, 1000))
