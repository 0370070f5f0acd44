"""`/v1/chat/completions`: the chosen mind in OpenAI's shape, and a server's own answer as it is."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any

import httpx
import pytest
from openai import APIStatusError, AsyncOpenAI, BadRequestError

from pipeline.llm import Passed, PromptTooLong, Truncated
from tests.web.api.audio.test_speech import error
from tests.web.conftest import Running
from tests.web.scripted import ScriptedMind


@pytest.fixture
async def sdk(running: Running) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{running.url}/v1", api_key="none", max_retries=0) as client:
        yield client


async def test_the_mind_is_told_the_conversation_and_answers(running: Running, sdk: AsyncOpenAI) -> None:
    answer = await sdk.chat.completions.create(
        model="any",
        temperature=0.1,
        max_completion_tokens=50,
        messages=[
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hello."},
            {"role": "assistant", "content": "Hi."},
            {"role": "user", "content": [{"type": "text", "text": "And now?"}]},
        ],
    )
    assert answer.choices[0].message.content == running.engines.mind.text
    assert answer.choices[0].finish_reason == "stop"
    (prompt,) = running.engines.mind.prompts
    assert (prompt.persona, prompt.temperature, prompt.max_tokens) == ("Be brief.", 0.1, 50)
    assert [message.text for message in prompt.history] == ["Hello.", "Hi.", "And now?"]


async def test_chunks_joined_are_the_answer(running: Running, sdk: AsyncOpenAI) -> None:
    stream = await sdk.chat.completions.create(
        model="any", messages=[{"role": "user", "content": "Hi."}], stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    assert len({chunk.id for chunk in chunks}) == 1
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == f"{running.engines.mind.text} "
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].usage is not None and chunks[-1].usage.completion_tokens > 1


async def test_a_bare_prompt_is_completed(running: Running, sdk: AsyncOpenAI) -> None:
    answer = await sdk.completions.create(model="any", prompt="Once upon a time")
    assert answer.choices[0].text == running.engines.mind.text


class Short(ScriptedMind):
    async def reply(self, prompt: Any) -> AsyncGenerator[Any, None]:
        yield "As I was"
        yield Truncated()


class Full(ScriptedMind):
    async def reply(self, prompt: Any) -> AsyncGenerator[Any, None]:
        for piece in list[str]():
            yield piece
        raise PromptTooLong("Say it in shorter parts.")


async def test_what_had_to_end_says_so(running: Running, sdk: AsyncOpenAI) -> None:
    running.engines.mind = Short()
    answer = await sdk.chat.completions.create(model="any", messages=[{"role": "user", "content": "Hi."}])
    assert answer.choices[0].finish_reason == "length"


async def test_what_is_wrong_is_told(running: Running, client: httpx.AsyncClient, sdk: AsyncOpenAI) -> None:
    bodies: list[dict[str, Any]] = [{}, {"messages": []}, {"messages": [{"role": "king"}]}, {"messages": "Hi."}]
    for body in bodies:
        answer = await client.post("/v1/chat/completions", json=body)
        assert answer.status_code == 400
        error(answer)
    with pytest.raises(BadRequestError, match="last message"):
        await sdk.chat.completions.create(model="any", messages=[{"role": "system", "content": "Hi."}])
    running.engines.mind = Full()
    with pytest.raises(BadRequestError, match="shorter") as refused:
        await sdk.chat.completions.create(model="any", messages=[{"role": "user", "content": "Hi."}])
    assert refused.value.code == "context_length_exceeded", "to ask again is of no use"
    running.engines.mind = ScriptedMind()
    running.engines.mind.error = "The mind is gone."
    with pytest.raises(APIStatusError, match="The mind is gone"):
        await sdk.chat.completions.create(model="any", messages=[{"role": "user", "content": "Hi."}])


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"n": 2}, "n must be 1"),
        ({"logprobs": True}, "logprobs must be false"),
        ({"response_format": {"type": "json_object"}}, "response_format.type must be 'text'"),
        ({"tool_choice": "required"}, "tool_choice must be 'auto' or 'none'"),
        ({"messages": [{"role": "user"}]}, "The last message is empty"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}, "reads text only"),
    ],
)
async def test_what_a_mind_without_a_server_cannot_do_is_refused(
    client: httpx.AsyncClient, more: dict[str, Any], says: str
) -> None:
    asked = {"messages": [{"role": "user", "content": "Hi."}], **more}
    answer = await client.post("/v1/chat/completions", json=asked)
    assert answer.status_code == 400
    assert says in error(answer)["message"]


async def test_what_clients_send_by_habit_is_taken(client: httpx.AsyncClient) -> None:
    habits = {"n": 1, "logprobs": False, "response_format": {"type": "text"}, "tools": [], "tool_choice": "auto"}
    said = {"messages": [{"role": "user", "content": "Hi."}], "user": "me", "top_p": None, **habits}
    assert (await client.post("/v1/chat/completions", json=said)).status_code == 200


class Server(ScriptedMind):
    """A mind with a server behind it."""

    def __init__(self, status: int = 200) -> None:
        super().__init__()
        self.answer = status
        self.passed_on: list[tuple[str, Mapping[str, object]]] = []

    async def passed(self, path: str, request: Mapping[str, object]) -> AsyncGenerator[Passed | bytes, None]:
        self.passed_on.append((path, request))
        yield Passed(self.answer, "text/event-stream")
        yield b"data: one\n\n"
        yield b"data: two\n\n"


@pytest.mark.parametrize("path", ["/chat/completions", "/completions"])
async def test_a_servers_answer_is_passed_as_it_is(running: Running, client: httpx.AsyncClient, path: str) -> None:
    server = running.engines.mind = Server(status=418)
    asked = {"model": "x", "tools": [{"type": "function"}], "anything": 1}
    answer = await client.post(f"/v1{path}", json=asked)
    assert (answer.status_code, answer.text) == (418, "data: one\n\ndata: two\n\n")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert server.passed_on == [(path, asked)]


async def test_lists_are_what_clients_fill_their_menus_with(client: httpx.AsyncClient, sdk: AsyncOpenAI) -> None:
    models = [model.id async for model in sdk.models.list()]
    assert models == ["parley", "tts-1", "whisper-1"]
    assert (await sdk.models.retrieve("tts-1")).id == "tts-1"
    answer = await client.get("/v1/models/gpt-9")
    assert answer.status_code == 404 and error(answer)["code"] == "model_not_found"
    for prefix in ("/v1", ""):
        assert (await client.get(f"{prefix}/audio/models")).json()["models"][0]["id"] == "tts-1"
        voices = (await client.get(f"{prefix}/audio/voices")).json()["voices"]
        assert {"id": "en-gb", "name": "British English"} in voices
        assert {"id", "name"} == set(voices[0])
