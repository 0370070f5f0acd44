"""A language model behind a server: one on this machine, over real sockets, that does what servers do wrong."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from datetime import datetime
from typing import Any

import pytest

from pipeline.engine import EngineError
from pipeline.llm import Message, Prompt, Truncated, counts
from pipeline.llm.chat import FRAME, STEP, tokens
from pipeline.llm.openai import OpenAIChat
from pipeline.tools.calls import Tool, ToolCall
from tests.support.chat_server import WORDS, ChatServer, chat_server

NOW = datetime(2026, 3, 4, 15, 30)


def prompt(*texts: str, **asked: Any) -> Prompt:
    roles = ("user", "assistant")
    history = [Message(roles[place % 2], text) for place, text in enumerate(texts)]  # type: ignore[arg-type]
    return Prompt("You are kind.", tuple(history), None, NOW, **asked)


@asynccontextmanager
async def mind(server: ChatServer, model: str = "", **settings: Any) -> AsyncIterator[OpenAIChat]:
    engine = OpenAIChat(server.url, model, **settings)
    await engine.start(lambda progress: None)
    try:
        yield engine
    finally:
        await engine.stop()


async def reply(engine: OpenAIChat, *texts: str, **asked: Any) -> list[Any]:
    return [piece async for piece in engine.reply(prompt(*texts or ("Hello.",), **asked))]


async def test_pieces_come_as_they_are_made() -> None:
    async with chat_server() as server, mind(server) as engine:
        assert await reply(engine, temperature=0.3, max_tokens=50) == list(WORDS)
        assert engine.status.state == "ready"
    (request,) = server.requests
    assert (request["model"], request["temperature"], request["max_tokens"]) == ("tiny", 0.3, 50)
    assert request["messages"][-1]["content"].endswith("\nHello.")


async def test_a_piece_is_given_before_the_next_is_made() -> None:
    async with chat_server(end="hang") as server, mind(server) as engine, aclosing(engine.reply(prompt("Hi."))) as said:
        assert [await anext(said) for _ in WORDS] == list(WORDS)


async def test_a_cancelled_reply_is_a_disconnect_for_the_server() -> None:
    async with chat_server(end="hang") as server, mind(server) as engine:
        async with aclosing(engine.reply(prompt("Hello."))) as said:
            await anext(said)
        await server.left.wait()
        server.end = "done"
        assert await reply(engine) == list(WORDS), "and it answers again"


async def test_a_cancelled_task_is_one_too() -> None:
    async with chat_server(end="hang") as server, mind(server) as engine:
        task = asyncio.create_task(reply(engine))
        await server.asked.wait()
        task.cancel()
        await server.left.wait()


async def test_reasoning_is_not_spoken() -> None:
    pieces = [
        {"reasoning_content": "Hm."},
        {"reasoning": "Hm."},
        "<thi",
        "nk>Hm.</th",
        "ink>",
        {"content": None},
        "Yes.",
    ]
    async with chat_server(pieces=pieces) as server, mind(server) as engine:
        assert "".join(await reply(engine)) == "Yes."


@pytest.mark.parametrize(
    ("refuses", "quietly"),
    [
        ([], {"reasoning_effort", "chat_template_kwargs"}),
        (["chat_template_kwargs"], {"reasoning_effort"}),
        (["reasoning_effort"], {"chat_template_kwargs"}),
        (["reasoning_effort", "chat_template_kwargs"], set()),
    ],
)
async def test_a_model_is_asked_not_to_reason_as_far_as_its_server_takes_it(
    refuses: list[str], quietly: set[str]
) -> None:
    async with chat_server(refuses=refuses) as server, mind(server) as engine:
        assert await reply(engine) == list(WORDS)
    assert server.requests[0].keys() & {"reasoning_effort", "chat_template_kwargs"} == quietly
    assert server.requests[0].get("reasoning_effort", "none") == "none"


@pytest.mark.parametrize(
    ("props", "most"),
    [({"default_generation_settings": {"n_ctx": 600}}, 436), ({"odd": 1}, 3932), ([], 3932)],
)
async def test_llama_cpp_tells_its_context_in_its_properties(props: Any, most: int) -> None:
    models = {"data": [{"id": "some.gguf"}]}
    async with chat_server(models=models, props=props) as server, mind(server) as engine:
        await reply(engine, *LONG * 3, max_tokens=100)
    taken = sum(tokens(message["content"]) for message in server.requests[0]["messages"])
    assert most / 2 < taken <= most


UNSEEN = ("The user", " greets.", "</th", "ink>", "Hello", ".")
"""What comes of reasoning that the chat template opens."""


async def test_reasoning_that_a_servers_template_opens_is_not_spoken() -> None:
    async with chat_server(probed=["Hm.", "</think>", "yes"], pieces=UNSEEN) as server, mind(server) as engine:
        assert "".join(await reply(engine)) == "Hello."
        assert "".join(await reply(engine)) == "Hello."


async def test_and_it_is_learned_from_a_reply_where_the_first_question_did_not_show_it() -> None:
    async with chat_server(probed=["yes"], pieces=UNSEEN) as server, mind(server) as engine:
        await reply(engine)
        assert "".join(await reply(engine)) == "Hello."


async def test_a_model_that_ends_a_mark_of_its_own_is_not_taken_for_one_that_reasons_unseen() -> None:
    pieces = ["<think>Hm.</think>Yes", " and </think> again."]
    async with chat_server(probed=["<think>", "Hm."], pieces=pieces) as server, mind(server) as engine:
        for _ in range(2):
            assert "".join(await reply(engine)).startswith("Yes")


@pytest.mark.parametrize("pieces", [[{"reasoning_content": "Hm."}], [{"reasoning": "Hm."}], ["<think>", "Hm."]])
async def test_a_reply_that_is_reasoning_only_says_so(pieces: list[Any]) -> None:
    async with chat_server(pieces=pieces) as server, mind(server) as engine:
        with pytest.raises(EngineError, match="spent its whole reply on reasoning"):
            await reply(engine)
        server.pieces = WORDS
        assert await reply(engine) == list(WORDS)


TOOL = Tool("light", "Turns a light on or off.", {"type": "object", "properties": {}})


async def test_a_server_that_takes_no_tools_is_told_of_them_in_words_from_then_on() -> None:
    async with chat_server(refuses=["tools"]) as server, mind(server) as engine:
        assert await reply(engine, tools=(TOOL,)) == await reply(engine, tools=(TOOL,)) == list(WORDS)
    assert len(server.requests) == 2 and server.refused == 1
    assert all("Turns a light on" in request["messages"][0]["content"] for request in server.requests)


async def test_a_request_refused_for_another_reason_takes_no_tools_away() -> None:
    async with chat_server(body="too long") as server, mind(server) as engine:
        server.status = 400
        with pytest.raises(EngineError, match="too long"):
            await reply(engine, tools=(TOOL,))
        server.status = 200
        assert await reply(engine, tools=(TOOL,)) == list(WORDS)
        assert server.requests[0]["tools"]


LONG = [f"turn {n} {'word ' * 20}" for n in range(101)]


def by_words(text: str) -> int:
    return len(text.split())


async def test_the_context_is_trimmed_by_the_servers_own_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counts, "PATIENCE_S", 60.0)
    models = {"data": [{"id": "small", "max_model_len": 900}]}
    async with chat_server(models=models, counts=by_words) as server, mind(server) as engine:
        await reply(engine, *LONG, max_tokens=100)
        first = list(server.counted)
        await reply(engine, *LONG, "I see.", "And now?", max_tokens=100)
        second = server.counted[len(first) :]
        messages = server.requests[0]["messages"]
        taken = sum(by_words(message["content"]) + FRAME for message in messages)
        assert 736 - STEP * 26 <= taken <= 736, "as much as fits, but for the step in which it is let go"
        assert taken < sum(tokens(message["content"]) for message in messages), "more than by the estimate"
        assert len(set(second)) <= 5, "only what is new is asked for"


async def test_what_fits_by_its_bytes_is_not_counted() -> None:
    async with chat_server(counts=by_words) as server, mind(server) as engine:
        before = len(server.counted)
        await reply(engine, "Hello.", "Hello to you.", "How are you?")
        assert len(server.counted) == before == 1


async def test_a_count_that_does_not_come_in_time_is_estimated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counts, "PATIENCE_S", 0.0)
    models = {"data": [{"id": "small", "max_model_len": 900}]}
    async with chat_server(models=models, counts=by_words) as server, mind(server) as engine:
        assert await reply(engine, *LONG, max_tokens=100) == list(WORDS)
    assert sum(tokens(message["content"]) for message in server.requests[0]["messages"]) <= 736


async def test_what_is_not_counted_in_time_is_taken_to_be_as_dense_as_what_was(monkeypatch: pytest.MonkeyPatch) -> None:
    def by_bytes(text: str) -> int:
        return len(text.encode())

    monkeypatch.setattr(counts, "PATIENCE_S", 0.0)
    models = {"data": [{"id": "small", "max_model_len": 900}]}
    async with chat_server(models=models, counts=by_bytes) as server, mind(server) as engine:
        assert await reply(engine, *LONG, max_tokens=100) == list(WORDS)
    assert 0 < sum(by_bytes(message["content"]) for message in server.requests[0]["messages"]) <= 736


async def test_a_server_that_does_not_count_is_not_asked_again() -> None:
    models = {"data": [{"id": "small", "max_model_len": 900}]}
    async with chat_server(models=models) as server, mind(server) as engine:
        await reply(engine, *LONG, max_tokens=100)
    assert sum(tokens(message["content"]) for message in server.requests[0]["messages"]) <= 736


async def test_the_context_is_trimmed_to_what_the_server_says_it_has() -> None:
    models = {"data": [{"id": "small", "max_model_len": 400}]}
    async with chat_server(models=models) as server, mind(server) as engine:
        await reply(engine, *(f"turn {n} {'x' * 60}" for n in range(101)), max_tokens=100)
    messages = server.requests[0]["messages"]
    assert 3 < len(messages) < 20
    assert messages[1]["role"] == "user" and "\nturn 100 " in messages[-1]["content"]


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        ({"status": 500, "body": "out of luck"}, r"answered 500 \(out of luck\)"),
        ({"status": 400, "body": '{"error": {"message": "too long"}}'}, r"answered 400 \(too long\)"),
        ({"status": 404}, "most end in /v1"),
        ({"pieces": [b"\x00\xff\xfe garbage\n"]}, "does not speak OpenAI's chat API"),
        ({"pieces": [b"data: {not json\n\n"]}, "does not speak OpenAI's chat API"),
        ({"pieces": [b"data: [1, 2]\n\n"]}, "does not speak OpenAI's chat API"),
        ({"pieces": [b'data: {"choices": [7]}\n\n']}, "does not speak OpenAI's chat API"),
        ({"pieces": ["Hel", b'data: {"error": {"message": "GPU on fire"}}\n\n']}, r"stopped .* \(GPU on fire\)"),
        ({"pieces": ["Hel"], "end": "disconnect"}, "disconnected in the middle of the reply"),
        ({"pieces": ["Hel", b"data: {\"choi"], "end": "disconnect"}, "does not speak|disconnected"),
    ],
)  # fmt: skip
async def test_what_a_server_does_wrong_is_one_sentence_and_not_the_end(script: dict[str, Any], sentence: str) -> None:
    async with chat_server() as server, mind(server) as engine:
        for name, value in script.items():
            setattr(server, name, value)
        with pytest.raises(EngineError, match=sentence) as told:
            await reply(engine)
        assert "\n" not in str(told.value)
        assert engine.status.last_error == str(told.value)
        server.status, server.pieces, server.end = 200, WORDS, "done"
        assert await reply(engine) == list(WORDS)


async def test_a_server_that_hangs() -> None:
    async with chat_server(pieces=["Hel"], end="hang") as server, mind(server, silence_s=0.2) as engine:
        with pytest.raises(EngineError, match="has said nothing for"):
            await reply(engine)


async def test_a_server_that_is_gone_by_now() -> None:
    async with chat_server() as server:
        engine = OpenAIChat(server.url, "")
        await engine.start(lambda progress: None)
    with pytest.raises(EngineError, match="No server answers at"):
        await reply(engine)
    await engine.stop()


@pytest.mark.parametrize(
    ("script", "settings", "sentence"),
    [
        ({"key": "right"}, {"api_key": "wrong"}, "refused the key"),
        ({"key": "right"}, {}, "refused the key"),
        ({"models": {"data": []}}, {}, "has no model loaded"),
        ({}, {"model": "huge"}, "has no model 'huge': choose one of tiny"),
        ({"models": ["rubbish"]}, {}, "does not speak OpenAI's chat API"),
        ({"models": {"data": None}}, {}, "does not speak OpenAI's chat API"),
        ({"status": 500, "body": "model requires more system memory"}, {}, r"answered 500 \(model requires more"),
        ({"status": 400, "body": "does not support chat"}, {}, r"answered 400 \(does not support chat\)"),
        ({"probed": [b"rubbish\n"]}, {}, "does not speak OpenAI's chat API"),
    ],
)
async def test_a_server_that_cannot_be_used(script: dict[str, Any], settings: dict[str, Any], sentence: str) -> None:
    async with chat_server(**script) as server:
        engine = OpenAIChat(server.url, **{"model": "", **settings})
        with pytest.raises(EngineError, match=sentence):
            await engine.start(lambda progress: None)
        assert engine.status.state == "failed"
        await engine.stop()


async def test_the_right_key_is_taken() -> None:
    async with chat_server(key="right") as server, mind(server, api_key="right") as engine:
        assert await reply(engine) == list(WORDS)


@pytest.mark.parametrize(
    ("url", "sentence"),
    [("", "Enter the address"), ("not an address", "is not an address"), ("ftp://localhost/v1", "is not an address")],
)
async def test_an_address_that_is_none(url: str, sentence: str) -> None:
    engine = OpenAIChat(url, "")
    with pytest.raises(EngineError, match=sentence):
        await engine.start(lambda progress: None)
    await engine.stop()


async def test_nobody_there() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        engine = OpenAIChat(f"http://127.0.0.1:{unused.getsockname()[1]}/v1", "")
        with pytest.raises(EngineError, match="No server answers at"):
            await engine.start(lambda progress: None)
    await engine.stop()


async def test_a_model_is_chosen_by_name() -> None:
    models = {"data": [{"id": "first"}, {"id": "second"}]}
    async with chat_server(models=models) as server, mind(server, "second") as engine:
        await reply(engine)
    assert server.requests[0]["model"] == "second"


def call(index: int | None, id: str | None, name: str | None, arguments: str) -> dict[str, Any]:
    """A delta with a piece of a tool call."""
    function = {"name": name, "arguments": arguments} if name else {"arguments": arguments}
    return {"tool_calls": [{"index": index, "id": id, "type": "function", "function": function}]}


async def test_tool_calls_are_put_together_from_their_pieces() -> None:
    pieces = [
        "One moment.",
        call(0, "a", "weather", '{"city": '),
        call(1, "b", "time", ""),
        call(0, None, None, '"Paris"}'),
    ]
    async with chat_server(pieces=pieces) as server, mind(server) as engine:
        weather, time = ToolCall("a", "weather", '{"city": "Paris"}'), ToolCall("b", "time", "{}")
        assert await reply(engine) == ["One moment.", weather, time]


async def test_arguments_that_are_no_text_are_written_as_json() -> None:
    pieces = [{"tool_calls": [{"function": {"name": "time", "arguments": {"b": 1}}}]}]
    async with chat_server(pieces=pieces) as server, mind(server) as engine:
        assert await reply(engine) == [ToolCall("call_0", "time", '{"b": 1}')]


@pytest.mark.parametrize(
    "pieces",
    [
        [{"content": [{"type": "text", "text": "Yes."}]}],
        [{"content": [{"type": "thinking", "thinking": [{"text": "Hm."}]}, {"type": "text", "text": "Yes."}]}],
        [{"refusal": "Yes."}],
        [b'data: {"choices": null}\n\n', "Yes."],
        [b'data: {"choices": []}\n\n', "Yes.", b'data: {"usage": {"total_tokens": 3}}\n\n'],
        [b"data:\n\n: still here\n\nevent: message\n", "Yes."],
        [b'\xef\xbb\xbfdata: {"choices": [{"delta": {"content": "Yes."}}]}\n\n'],
        ["Yes.", b'data: {"choices": [{"finish_reason": "stop"}]}\n\ndata: {"error": "late"}\n\n'],
    ],
)
async def test_answers_in_the_shapes_that_servers_send(pieces: Any) -> None:
    async with chat_server(pieces=pieces) as server, mind(server) as engine:
        assert "".join(piece for piece in await reply(engine) if isinstance(piece, str)) == "Yes."


@pytest.mark.parametrize(
    "whole",
    [b'{"choices": [{"message": {"content": "Yes."}}]}', b'\n{"choices":\n [{"message":\n {"content": "Yes."}}]}\n'],
)
async def test_a_whole_answer_in_place_of_a_stream(whole: bytes) -> None:
    async with chat_server(pieces=[whole], end="disconnect") as server, mind(server) as engine:
        assert await reply(engine) == ["Yes."]


async def test_a_reply_that_reached_its_length_says_so() -> None:
    pieces = ["Yes, I", b'data: {"choices": [{"delta": {}, "finish_reason": "length"}]}\n\n']
    async with chat_server(pieces=pieces) as server, mind(server) as engine:
        assert await reply(engine) == ["Yes, I", Truncated()]


async def test_an_answer_without_end_is_broken_off() -> None:
    async with chat_server(pieces=[b"data: " + b"a" * 1_100_000]) as server, mind(server) as engine:
        with pytest.raises(EngineError, match="does not end"):
            await reply(engine)


@pytest.mark.parametrize("name", ["llama3.2", " llama3.2:latest ", "LLAMA3.2:latest"])
async def test_a_model_is_found_by_the_names_that_people_give_it(name: str) -> None:
    async with chat_server(models={"data": [{"id": "other"}, {"id": "llama3.2:latest"}]}) as server:
        async with mind(server, model=name) as engine:
            await reply(engine)
        assert server.requests[-1]["model"] == "llama3.2:latest"


async def test_a_model_that_is_not_there_is_not_told_as_a_wrong_address() -> None:
    missing = '{"error": {"message": "model \\"x\\" not found, try pulling it first"}}'
    async with chat_server(status=404, body=missing) as server:
        with pytest.raises(EngineError, match="has no such model"):
            async with mind(server):
                pass


async def test_calls_of_one_index_are_told_by_their_ids() -> None:
    pieces = [call(0, "a", "time", "{}"), call(0, "b", "date", "{}")]
    async with chat_server(pieces=pieces) as server, mind(server) as engine:
        assert await reply(engine) == [ToolCall("a", "time", "{}"), ToolCall("b", "date", "{}")]


@pytest.mark.parametrize(
    "odd",
    [["time"], [{"index": 0}], [{"function": {}}], {"a": 1}],
)
async def test_what_is_no_tool_call_is_an_error(odd: Any) -> None:
    async with chat_server(pieces=[{"tool_calls": odd}]) as server, mind(server) as engine:
        with pytest.raises(EngineError, match="does not speak OpenAI's chat API"):
            await reply(engine)
