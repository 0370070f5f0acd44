"""LiveKit's TTS and STT for OpenAI, told Parley's address: a sentence is spoken, and what was heard is printed."""

import asyncio
import sys

import aiohttp
from livekit.agents import utils
from livekit.plugins import openai


async def main(url: str, text: str) -> None:
    async with aiohttp.ClientSession():
        tts = openai.TTS(base_url=url, api_key="none", model="gpt-4o-mini-tts", voice="alloy")
        async with tts.synthesize(text) as stream:
            frames = [event.frame async for event in stream]
        await tts.aclose()
        stt = openai.STT(base_url=url, api_key="none", model="whisper-1", language="en")
        heard = await stt.recognize(utils.merge_frames(frames))
        await stt.aclose()
    print(heard.alternatives[0].text)


asyncio.run(main(*sys.argv[1:]))
