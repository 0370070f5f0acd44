"""`POST /v1/chat/completions` and `/v1/completions`: the chosen mind, so that one address serves everything.

A mind that is a server gets a client's request unchanged except for the model's name, and its answer is passed back
as it comes. Other minds are asked as in a conversation, and answer in the same shape.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from datetime import datetime
from typing import Annotated, Any, Literal, cast

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from pipeline.engines.lease import LeasedMind
from pipeline.llm import Message, Passed, Passing, Prompt, Truncated
from web.api.audio.errors import Refused, explained
from web.api.audio.listing import MIND
from web.api.audio.queue import Queue
from web.api.audio.requests import checked, json_body
from web.api.audio.streamed import EVENT_STREAM, Streamed, answered, events
from web.service import Service

Text = Annotated[str, Field(max_length=200_000)]


class MessagePart(BaseModel):
    model_config = ConfigDict(extra="ignore")
    type: str = "text"
    text: Text = ""


class SentMessage(BaseModel):
    model_config = ConfigDict(extra="ignore")
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Text | list[MessagePart] | None = None

    @property
    def words(self) -> str:
        if isinstance(self.content, list):
            return "\n".join(part.text for part in self.content if part.text)
        return self.content or ""

    @property
    def is_text(self) -> bool:
        return not isinstance(self.content, list) or all(part.type == "text" for part in self.content)


class ResponseFormat(BaseModel):
    model_config = ConfigDict(extra="ignore")
    type: Literal["text"] = "text"


class StreamOptions(BaseModel):
    model_config = ConfigDict(extra="ignore")
    include_usage: bool = False


class _Asked(BaseModel):
    model_config = ConfigDict(extra="ignore")
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    n: Literal[1] = 1

    @property
    def usage_wanted(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage


class Chat(_Asked):
    messages: Annotated[list[SentMessage], Field(min_length=1, max_length=2000)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: Literal[False] = False
    response_format: ResponseFormat = ResponseFormat()
    tools: list[Any] = Field(default_factory=list)
    tool_choice: Literal["auto", "none"] = "auto"
    """A mind that is not a server calls no tools for a client, and may say so under `auto`."""


class Completion(_Asked):
    prompt: Text | Annotated[list[Text], Field(min_length=1, max_length=1)]
    logprobs: Literal[0] | None = None

    @property
    def text(self) -> str:
        return self.prompt if isinstance(self.prompt, str) else self.prompt[0]


def chat_api(service: Service, queue: Queue) -> APIRouter:
    router = APIRouter()

    @router.post("/v1/chat/completions")
    @router.post("/chat/completions")
    async def chat(request: Request) -> Response:
        """Ask the chosen mind through OpenAI's chat API."""
        body = await json_body(request)
        if (engine := passing()) is not None:
            return await passed(request, engine, "/chat/completions", body)
        asked = checked(Chat, body)
        if not all(said.is_text for said in asked.messages):
            raise Refused(400, "This language model reads text only: leave out pictures and sound.", "messages")
        persona = "\n".join(said.words for said in asked.messages if said.role in ("system", "developer"))
        history = tuple(
            Message("user" if said.role == "user" else "assistant", said.words)
            for said in asked.messages
            if said.role in ("user", "assistant")
        )
        if not history or history[-1].role != "user" or asked.messages[-1].role in ("tool", "function"):
            raise Refused(
                400,
                "The last message must be the user’s, because this language model does not call tools "
                "for other programs.",
                "messages",
            )
        if not history[-1].text.strip():
            raise Refused(400, "The last message is empty: write something to answer.", "messages")
        prompt = _prompt(service, persona, history, asked.temperature, asked.max_completion_tokens or asked.max_tokens)
        return await reply(request, asked, prompt, _ChatShape())

    @router.post("/v1/completions")
    @router.post("/completions")
    async def complete(request: Request) -> Response:
        """Ask the chosen mind through OpenAI's completions API."""
        body = await json_body(request)
        if (engine := passing()) is not None:
            return await passed(request, engine, "/completions", body)
        asked = checked(Completion, body)
        prompt = _prompt(service, "", (Message("user", asked.text),), asked.temperature, asked.max_tokens)
        return await reply(request, asked, prompt, _CompletionShape())

    async def reply(request: Request, asked: _Asked, prompt: Prompt, shape: _Shape) -> Response:
        pieces = _written(running_mind(service), prompt, queue)
        if asked.stream:
            return Streamed(_ended(events(_chunks(pieces, shape, asked.usage_wanted))), EVENT_STREAM)
        return JSONResponse(await answered(request, _whole(pieces, shape)))

    def passing() -> Passing | None:
        """Return the mind if it is a server that takes requests unchanged."""
        engine = running_mind(service).current.engine
        return engine if isinstance(engine, Passing) else None

    async def passed(request: Request, engine: Passing, path: str, body: Mapping[str, Any]) -> Response:
        """Return whatever the server behind the mind answers."""
        pieces = _passed(engine, path, body, queue)
        head = await answered(request, _head(pieces))
        return _Passed(pieces, head)

    return router


class _Passed(Streamed):
    def __init__(self, pieces: AsyncGenerator[Passed | bytes, None], head: Passed) -> None:
        super().__init__(_bytes(pieces), head.media_type)
        self.status_code = head.status


async def _passed(
    engine: Passing, path: str, body: Mapping[str, Any], queue: Queue
) -> AsyncGenerator[Passed | bytes, None]:
    with explained():
        async with queue.place(), aclosing(engine.passed(path, body)) as pieces:
            async for piece in pieces:
                yield piece


async def _head(pieces: AsyncGenerator[Passed | bytes, None]) -> Passed:
    return cast(Passed, await anext(pieces))


async def _bytes(pieces: AsyncGenerator[Passed | bytes, None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(pieces):
        async for piece in pieces:
            if isinstance(piece, bytes):
                yield piece


def running_mind(service: Service) -> LeasedMind:
    """Return the running mind. Raises Refused (503) while there is none."""
    with explained():
        return cast(LeasedMind, service.engines.running("mind"))


def _prompt(
    service: Service, persona: str, history: tuple[Message, ...], temperature: float | None, most: int | None
) -> Prompt:
    mind = service.settings.mind
    return Prompt(
        persona=persona or mind.persona,
        history=history,
        recalled=None,
        now=datetime.now().astimezone(),
        temperature=mind.temperature if temperature is None else temperature,
        max_tokens=min(most or mind.max_tokens, 4096),
        bare=True,
    )


async def _written(mind: LeasedMind, prompt: Prompt, queue: Queue) -> AsyncGenerator[str | Truncated, None]:
    with explained():
        async with queue.place(), aclosing(mind.write(prompt)) as pieces:
            async for piece in pieces:
                if isinstance(piece, str | Truncated):
                    yield piece


class _Shape:
    """An answer as OpenAI's clients expect it; one id identifies it from the first chunk to the last."""

    whole, chunk, prefix = "", "", ""

    def __init__(self) -> None:
        self.about = {"id": f"{self.prefix}-{secrets.token_hex(12)}", "created": int(time.time()), "model": MIND}

    def choice(self, text: str, end: str | None) -> dict[str, Any]:
        raise NotImplementedError

    def delta(self, text: str, end: str | None, first: bool) -> dict[str, Any]:
        raise NotImplementedError


class _ChatShape(_Shape):
    whole, chunk, prefix = "chat.completion", "chat.completion.chunk", "chatcmpl"

    def choice(self, text: str, end: str | None) -> dict[str, Any]:
        return {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": end}

    def delta(self, text: str, end: str | None, first: bool) -> dict[str, Any]:
        delta = {**({"role": "assistant"} if first else {}), **({"content": text} if text or first else {})}
        return {"index": 0, "delta": delta, "finish_reason": end}


class _CompletionShape(_Shape):
    whole = chunk = "text_completion"
    prefix = "cmpl"

    def choice(self, text: str, end: str | None) -> dict[str, Any]:
        return {"index": 0, "text": text, "finish_reason": end, "logprobs": None}

    def delta(self, text: str, end: str | None, first: bool) -> dict[str, Any]:
        return self.choice(text, end)


async def _whole(pieces: AsyncGenerator[str | Truncated, None], shape: _Shape) -> dict[str, Any]:
    said: list[str] = []
    end = "stop"
    async with aclosing(pieces):
        async for piece in pieces:
            if isinstance(piece, Truncated):
                end = "length"
            else:
                said.append(piece)
    return {
        **shape.about,
        "object": shape.whole,
        "choices": [shape.choice("".join(said).rstrip(), end)],
        "usage": _usage(said),
    }


async def _chunks(
    pieces: AsyncGenerator[str | Truncated, None], shape: _Shape, usage: bool
) -> AsyncGenerator[Mapping[str, Any], None]:
    said: list[str] = []
    end = "stop"
    async with aclosing(pieces):
        async for piece in pieces:
            if isinstance(piece, Truncated):
                end = "length"
                continue
            yield {**shape.about, "object": shape.chunk, "choices": [shape.delta(piece, None, not said)]}
            said.append(piece)
    yield {**shape.about, "object": shape.chunk, "choices": [shape.delta("", end, not said)]}
    if usage:
        yield {**shape.about, "object": shape.chunk, "choices": [], "usage": _usage(said)}


async def _ended(pieces: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(pieces):
        async for piece in pieces:
            yield piece
    yield b"data: [DONE]\n\n"


def _usage(said: list[str]) -> dict[str, int]:
    """Count the words written in place of tokens; the prompt is not counted."""
    words = sum(len(piece.split()) or 1 for piece in said)
    return {"prompt_tokens": 0, "completion_tokens": words, "total_tokens": words}
