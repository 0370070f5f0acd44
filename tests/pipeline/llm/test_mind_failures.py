"""A conversation whose language model's server does what servers do wrong, over real sockets: it goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from config import Settings
from pipeline.audio import MOUTH_RATE, Samples
from pipeline.conversation.conversation import Conversation
from pipeline.conversation.events import Notice, ReplyAudio, ReplyDone
from pipeline.conversation.stages import Stages
from pipeline.engine import EngineStatus, Report
from pipeline.llm.openai import OpenAIChat
from pipeline.stt import Hearing
from pipeline.tts import Spoken
from tests.support.chat_server import WORDS, ChatServer, chat_server


class Quiet:
    """Ears that nobody speaks to, and a voice that says every clause in a tenth of a second."""

    status = EngineStatus("quiet", "ready")

    async def start(self, report: Report) -> None: ...
    async def stop(self) -> None: ...
    async def close(self) -> None: ...
    async def user_said(self, text: str, samples: Samples) -> None: ...
    def reset(self) -> None: ...

    def probability(self, frame: Samples) -> float:
        return 0.0

    def listen(self) -> Hearing:
        raise AssertionError("nobody speaks")

    def speaker(self) -> Quiet:
        return self

    async def speak(self, text: str) -> AsyncGenerator[Spoken, None]:
        yield Spoken(np.zeros(MOUTH_RATE // 10, np.float32))


@dataclass
class Talk:
    conversation: Conversation
    notices: list[str] = field(default_factory=list)
    over: asyncio.Queue[ReplyDone] = field(default_factory=asyncio.Queue)

    async def say(self, text: str) -> ReplyDone:
        await self.conversation.say(text)
        return await self.over.get()

    async def listen(self) -> None:
        async with aclosing(self.conversation.events()) as events:  # type: ignore[type-var]  # an async generator
            async for event in events:
                match event:
                    case ReplyAudio():
                        self.conversation.played(event.first_sample + len(event.samples))
                    case Notice():
                        self.notices.append(event.text)
                    case ReplyDone():
                        self.over.put_nowait(event)


@asynccontextmanager
async def talk(server: ChatServer) -> AsyncIterator[Talk]:
    mind = OpenAIChat(server.url, "", silence_s=0.3)
    await mind.start(lambda progress: None)
    quiet = Quiet()
    stages = Stages(Quiet, quiet, mind, quiet, None)
    async with Conversation(stages, Settings(), name="test") as conversation:
        talking = Talk(conversation)
        listening = asyncio.create_task(talking.listen())
        yield talking
    await listening
    await mind.stop()


@pytest.mark.parametrize(
    ("trouble", "sentence"),
    [
        ({"status": 500, "body": "out of memory"}, "answered 500 (out of memory)"),
        ({"status": 503, "body": '{"error": {"message": "still loading"}}'}, "answered 503 (still loading)"),
        ({"pieces": [], "end": "hang"}, "has said nothing for"),
        ({"pieces": ["Once upon a time. And", " then"], "end": "hang"}, "has said nothing for"),
        ({"pieces": [b"\x00\xff rubbish\n\n"]}, "does not speak OpenAI's chat API"),
        ({"pieces": ["Once upon a time. And", b"data: {rubbish\n\n"]}, "does not speak OpenAI's chat API"),
        ({"pieces": [{"content": 7}]}, "does not speak OpenAI's chat API"),
        ({"pieces": ["Once upon a time. And", " the"], "end": "disconnect"}, "disconnected in the middle of the reply"),
        ({"pieces": [], "end": "disconnect"}, "disconnected in the middle of the reply"),
        ({"pieces": ["<think>", "Hm."]}, "spent its whole reply on reasoning"),
    ],
)
async def test_the_trouble_is_one_sentence_and_the_next_turn_is_answered(
    trouble: dict[str, Any], sentence: str
) -> None:
    async with chat_server() as server, talk(server) as talking:
        for name, value in trouble.items():
            setattr(server, name, value)
        failed = await talking.say("Tell me a story.")
        assert failed.outcome == "failed" and sentence in failed.why
        assert [notice for notice in talking.notices if sentence in notice] == [failed.why]
        assert "\n" not in failed.why
        server.status, server.pieces, server.end = 200, WORDS, "done"
        answered = await talking.say("And now?")
        assert (answered.outcome, answered.heard) == ("completed", "Hello there.")
        told = [message["content"] for message in server.requests[-1]["messages"]]
        assert any("Tell me a story." in content for content in told), "what was said is not lost"


async def test_a_server_that_is_gone_and_comes_back() -> None:
    async with chat_server() as server, talk(server) as talking:
        port = int(server.url.rpartition(":")[2].removesuffix("/v1"))
        server.listening.close()
        failed = await talking.say("Hello.")
        assert failed.outcome == "failed" and "No server answers at" in failed.why
        async with chat_server(port=port):
            assert (await talking.say("Hello?")).heard == "Hello there."
