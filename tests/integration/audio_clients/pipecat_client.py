"""Pipecat's TTS and STT for OpenAI, told Parley's address: a sentence is spoken, and what was heard is printed."""

import asyncio
import io
import sys
import wave

from pipecat.frames.frames import TranscriptionFrame, TTSAudioRawFrame
from pipecat.services.openai.stt import OpenAISTTService
from pipecat.services.openai.tts import OpenAITTSService


async def main(url: str, text: str) -> None:
    tts = OpenAITTSService(base_url=url, api_key="none", voice="alloy", sample_rate=24_000)
    tts._sample_rate = 24_000  # what a pipeline's start sets
    frames = tts.run_tts(text, "context")
    sound = b"".join([frame.audio async for frame in frames if isinstance(frame, TTSAudioRawFrame)])
    file = io.BytesIO()
    with wave.open(file, "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(24_000)
        wav.writeframes(sound)
    stt = OpenAISTTService(base_url=url, api_key="none")
    heard = [frame.text async for frame in stt.run_stt(file.getvalue()) if isinstance(frame, TranscriptionFrame)]
    print(" ".join(heard))


asyncio.run(main(*sys.argv[1:]))
