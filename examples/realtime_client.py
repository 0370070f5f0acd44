"""Talk with a running Parley through OpenAI's client: `python -m examples.realtime_client RECORDING [OUTPUT] [URL]`.

Needs `pip install openai`; the recording is a mono WAV file of 24 kHz.
"""

from __future__ import annotations

import asyncio
import base64
import sys

import numpy as np
import soundfile
from openai import AsyncOpenAI

RATE = 24_000
BLOCK = RATE // 25  # 40 ms
SILENCE_S = 2
"""Sent after the recording, as a microphone would, so that Parley notices that you have finished."""


async def ask(recording: str, output: str, url: str) -> None:
    question, rate = soundfile.read(recording, dtype="int16")
    if rate != RATE or question.ndim != 1:
        raise SystemExit(f"{recording} must be mono and have {RATE} samples a second.")
    sound = np.concatenate([question, np.zeros(SILENCE_S * RATE, np.int16)])
    answer = b""
    async with (
        AsyncOpenAI(base_url=url, api_key="none") as client,
        client.realtime.connect(model="parley") as connection,
    ):
        for start in range(0, len(sound), BLOCK):
            block = sound[start : start + BLOCK].tobytes()
            await connection.input_audio_buffer.append(audio=base64.b64encode(block).decode())
        async for event in connection:
            if event.type == "conversation.item.input_audio_transcription.completed":
                print("You:   ", event.transcript)
            elif event.type == "response.output_audio.delta":
                answer += base64.b64decode(event.delta)
            elif event.type == "response.output_audio_transcript.done":
                print("Parley:", event.transcript)
            elif event.type == "error":
                raise SystemExit(event.error.message)
            elif event.type == "response.done":
                break
    soundfile.write(output, np.frombuffer(answer, np.int16), RATE)


def main(recording: str, output: str = "answer.wav", url: str = "http://localhost:8000/v1") -> None:
    asyncio.run(ask(recording, output, url))


if __name__ == "__main__":
    main(*sys.argv[1:])
