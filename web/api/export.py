"""Exports a conversation: the transcript, the records of its turns and, if it was recorded, the sound of both sides."""

from __future__ import annotations

import asyncio
import io
import json
import re
import tempfile
import wave
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, Annotated, Any

import numpy as np
import soundfile
import soxr
from fastapi import APIRouter, Request
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.types import Receive, Scope, Send

from pipeline.audio import EAR_RATE, MOUTH_RATE, Samples
from pipeline.audio.pcm import from_pcm16
from pipeline.cleanup import uninterrupted
from pipeline.conversation.recording import REPLY, USER
from pipeline.engine import EngineError
from rag import Remembered
from web.api.http import Problem, checked, json_object
from web.service import Service

MOST_TURNS = 100_000
_CHUNK = 1 << 20


class SentOnce(FileResponse):
    """A temporary file, which is deleted however the answer ends: Starlette runs no background task after a refused
    range or a failure."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await uninterrupted(asyncio.to_thread(Path(self.path).unlink))


@contextmanager
def _temporary(suffix: str) -> Iterator[IO[bytes]]:
    """A file that stays if the block ends without error."""
    with tempfile.NamedTemporaryFile(suffix=suffix, delete=False) as file:
        try:
            yield file
        except BaseException:
            Path(file.name).unlink()
            raise


class Change(BaseModel):
    """Omitted fields stay as they are."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)
    name: Annotated[str, Field(max_length=100)] = ""
    pinned: bool = False


def export_api(service: Service) -> APIRouter:
    router = APIRouter()

    @router.get("/api/conversations/{id:path}/export")
    async def export(id: str) -> FileResponse:
        """A zip of transcript.txt, turns.jsonl (a record per turn) and, if it was recorded, user.wav and reply.wav."""
        sound: Path | None = None
        with suppress(ValueError):  # an imported conversation may have any name, and has no sound
            sound = service.recordings.folder(id)
        await service.turns.written()
        records = await asyncio.to_thread(service.turns.of, id)
        try:
            remembered = await service.engines.memory().turns(conversation=id, limit=MOST_TURNS)
        except EngineError:  # recent conversations are known without the memory
            remembered = []
        if not records and not remembered and not (sound is not None and sound.is_dir()):
            raise Problem(404, f"There is no conversation {id}; it may have been forgotten.")
        name = re.sub(r"\W+", "-", id)
        file = await asyncio.to_thread(_packed, transcript(records, remembered), records, sound)
        return SentOnce(file, media_type="application/zip", filename=f"parley-{name}.zip")

    @router.put("/api/conversations/{id:path}")
    async def change(id: str, request: Request) -> dict[str, Any]:
        """Name a conversation (an empty name removes it), or pin it."""
        changes = checked(Change, await json_object(request)).model_dump(exclude_unset=True)
        if not await service.engines.memory().turns(conversation=id, limit=1):
            raise Problem(404, f"There is no conversation {id}; it may have been forgotten.")
        try:
            label = await asyncio.to_thread(lambda: service.labels.give(id, **changes))
        except OSError as error:
            raise Problem(507, f"The change could not be saved ({error.strerror}): free some space.") from error
        return asdict(label)

    @router.get("/api/conversations/{id:path}/sound")
    async def sound(id: str) -> FileResponse:
        """Both sides of a recorded conversation together, as a WAV file at 24 kHz."""
        try:
            folder = service.recordings.folder(id)
        except ValueError as error:
            raise Problem(404, str(error)) from None
        if not folder.is_dir():
            raise Problem(404, "This conversation was not recorded.")
        file = await asyncio.to_thread(mixed, folder)
        return SentOnce(file, media_type="audio/wav")

    return router


def mixed(folder: Path) -> str:
    """Write both sides to a temporary WAV file, a second at a time: an hour of it takes 170 MB."""
    to_reply = soxr.ResampleStream(EAR_RATE, MOUTH_RATE, 1)
    with (
        _temporary(".wav") as file,
        soundfile.SoundFile(file, "w", MOUTH_RATE, 1, "PCM_16", format="WAV") as out,
        ExitStack() as opened,
    ):
        user, reply = (opened.enter_context(each.open("rb")) if each.exists() else io.BytesIO() for each in
                       (folder / USER, folder / REPLY))  # fmt: skip
        last = False
        while not last:
            heard, said = _second(user, EAR_RATE), _second(reply, MOUTH_RATE)
            last = not len(heard) and not len(said)
            theirs = to_reply.resample_chunk(heard, last=last)
            both = np.zeros(max(len(theirs), len(said)), np.float32)
            both[: len(theirs)] += theirs
            both[: len(said)] += said
            out.write(np.clip(both, -1, 1))
    return file.name


def _second(file: IO[bytes], rate: int) -> Samples:
    data = file.read(2 * rate)
    return from_pcm16(data[: len(data) // 2 * 2])


def transcript(records: list[dict[str, Any]], remembered: list[Remembered]) -> str:
    """Return what was said, line by line: from the memory, otherwise from the records that contain the words."""
    if remembered:
        lines = [f"[{turn.at:%Y-%m-%d %H:%M:%S}] {turn.speaker}: {turn.text}" for turn in remembered]
    else:
        lines = [
            f"[{record['at'].replace('T', ' ')[:19]}] {speaker}: {record[said]}"
            for record in records
            for speaker, said in (("user", "user"), ("assistant", "heard"))
            if record[said]
        ]
    return "\n".join([*lines, ""])


def _packed(text: str, records: list[dict[str, Any]], sound: Path | None) -> str:
    with _temporary(".zip") as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as pack:
            pack.writestr("transcript.txt", text)
            lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in records)
            pack.writestr("turns.jsonl", "".join(lines))
            for side, rate in ((USER, EAR_RATE), (REPLY, MOUTH_RATE)):
                if sound is not None and (samples := sound / side).exists():
                    _add_wave(pack, samples, rate)
        return file.name


def _add_wave(pack: zipfile.ZipFile, samples: Path, rate: int) -> None:
    """Add 16-bit samples as a WAV file, in chunks: an hour of it takes 100 MB."""
    frames = samples.stat().st_size // 2  # the file may be growing
    with pack.open(f"{samples.stem}.wav", "w", force_zip64=True) as entry, wave.open(entry, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(rate)
        sound.setnframes(frames)
        with samples.open("rb") as file:
            left = 2 * frames
            while left and (data := file.read(min(_CHUNK, left))):
                sound.writeframesraw(data)
                left -= len(data)
