"""`/v1/audio/voices` and `/v1/audio/voice_consents`: a voice made from a recording, with its owner's consent."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.datastructures import UploadFile

from pipeline.audio import MOUTH_RATE, Samples
from pipeline.audio.decode import decode
from pipeline.stt import TranscriptionWishes
from web.api.audio.errors import Refused, explained
from web.api.audio.queue import Queue
from web.api.audio.requests import checked, form_body, json_body, texts, uploaded
from web.api.audio.transcriptions import written_down
from web.api.audio.voice_choice import is_taken
from web.service import Service
from web.voices import Consent, MadeVoice, Voices, VoicesError

SHORTEST_S, LONGEST_S = 3.0, 60.0
"""Length of a sample: less says nothing about a voice, and more takes up room that the text needs."""
MOST = 50
"""The most voices, and the most consents."""
NAMED = 100
"""The most characters of a name."""


class Fields(BaseModel):
    """The fields of all forms here; each may be sent only once."""

    type: str = "audio_sample"
    name: str = ""
    consent: str = ""
    text: str = ""
    language: str = ""


def made_voices_api(service: Service, voices: Voices, hearing: Queue) -> APIRouter:
    router = APIRouter()
    adding = asyncio.Lock()
    """Prevents adding a voice while its consent is deleted, and adding two of one name at once."""

    @router.post("/v1/audio/voices")
    @router.post("/audio/voices")
    async def create(request: Request) -> dict[str, Any]:
        """Make a voice from `audio_sample`, `name` and `consent` (the id of a consent); `text` is the sample's
        transcript."""
        async with form_body(request) as form:
            fields = checked(Fields, texts(form))
            if fields.type != "audio_sample":
                raise Refused(400, "Voices can only be made from recordings: send the type audio_sample.", "type")
            name = _name(fields)
            await room_for(name, fields)
            file = uploaded(form, "audio_sample")
            sound = await _sound(file, "audio_sample")
            text = fields.text.strip()[:2000] or await _words(service, hearing, file)
            if not text:
                raise Refused(400, "Nobody speaks in the recording: record it again.", "audio_sample")
            async with adding:
                consent = await room_for(name, fields)  # much may have changed during the transcription
                with _kept():
                    return _voice(await asyncio.to_thread(voices.add, name, sound, text, consent))

    async def room_for(name: str, fields: Fields) -> Consent:
        """Return the consent to a voice of that name. Raises Refused if the voice cannot be made."""
        consent = _consent(voices, fields.consent, "consent", 400)
        made = voices.all()
        if len(made) >= MOST:
            raise Refused(409, f"There are already {MOST} voices, the maximum: delete one first.")
        if any(voice.name.lower() == name.lower() for voice in made) or await is_taken(service, name):
            raise Refused(409, f"There is already a voice named {name}: choose another name.", "name")
        return consent

    @router.get("/v1/audio/voices/{id}")
    async def tell(id: str) -> dict[str, Any]:
        """A voice made from a recording."""
        return {**_voice(made := _made(voices, id)), "text": made.text, "consent": made.consent}

    @router.delete("/v1/audio/voices/{id}")
    @router.delete("/audio/voices/{id}")
    async def delete(id: str) -> dict[str, Any]:
        """Delete a voice and its recording; the consent stays until it is deleted itself."""
        voice = _made(voices, id)
        with _kept():
            await asyncio.to_thread(voices.remove, voice)
        return {"id": voice.id, "object": "audio.voice.deleted", "deleted": True}

    @router.post("/v1/audio/voice_consents")
    async def agree(request: Request) -> dict[str, Any]:
        """Add a consent: `recording`, in which the voice's owner agrees, `name` and `language`."""
        async with form_body(request) as form:
            fields = checked(Fields, texts(form))
            name = _name(fields)
            if len(voices.consents()) >= MOST:
                raise Refused(409, f"There are already {MOST} consents, the maximum: delete one first.")
            file = uploaded(form, "recording")
            sound = await _sound(file, "recording")
            text = await _words(service, hearing, file)
            if not text:
                raise Refused(400, "Nobody speaks in the recording: say that you agree.", "recording")
            with _kept():
                return _told(await asyncio.to_thread(voices.add_consent, name, fields.language[:40], sound, text))

    @router.get("/v1/audio/voice_consents")
    async def consents() -> dict[str, Any]:
        """The consents."""
        data = [_told(consent) for consent in voices.consents()]
        ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {"first_id": None, "last_id": None}
        return {"object": "list", "data": data, "has_more": False, **ends}

    @router.get("/v1/audio/voice_consents/{id}")
    async def consent(id: str) -> dict[str, Any]:
        """A consent."""
        return _told(_consent(voices, id, "id", 404))

    @router.post("/v1/audio/voice_consents/{id}")
    async def rename(id: str, request: Request) -> dict[str, Any]:
        """Rename a consent."""
        found, name = _consent(voices, id, "id", 404), _name(checked(Fields, await json_body(request)))
        with _kept():
            return _told(await asyncio.to_thread(voices.rename_consent, found, name))

    @router.delete("/v1/audio/voice_consents/{id}")
    async def withdraw(id: str) -> dict[str, Any]:
        """Delete a consent that no voice needs."""
        async with adding:
            found = _consent(voices, id, "id", 404)
            with _kept():
                await asyncio.to_thread(voices.remove_consent, found)
        return {"id": found.id, "object": "audio.voice_consent", "deleted": True}

    return router


def _name(fields: Fields) -> str:
    name = fields.name.strip()
    if not name:
        raise Refused(400, "name is missing: give the voice a name.", "name")
    if len(name) > NAMED:
        raise Refused(400, f"name may have at most {NAMED} characters.", "name")
    if not name.isprintable():
        raise Refused(400, "name contains a character that cannot be shown: use letters, digits and spaces.", "name")
    return name


def _made(voices: Voices, id: str) -> MadeVoice:
    if (voice := voices.find(id)) is None:
        raise Refused(404, f"No voice {id[:100]!r} was made here.", "id", "voice_not_found")
    return voice


def _consent(voices: Voices, id: str, param: str, status: int) -> Consent:
    if (consent := voices.consent(id)) is None:
        raise Refused(
            status,
            "There is no such consent: send a recording in which the voice’s owner agrees to /v1/audio/voice_consents, "
            "and give its id.",
            param,
            "consent_not_found",
        )
    return consent


async def _sound(file: UploadFile, param: str) -> Samples:
    """Return the sound at 24 kHz. Raises Refused if it is not a recording, too short or too long."""
    with explained(param):
        sound = await asyncio.to_thread(decode, file.file, MOUTH_RATE, LONGEST_S)
    if (seconds := len(sound) / MOUTH_RATE) < SHORTEST_S:
        raise Refused(
            400, f"The recording is {seconds:.2f} s long: it should be {SHORTEST_S:.0f} to {LONGEST_S:.0f} s.", param
        )
    return sound


async def _words(service: Service, hearing: Queue, file: UploadFile) -> str:
    await file.seek(0)
    said: list[str] = []
    async with aclosing(written_down(service, hearing, file, TranscriptionWishes(), LONGEST_S)) as passages:
        async for heard in passages:
            said += [segment.text for segment in heard.segments]
    return " ".join(said)[:2000]


@contextmanager
def _kept() -> Iterator[None]:
    try:
        yield
    except VoicesError as error:
        raise Refused(409, str(error)) from error


def _voice(voice: MadeVoice) -> dict[str, Any]:
    return {
        "id": voice.id, "object": "audio.voice", "type": "audio_sample", "name": voice.name,
        "created_at": voice.created_at,
    }  # fmt: skip


def _told(consent: Consent) -> dict[str, Any]:
    return {
        "id": consent.id, "object": "audio.voice_consent", "name": consent.name, "language": consent.language,
        "text": consent.text, "created_at": consent.created_at,
    }  # fmt: skip
