"""openai-agents in Python."""

import asyncio
import json
import sys

import numpy as np
from agents import function_tool
from agents.realtime import RealtimeAgent, RealtimeRunner
from agents.realtime.events import (
    RealtimeAudioInterrupted,
    RealtimeHistoryAdded,
    RealtimeHistoryUpdated,
    RealtimeToolEnd,
)

LOUD = (np.sin(np.arange(24_000) / 10) * 8000).astype("<i2").tobytes()
SILENCE = bytes(48_000)


@function_tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"22 degrees in {city}"


def said(history, role):
    parts = [part for item in history if getattr(item, "role", "") == role for part in item.content]
    return [text for part in parts if (text := getattr(part, "transcript", None) or getattr(part, "text", None))]


async def main(url: str) -> None:
    agent = RealtimeAgent(name="Parley", instructions="Be brief.", tools=[get_weather])
    runner = RealtimeRunner(agent, config={"model_settings": {"turn_detection": {"type": "semantic_vad"}}})
    model = {"url": url.replace("http", "ws") + "/realtime", "api_key": "none"}
    told, history = {}, []
    async with await runner.run(model_config=model) as session, asyncio.timeout(60):
        events = aiter(session)

        async def until(done):
            nonlocal history
            async for event in events:
                if isinstance(event, RealtimeHistoryUpdated):
                    history = event.history
                elif isinstance(event, RealtimeHistoryAdded):
                    history = [*history, event.item]
                if done(event):
                    return event
            raise AssertionError("the session ended")

        await session.send_message("Hello")
        await until(lambda _: said(history, "assistant"))
        told["typed"] = said(history, "assistant")[-1]
        await session.send_audio(LOUD + SILENCE)
        ended = await until(lambda event: isinstance(event, RealtimeToolEnd))
        told["tool"] = ended.output
        await until(lambda _: "degrees" in " ".join(said(history, "assistant")))
        told["spoken"] = said(history, "user")[-1]
        told["answer"] = said(history, "assistant")[-1]
        await asyncio.sleep(0.5)
        await session.send_message("Tell me a story")
        await until(lambda _: "Once" in " ".join(said(history, "assistant")))
        await asyncio.sleep(0.5)
        await session.send_audio(LOUD + SILENCE)
        await until(lambda event: isinstance(event, RealtimeAudioInterrupted))
        told["interrupted"] = True
    print(json.dumps(told))


asyncio.run(main(sys.argv[1]))
