"""Testing the sound before a conversation: this computer's devices, a test tone, the voice."""

from __future__ import annotations

import asyncio
import io
import wave
from typing import Annotated, Any, cast

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from pipeline.audio import MOUTH_RATE, Samples
from pipeline.audio.pcm import to_pcm16
from pipeline.audio.portaudio import Device, SoundCardError
from pipeline.audio.portaudio_process import PortAudioApart
from pipeline.ends.soundcard import play, play_tone
from pipeline.engines.trial import speak
from pipeline.tts import TextToSpeech
from pipeline.tts.speakable import speakable
from web.api.http import Problem, checked, json_object
from web.service import Service

SENTENCE = "Hello, this is Parley. It is good to hear you."
LONGEST_S = 30.0
"""Of a sample of the voice."""


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
    async def tone() -> dict[str, Any]:
        """Play a test tone at the chosen output; answers when it has been played."""
        try:
            await play_tone(service.settings.audio.output)
        except SoundCardError as error:
            raise Problem(503, str(error), "audio.output") from error
        return {"played": True}

    @router.post("/api/soundcard/hear")
    async def hear_here(request: Request) -> dict[str, Any]:
        """Speak a sentence in the chosen voice, at the sound card."""
        samples = await spoken(checked(TrialSentence, await json_object(request)).text)
        try:
            await play(service.settings.audio.output, samples)
        except SoundCardError as error:
            raise Problem(503, str(error), "audio.output") from error
        return {"played": True}

    @router.post("/api/voice/hear")
    async def hear(request: Request) -> Response:
        """Speak a sentence in the chosen voice, as a WAV file for the browser to play."""
        samples = await spoken(checked(TrialSentence, await json_object(request)).text)
        return Response(_wav(samples), media_type="audio/wav")

    async def spoken(text: str) -> Samples:
        """Raises EngineError while there is no voice."""
        voice = cast(TextToSpeech, service.engines.running("voice"))
        return (await speak(voice, speakable(text.strip() or SENTENCE), enough_s=LONGEST_S)).sound

    return router


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
