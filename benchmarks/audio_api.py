"""Measure the audio API of a running server: its latency and speed with 1 to 16 requests at once, and in each format.

    python3 main.py --no-browser & python3 -m benchmarks.audio_api
    python3 -m benchmarks.audio_api --url http://localhost:8880/v1      (any other server of this API)

Published by others, for their own machines and texts (Kokoro-FastAPI, README.md at 02ecef7, "Streaming Support"): the
first token after 300 ms on a GPU with chunks of 400 tokens; with chunks of 200, after 3.5 s on an older i7 and under
1 s on an M3 Pro. That model is not Piper, so these figures show what people are used to, not which server is better.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from dataclasses import dataclass

import httpx

from pipeline.audio import MOUTH_RATE

SENTENCE = "The weather in London is warm and sunny today, but my brother wants to stay at home with his books."
FORMATS = ("pcm", "wav", "flac", "mp3", "opus", "aac")
"""pcm is sent as soon as there is sound; the delay of the other formats is the cost of encoding."""
AT_ONCE = (1, 2, 4, 8, 16)


@dataclass(frozen=True, slots=True)
class Heard:
    first_s: float
    whole_s: float
    sound_s: float
    refused: int
    """How often the request was refused and had to be repeated."""


async def speak(client: httpx.AsyncClient, text: str, format: str = "pcm") -> Heard:
    """Request speech, and repeat the request each time it is refused, as stock clients do. The wait counts."""
    began, refused = time.perf_counter(), 0
    asked = {"model": "tts-1", "voice": "alloy", "input": text, "response_format": format}
    while True:
        async with client.stream("POST", "/audio/speech", json=asked) as answer:
            if answer.status_code != 429:
                answer.raise_for_status()
                first, size = 0.0, 0
                async for piece in answer.aiter_bytes():
                    first = first or time.perf_counter() - began
                    size += len(piece)
                return Heard(first, time.perf_counter() - began, size / 2 / MOUTH_RATE, refused)
            wait = float(answer.headers["retry-after"])
        refused += 1
        await asyncio.sleep(wait)


async def write_down(client: httpx.AsyncClient, wav: bytes) -> float:
    began = time.perf_counter()
    answer = await client.post("/audio/transcriptions", files={"file": ("a.wav", wav)}, data={"model": "whisper-1"})
    answer.raise_for_status()
    return time.perf_counter() - began


async def main() -> None:
    parser = argparse.ArgumentParser(description="Measures the audio API of a running server.")
    parser.add_argument("--url", default="http://localhost:8000/v1")
    parser.add_argument("--key", default="none")
    parser.add_argument("--most", type=int, default=max(AT_ONCE), help="requests at once, at most")
    given = parser.parse_args()
    headers = {"Authorization": f"Bearer {given.key}"}
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=given.url, headers=headers, timeout=600, limits=limits) as client:
        await speak(client, "Hello.")
        print("at once   first byte, median (worst)   seconds a second of sound, each (together)   refused")
        for count in (count for count in AT_ONCE if count <= given.most):
            began = time.perf_counter()
            heard = await asyncio.gather(*(speak(client, SENTENCE) for _ in range(count)))
            together = (time.perf_counter() - began) / sum(each.sound_s for each in heard)
            first = [each.first_s for each in heard]
            factor = statistics.median(each.whole_s / each.sound_s for each in heard)
            refused = sum(each.refused for each in heard)
            print(
                f"{count:7}   {statistics.median(first):12.2f} s ({max(first):.2f} s)"
                f"   {factor:30.2f} ({together:.2f})   {refused:17}"
            )
        print("format   first byte, median of 9")
        for format in FORMATS:
            first = [(await speak(client, SENTENCE, format)).first_s for _ in range(9)]
            print(f"{format:6}   {statistics.median(first):20.2f} s")
        answer = await client.post(
            "/audio/speech", json={"input": SENTENCE, "voice": "alloy", "response_format": "wav"}
        )
        seconds = len(answer.content) / 2 / MOUTH_RATE
        took = await write_down(client, answer.content)
        print(f"transcription of {seconds:.1f} s: {took:.2f} s, {took / seconds:.2f} seconds a second of sound")


if __name__ == "__main__":
    asyncio.run(main())
