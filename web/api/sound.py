"""Tests the sound before a conversation: devices, a test tone, the voice. Playback ends with its request."""

from __future__ import annotations

import asyncio
import io
import wave
from collections.abc import Awaitable
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from pipeline.audio import MOUTH_RATE, Samples
from pipeline.audio.pcm import to_pcm16
from pipeline.audio.portaudio import Device, SoundCardError
from pipeline.audio.portaudio_process import PortAudioApart
from pipeline.ends.soundcard import play, play_tone
from pipeline.engines.trial import speak
from pipeline.tts.speakable import speakable
from web.api.audio.streamed import ClientGone, while_there
from web.api.http import Problem, checked, json_object
from web.service import Service

SENTENCE = "Hello, this is Parley. It is good to hear you."
LONGEST_S = 30.0
"""The longest sample of the voice."""

T = TypeVar("T")


class TrialSentence(BaseModel):
    model_config = ConfigDict(extra="forbid")
    text: Annotated[str, Field(max_length=300)] = ""


def sound_api(service: Service) -> APIRouter:
    router = APIRouter()

    @router.get("/api/soundcard/devices")
    async def devices() -> dict[str, Any]:
        """The devices that this computer can record and play with."""
        try:
            found = await asyncio.to_thread(PortAudioApart().devices)
        except SoundCardError as error:
            raise Problem(503, str(error)) from error
        return {
            "inputs": [_named(device, device.default_input) for device in found if device.inputs],
            "outputs": [_named(device, device.default_output) for device in found if device.outputs],
        }

    @router.post("/api/soundcard/test")
    async def tone(request: Request) -> dict[str, Any]:
        """Play a test tone at the chosen output; answers when it has been played."""
        await request.body()
        await _wanted(request, _played(play_tone(service.settings.audio.output)))
        return {"played": True}

    @router.post("/api/soundcard/hear")
    async def hear_here(request: Request) -> dict[str, Any]:
        """Speak a sentence in the chosen voice, at the sound card."""
        text = checked(TrialSentence, await json_object(request)).text

        async def say() -> None:
            await play(service.settings.audio.output, await _spoken(service, text))

        await _wanted(request, _played(say()))
        return {"played": True}

    return router


def voice_trial_api(service: Service) -> APIRouter:
    router = APIRouter()

    @router.post("/api/voice/hear")
    async def hear(request: Request) -> Response:
        """Speak a sentence in the chosen voice, as a WAV file for the browser to play."""
        text = checked(TrialSentence, await json_object(request)).text
        return Response(_wav(await _wanted(request, _spoken(service, text))), media_type="audio/wav")

    return router


async def _spoken(service: Service, text: str) -> Samples:
    """Speak the text. Raises EngineError while there is no voice."""
    return (await speak(service.engines.own_voice(), speakable(text.strip() or SENTENCE), enough_s=LONGEST_S)).sound


async def _wanted(request: Request, work: Awaitable[T]) -> T:
    """Do the work unless the page that asked for it leaves, or its user presses Stop. Raises Problem then."""
    try:
        return await while_there(request.receive, work)
    except ClientGone:
        raise Problem(499, "The page left.") from None


async def _played(playing: Awaitable[None]) -> None:
    """Play the sound. Raises Problem if there is no sound card."""
    try:
        await playing
    except SoundCardError as error:
        raise Problem(503, str(error), "audio.output") from error


def _named(device: Device, default: bool) -> dict[str, Any]:
    return {"name": device.name, "rate": device.rate, "default": default}


def _wav(samples: Samples) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(MOUTH_RATE)
        out.writeframes(to_pcm16(samples))
    return file.getvalue()
