"""LiveKit's RealtimeModel for OpenAI."""

import asyncio
import json
import sys

import aiohttp
import numpy as np
from livekit import rtc
from livekit.agents import llm
from livekit.plugins.openai.realtime import RealtimeModel

LOUD = (np.sin(np.arange(24_000) / 10) * 8000).astype("<i2").tobytes()
SPEECH = rtc.AudioFrame(LOUD + bytes(48_000), 24_000, 1, 48_000)


@llm.function_tool
async def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"22 degrees in {city}"


async def words(generation):
    said = ""
    async for message in generation.message_stream:
        async for text in message.text_stream:
            said += text
    return said.strip()


async def main(url: str) -> None:
    told = {}
    async with aiohttp.ClientSession() as http, asyncio.timeout(60):
        talk = RealtimeModel(base_url=url, api_key="none", http_session=http).session()
        generations, heard, speech = asyncio.Queue(), asyncio.Queue(), asyncio.Event()
        talk.on("generation_created", generations.put_nowait)
        talk.on("input_audio_transcription_completed", lambda e: heard.put_nowait(e) if e.is_final else None)
        talk.on("input_speech_started", lambda _: speech.set())
        talk.on("error", lambda error: told.setdefault("error", str(error)))
        await talk.update_instructions("Be brief.")
        await talk.update_tools([get_weather])

        async def add(change):
            context = talk.chat_ctx.copy()
            change(context)
            await talk.update_chat_ctx(context)

        async def reply():
            generation = await talk.generate_reply()
            assert generation is await generations.get()
            return generation

        await add(lambda context: context.add_message(role="user", content="Hello"))
        told["typed"] = await words(await reply())
        talk.push_audio(SPEECH)
        generation = await generations.get()
        told["spoken"] = (await heard.get()).transcript
        calls = [call async for call in generation.function_stream]
        told["tool"] = await get_weather(**json.loads(calls[0].arguments))
        output = llm.FunctionCallOutput(
            call_id=calls[0].call_id, name="get_weather", output=told["tool"], is_error=False
        )
        await add(lambda context: context.insert(output))
        told["answer"] = await words(await reply())
        await asyncio.sleep(0.5)
        await add(lambda context: context.add_message(role="user", content="Tell me a story"))
        story = await reply()
        async for message in story.message_stream:
            await anext(aiter(message.audio_stream))
            break
        await asyncio.sleep(0.5)
        speech.clear()
        talk.push_audio(SPEECH)
        await speech.wait()
        told["interrupted"] = (await heard.get()).transcript == told["spoken"]
        await talk.aclose()
    print(json.dumps(told))


asyncio.run(main(sys.argv[1]))
