"""openai in Python, over its WebSocket."""

import asyncio
import base64
import json
import sys

import numpy as np
from openai import AsyncOpenAI

LOUD = (np.sin(np.arange(24_000) / 10) * 8000).astype("<i2").tobytes()
SPEECH = base64.b64encode(LOUD + bytes(48_000)).decode()
WEATHER = {
    "type": "function",
    "name": "get_weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


async def main(url: str) -> None:
    told = {}
    client = AsyncOpenAI(base_url=url, api_key="none")
    async with client.realtime.connect(model="gpt-realtime") as talk, asyncio.timeout(60):

        async def until(kind):
            seen = []
            async for event in talk:
                assert event.type != "error", event
                seen.append(event)
                if event.type == kind:
                    return seen
            raise AssertionError("the session ended")

        async def write(text):
            content = [{"type": "input_text", "text": text}]
            await talk.conversation.item.create(item={"type": "message", "role": "user", "content": content})
            await talk.response.create()

        def words(seen):
            return next(e.transcript for e in seen if e.type == "response.output_audio_transcript.done")

        await talk.session.update(session={"type": "realtime", "instructions": "Be brief.", "tools": [WEATHER]})
        await write("Hello")
        told["typed"] = words(await until("response.done"))
        await talk.input_audio_buffer.append(audio=SPEECH)
        seen = await until("response.done")
        told["spoken"] = next(
            e.transcript for e in seen if e.type == "conversation.item.input_audio_transcription.completed"
        )
        call = next(e for e in seen if e.type == "response.function_call_arguments.done")
        told["tool"] = f"22 degrees in {json.loads(call.arguments)['city']}"
        await talk.conversation.item.create(
            item={"type": "function_call_output", "call_id": call.call_id, "output": told["tool"]}
        )
        await talk.response.create()
        told["answer"] = words(await until("response.done"))
        await asyncio.sleep(0.5)
        await write("Tell me a story")
        await until("response.output_audio.delta")
        await asyncio.sleep(0.5)
        await talk.input_audio_buffer.append(audio=SPEECH)
        seen = await until("conversation.item.input_audio_transcription.completed")
        told["interrupted"] = "input_audio_buffer.speech_started" in {event.type for event in seen}
    print(json.dumps(told))


asyncio.run(main(sys.argv[1]))
