"""A pipecat pipeline with the engines of a Parley profile, behind the wire protocol that the simulated user speaks.

Its turn strategies, its voice activity detection and its parameters are its defaults. In `offline` all engines are
Parley's, wrapped as pipecat services. In `small` pipecat's own services run Whisper base and SmolLM2 (faster-whisper,
and llama.cpp's server); Piper is Parley's, wrapped, because pipecat's service takes it from a package under the GPL.
`benchmarks/conversation.py --peer pipecat` runs this file.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, cast

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pipecat.audio.vad.silero import SileroVADAnalyzer
from pipecat.frames.frames import (
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    Frame,
    InputAudioRawFrame,
    InterruptionFrame,
    LLMContextFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    OutputAudioRawFrame,
    OutputTransportMessageUrgentFrame,
    TranscriptionFrame,
    TTSAudioRawFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.runner import PipelineRunner
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import LLMContextAggregatorPair, LLMUserAggregatorParams
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.serializers.base_serializer import FrameSerializer
from pipecat.services.openai.llm import OpenAILLMService
from pipecat.services.settings import STTSettings, TTSSettings
from pipecat.services.stt_service import STTService
from pipecat.services.tts_service import TTSService
from pipecat.services.whisper.stt import WhisperSTTService
from pipecat.transcriptions.language import Language
from pipecat.transports.websocket.server import SingleClientWebsocketServerParams, SingleClientWebsocketServerTransport

from config import Settings
from config.cache import folder_of
from config.engines import CATALOGUE, Stage
from config.packages import SMOLLM2_135M, WHISPER_BASE
from pipeline.audio import EAR_RATE, MOUTH_RATE
from pipeline.audio.pcm import from_pcm16, to_pcm16
from pipeline.engines.catalogue import create
from pipeline.llm import LanguageModel, Message, Prompt, gguf, llama, small
from pipeline.stt import Hearing, SpeechToText
from pipeline.tts import TextToSpeech
from pipeline.tts.speakable import speakable

PERSONA = "You are Parley, a friendly companion. You talk with one person. Answer in one short sentence."
"""What Parley tells a model this small."""

PRE_ROLL = EAR_RATE
"""Bytes kept from before speech was detected: half a second of 16-bit samples."""


class Wire(FrameSerializer):
    """The few messages of the realtime protocol that the simulated headset uses."""

    async def serialize(self, frame: Frame) -> str | None:
        match frame:
            case OutputAudioRawFrame():
                return json.dumps(
                    {"type": "response.output_audio.delta", "delta": base64.b64encode(frame.audio).decode()}
                )
            case InterruptionFrame():
                return json.dumps({"type": "parley.reply", "heard": ""})
            case OutputTransportMessageUrgentFrame():
                return json.dumps(frame.message)
        return None

    async def deserialize(self, data: str | bytes) -> Frame | None:
        event = json.loads(data)
        if event["type"] != "input_audio_buffer.append":
            return None
        return InputAudioRawFrame(base64.b64decode(event["audio"]), 24_000, 1)


class Ears(STTService):
    """pocketsphinx, fed while the user speaks, so that little is left to do at the end."""

    def __init__(self, engine: SpeechToText) -> None:
        super().__init__(sample_rate=EAR_RATE, settings=STTSettings(model=None, language=None))
        self._engine = engine
        self._hearing: Hearing | None = None
        self._before = b""

    async def run_stt(self, audio: bytes) -> AsyncGenerator[Frame | None, None]:
        if self._hearing is not None:
            await self._hearing.feed(from_pcm16(audio))
        else:
            self._before = (self._before + audio)[-PRE_ROLL:]
        yield None

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, VADUserStartedSpeakingFrame) and self._hearing is None:
            self._hearing = self._engine.listen()
            await self._hearing.feed(from_pcm16(self._before))
            self._before = b""
        elif isinstance(frame, VADUserStoppedSpeakingFrame) and self._hearing is not None:
            hearing, self._hearing = self._hearing, None
            text = (await hearing.finish()).text
            await hearing.close()
            if text:
                await self.push_frame(TranscriptionFrame(text, "user", datetime.now().isoformat(), finalized=True))


class Mind(FrameProcessor):
    def __init__(self, engine: LanguageModel) -> None:
        super().__init__()
        self._engine = engine

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if not isinstance(frame, LLMContextFrame):
            await self.push_frame(frame, direction)
            return
        said = cast(list[dict[str, Any]], frame.context.get_messages())
        history = tuple(Message(message["role"], str(message["content"])) for message in said)
        await self.push_frame(LLMFullResponseStartFrame())
        async for piece in self._engine.reply(Prompt("", history, None, datetime.now().astimezone())):
            if isinstance(piece, str):
                await self.push_frame(LLMTextFrame(piece))
        await self.push_frame(LLMFullResponseEndFrame())


class Voice(TTSService):
    def __init__(self, engine: TextToSpeech) -> None:
        settings = TTSSettings(model=None, voice=None, language=None)
        super().__init__(sample_rate=MOUTH_RATE, push_start_frame=True, push_stop_frames=True, settings=settings)
        self._speaker = engine.speaker()

    async def run_tts(self, text: str, context_id: str) -> AsyncGenerator[Frame, None]:
        async for spoken in self._speaker.speak(speakable(text)):
            yield TTSAudioRawFrame(to_pcm16(spoken.samples), MOUTH_RATE, 1, context_id=context_id)


class Marks(FrameProcessor):
    """Tells the simulated user when and how a reply has ended."""

    def __init__(self) -> None:
        super().__init__()
        self._outcome = "completed"

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        await self.push_frame(frame, direction)
        if isinstance(frame, InterruptionFrame):
            self._outcome = "interrupted"
        elif isinstance(frame, BotStartedSpeakingFrame):
            self._outcome = "completed"
        elif isinstance(frame, BotStoppedSpeakingFrame) and direction is FrameDirection.UPSTREAM:
            record = {"type": "parley.turn", "record": {"outcome": self._outcome, "marks": {}}}
            await self.push_frame(OutputTransportMessageUrgentFrame(record))


@asynccontextmanager
async def services(profile: str) -> AsyncIterator[list[FrameProcessor]]:
    """Speech recognition, language model and voice."""
    settings, data = Settings(), Path("data")

    async def started(stage: Stage, name: str) -> Any:
        engine = create(CATALOGUE[stage, name], settings, data)
        await engine.start(lambda progress: None)
        running.push_async_callback(engine.stop)
        return engine

    async with AsyncExitStack() as running:
        if profile == "offline":
            ears, mind = await started("ears", "pocketsphinx"), await started("mind", "builtin")
            yield [Ears(ears), Mind(mind), Voice(await started("voice", "espeak"))]
        else:
            yield [whisper(), smollm2(), Voice(await started("voice", "piper"))]


def whisper() -> WhisperSTTService:
    options = WhisperSTTService.Settings(model=str(folder_of(WHISPER_BASE)), language=Language.EN)
    return WhisperSTTService(device="cpu", compute_type="int8", settings=options)


def smollm2() -> OpenAILLMService:
    """SmolLM2 on llama.cpp's server, in this process and with the number of threads that Parley gives it."""
    file = folder_of(SMOLLM2_135M) / SMOLLM2_135M.files[0].name
    server = llama.serve(file, gguf.read(file), llama.CONTEXT, llama.usual_threads())
    options = OpenAILLMService.Settings(
        model=file.stem, max_tokens=small.MOST_TOKENS, temperature=0.6, system_instruction=PERSONA
    )
    return OpenAILLMService(api_key=server.key, base_url=f"{server.address}/v1", settings=options)


async def serve(port: int, profile: str) -> None:
    async with services(profile) as (ears, mind, voice):
        await converse(port, ears, mind, voice)


async def converse(port: int, ears: FrameProcessor, mind: FrameProcessor, voice: FrameProcessor) -> None:
    """Run one pipeline for one caller after the other, until it is stopped."""
    params = SingleClientWebsocketServerParams(audio_in_enabled=True, audio_out_enabled=True, serializer=Wire())
    transport = SingleClientWebsocketServerTransport(params, "127.0.0.1", port)
    pair = LLMContextAggregatorPair(LLMContext(), user_params=LLMUserAggregatorParams(vad_analyzer=SileroVADAnalyzer()))
    pipeline = Pipeline(
        [
            transport.input(),
            ears,
            pair.user(),
            mind,
            voice,
            Marks(),
            transport.output(),
            pair.assistant(),
        ]
    )
    rates = PipelineParams(audio_in_sample_rate=EAR_RATE, audio_out_sample_rate=MOUTH_RATE)
    worker = PipelineWorker(pipeline, params=rates, idle_timeout_secs=None, enable_rtvi=False)

    async def connected(_: Any, socket: Any) -> None:
        await socket.send(json.dumps({"type": "session.created"}))
        await socket.send(json.dumps({"type": "response.created", "response": {"id": ""}}))

    transport.add_event_handler("on_client_connected", connected)
    runner = PipelineRunner(handle_sigint=False)
    await runner.run(worker)


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), sys.argv[2]))
