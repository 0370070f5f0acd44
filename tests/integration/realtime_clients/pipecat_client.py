"""Pipecat's OpenAIRealtimeLLMService, in a pipeline with its own context."""

import asyncio
import json
import sys

import numpy as np
from pipecat.adapters.llm.schemas.function_schema import FunctionSchema
from pipecat.adapters.llm.schemas.tools_schema import ToolsSchema
from pipecat.frames.frames import (
    InputAudioRawFrame,
    InterruptionFrame,
    LLMMessagesAppendFrame,
    LLMRunFrame,
    TTSAudioRawFrame,
    TTSTextFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.runner import PipelineRunner
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import LLMContextAggregatorPair
from pipecat.processors.frame_processor import FrameProcessor
from pipecat.services.openai.realtime import events
from pipecat.services.openai.realtime.llm import OpenAIRealtimeLLMService

LOUD = (np.sin(np.arange(24_000) / 10) * 8000).astype("<i2").tobytes()


class Watch(FrameProcessor):
    """What passes, for whoever waits for it."""

    def __init__(self):
        super().__init__()
        self.frames = asyncio.Queue()

    async def process_frame(self, frame, direction):
        await super().process_frame(frame, direction)
        self.frames.put_nowait(frame)
        await self.push_frame(frame, direction)


async def main(url: str) -> None:
    told = {}
    weather = FunctionSchema("get_weather", "The weather in a city.", {"city": {"type": "string"}}, ["city"])
    settings = OpenAIRealtimeLLMService.Settings(session_properties=events.SessionProperties(instructions="Be brief."))
    service = OpenAIRealtimeLLMService(
        api_key="none", base_url=url.replace("http", "ws") + "/realtime", settings=settings
    )

    async def get_weather(params):
        told["tool"] = f"22 degrees in {params.arguments['city']}"
        await params.result_callback(told["tool"])

    service.register_function("get_weather", get_weather)
    context = LLMContext([{"role": "user", "content": "Hello"}], ToolsSchema(standard_tools=[weather]))
    pair, watch = LLMContextAggregatorPair(context), Watch()
    pipeline = Pipeline([pair.user(), service, watch, pair.assistant()])
    worker = PipelineWorker(pipeline, params=PipelineParams(audio_in_sample_rate=24_000), idle_timeout_secs=None)
    running = asyncio.create_task(PipelineRunner(handle_sigint=False).run(worker))

    async def until(kind, text=""):
        said = ""
        while True:
            frame = await watch.frames.get()
            if isinstance(frame, kind):
                said = " ".join(f"{said} {getattr(frame, 'text', '')}".split())
                if text in said:
                    return said

    async def speak():
        for start in range(0, len(LOUD) * 2, 960):
            sound = LOUD[start : start + 960] or bytes(960)
            await worker.queue_frame(InputAudioRawFrame(sound, 24_000, 1))

    async with asyncio.timeout(60):
        await worker.queue_frame(LLMRunFrame())
        told["typed"] = await until(TTSTextFrame, text=".")
        await asyncio.sleep(0.5)
        await speak()
        told["answer"] = await until(TTSTextFrame, text="Paris.")
        told["spoken"] = [each["content"] for each in context.messages if each.get("role") == "user"][-1]
        await asyncio.sleep(0.5)
        message = {"role": "user", "content": "Tell me a story"}
        await service.queue_frame(LLMMessagesAppendFrame([message], run_llm=True))
        await until(TTSTextFrame, text="Once")
        await until(TTSAudioRawFrame)
        await asyncio.sleep(0.5)
        while not watch.frames.empty():
            watch.frames.get_nowait()
        await speak()
        await until(InterruptionFrame)
        told["interrupted"] = True
    await worker.cancel()
    await running
    print(json.dumps(told))


asyncio.run(main(sys.argv[1]))
