"""Tools that a client runs: offered, called, answered, and never spoken."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import pytest

from pipeline.llm import Prompt
from pipeline.tools.calls import ToolCall
from tests.web.conftest import Running
from tests.web.realtime.wire import LOUD, SILENCE, Client
from tests.web.scripted import ScriptedMind

WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather of a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
PARIS = ToolCall("x", "get_weather", '{"city": "Paris"}')
ROME = ToolCall("x", "get_weather", '{"city": "Rome"}')


@pytest.fixture
async def client(running: Running) -> AsyncIterator[Client]:
    async with running.connect() as socket:
        client = Client(socket)
        await client.the("session.created")
        session = await client.update(tools=[WEATHER], tool_choice="auto")
        assert session["tools"] == [WEATHER]
        yield client


async def give(client: Client, call_id: str, output: Any) -> None:
    item = {"type": "function_call_output", "call_id": call_id, "output": json.dumps(output)}
    await client.send("conversation.item.create", item=item)


async def test_a_spoken_turn_calls_a_tool_and_is_answered_with_what_it_gave(running: Running, client: Client) -> None:
    mind = running.engines.mind
    mind.text, mind.calls = "", [[PARIS]]
    await client.speak(LOUD, SILENCE)
    told = await client.until("response.done")
    names = [event["type"] for event in told]
    call = names[names.index("response.created") + 1 :]
    assert call == [
        "response.output_item.added",
        "conversation.item.added",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.output_item.done",
        "conversation.item.done",
        "response.done",
    ]
    (item,) = told[-1]["response"]["output"]
    assert (item["type"], item["name"], json.loads(item["arguments"])) == (
        "function_call",
        "get_weather",
        {"city": "Paris"},
    )
    assert mind.prompts[-1].tools[0].name == "get_weather"
    mind.text = "It is sunny in Paris."
    await give(client, item["call_id"], {"sky": "sunny"})
    await client.send("response.create")
    done = (await client.the("response.done"))["response"]
    assert done["output"][0]["content"][0]["transcript"] == "It is sunny in Paris."
    user, called, result = mind.prompts[-1].history
    assert (user.text, called.calls[0].name, called.calls[0].id) == (
        "what is the weather in paris",
        "get_weather",
        result.call_id,
    )
    assert (result.role, result.text) == ("tool", '{"sky": "sunny"}')


async def test_calls_in_parallel_follow_what_is_said_before_them(running: Running, client: Client) -> None:
    mind = running.engines.mind
    mind.text, mind.calls = "Let me see.", [[PARIS, ROME, PARIS]]  # the third is the first again
    await client.write("Paris and Rome?")
    await client.send("response.create")
    message, *calls = (await client.the("response.done"))["response"]["output"]
    assert message["content"][0]["transcript"] == "Let me see."
    assert [json.loads(call["arguments"])["city"] for call in calls] == ["Paris", "Rome"]
    assert len({call["call_id"] for call in calls}) == len({call["id"] for call in calls}) == 2
    for call in calls:
        await give(client, call["call_id"], "sunny")
    mind.text = "Both are sunny."
    await client.send("response.create")
    await client.the("response.done")
    assert [message.role for message in mind.prompts[-1].history] == ["user", "assistant", "assistant", "tool", "tool"]
    assert mind.prompts[-1].history[1].text == "Let me see."


async def test_a_call_has_exactly_one_output(client: Client, running: Running) -> None:
    running.engines.mind.calls = [[PARIS]]
    await client.write("Paris?")
    await client.send("response.create")
    call_id = (await client.the("response.done"))["response"]["output"][-1]["call_id"]
    await give(client, "call_of_nobody", "?")
    assert (await client.error())["code"] == "invalid_call_id"
    await give(client, call_id, "sunny")
    await client.the("conversation.item.added")
    await give(client, call_id, "rainy")
    assert (await client.error())["code"] == "invalid_call_id"


async def test_an_output_that_is_too_long_is_cut_and_that_is_said(client: Client, running: Running) -> None:
    mind = running.engines.mind
    mind.calls = [[PARIS]]
    await client.write("Paris?")
    await client.send("response.create")
    call_id = (await client.the("response.done"))["response"]["output"][-1]["call_id"]
    await give(client, call_id, "x" * 3_000_000)
    assert len((await client.the("conversation.item.done"))["item"]["output"]) < 20_000
    await client.send("response.create")
    await client.the("response.done")
    assert mind.prompts[-1].history[-1].text.endswith("(Only the beginning is shown: there were 3,000,002 characters.)")


@pytest.mark.parametrize(
    ("text", "city"),
    [
        ('<tool_call>{"name": "get_weather", "arguments": {"city": "Paris"}}</tool_call>', "Paris"),
        ('{"name": "Get_Weather", "parameters": {"city": "Rome"}}', "Rome"),
    ],
)
async def test_a_call_that_is_written_as_text_is_made_and_not_spoken(
    running: Running, client: Client, text: str, city: str
) -> None:
    running.engines.mind.text = text
    await client.write("And?")
    await client.send("response.create")
    (item,) = (await client.the("response.done"))["response"]["output"]
    assert (item["type"], json.loads(item["arguments"])) == ("function_call", {"city": city})


async def test_a_tool_that_there_is_not_is_never_called_and_the_model_is_told(running: Running, client: Client) -> None:
    mind = running.engines.mind
    mind.text, mind.calls = "", [[ToolCall("x", "sing", "{}")], [PARIS]]
    await client.write("And?")
    await client.send("response.create")
    (item,) = (await client.the("response.done"))["response"]["output"]
    assert item["name"] == "get_weather"
    assert mind.prompts[-1].history[-1].text == "There is no tool 'sing': call one of get_weather."


async def test_a_tool_that_never_answers_holds_nothing_up(running: Running, client: Client) -> None:
    mind = running.engines.mind
    mind.text, mind.calls = "", [[PARIS]]
    await client.write("Paris?")
    await client.send("response.create")
    await client.the("response.done")
    mind.text = "I am still waiting for it."
    await client.write("Well?")
    await client.send("response.create")
    assert (await client.the("response.done"))["response"]["status"] == "completed"


async def test_tools_of_one_response_and_of_none(running: Running, client: Client) -> None:
    await client.write("Hello")
    await client.send("response.create", response={"tools": [{**WEATHER, "name": "other"}], "tool_choice": "required"})
    await client.the("response.done")
    prompt = running.engines.mind.prompts[-1]
    assert ([tool.name for tool in prompt.tools], prompt.tool_choice) == (["other"], "required")
    running.engines.mind.calls = [[PARIS]]
    await client.write("Hello")
    await client.send("response.create", response={"tool_choice": "none"})
    assert [item["type"] for item in (await client.the("response.done"))["response"]["output"]] == ["message"]


class Capable(ScriptedMind):
    """Looks into the calendar, and tells what it found."""

    uses_tools = True

    async def reply(self, prompt: Prompt) -> AsyncGenerator[str | ToolCall, None]:
        self.prompts.append(prompt)
        found = prompt.history[-1].role == "tool"
        yield "A Wednesday." if found else ToolCall("x", "get_weekday", '{"date": "2027-03-03"}')


async def test_the_owners_tools_stand_beside_the_clients_and_are_run_here(running: Running) -> None:
    mind = running.engines.mind = Capable()
    async with running.connect() as socket:
        client = Client(socket)
        await client.the("session.created")
        assert (await client.update(tools=[WEATHER]))["tools"] == [WEATHER]
        await client.write("What day is the third of March 2027?")
        await client.send("response.create")
        first = (await client.the("response.done"))["response"]
        assert (first["status"], first["output"]) == ("completed", [])  # a client knows nothing of that call
        told = await client.until("response.done")
        assert told[-1]["response"]["output"][0]["content"][0]["transcript"] == "A Wednesday."
    names = [tool.name for tool in mind.prompts[-1].tools]
    assert names[0] == "get_weather" and "get_weekday" in names
    assert mind.prompts[-1].history[-1].text == "2027-03-03 is Wednesday, 3 March 2027."


async def test_a_server_that_a_session_names_is_refused_in_a_sentence(running: Running, client: Client) -> None:
    server = {
        "type": "mcp",
        "server_label": "evil",
        "server_url": "http://192.168.0.1/mcp",
        "require_approval": "never",
    }
    await client.send("session.update", session={"type": "realtime", "tools": [server]})
    assert "chosen by the owner on the setup page" in (await client.error())["message"]
    assert not running.service.tools.servers


async def test_a_tool_that_is_not_declared_cannot_be_chosen(running: Running, client: Client) -> None:
    choice = {"type": "function", "name": "get_time"}
    await client.send(
        "session.update", session={"type": "realtime", "instructions": "Be brief.", "tool_choice": choice}
    )
    error = await client.error()
    assert (error["code"], error["param"]) == ("invalid_value", "session.tool_choice")
    assert error["message"] == "There is no tool 'get_time' to choose: add it to tools."
    session = (await client.the("session.updated"))["session"]
    assert (session["instructions"], session["tool_choice"]) == ("Be brief.", "auto"), "the rest is in force"

    await client.send("session.update", session={"type": "realtime", "tools": [WEATHER, WEATHER]})
    assert (await client.error())["message"] == (
        "session.tools: two tools have the name get_weather: give each its own name."
    )
    assert len((await client.the("session.updated"))["session"]["tools"]) == 1, "those of before"

    await client.send("response.create", response={"tool_choice": choice})
    assert (await client.error())["param"] == "response.tool_choice"
    named = {**choice, "name": "get_weather"}
    assert (await client.update(tool_choice=named))["tool_choice"] == named
    await client.send("response.create", response={"tools": [{**WEATHER, "name": "other"}]})
    await client.the("response.done")
    assert running.engines.mind.prompts[-1].tool_choice == "auto", "the session's choice is not among the reply's tools"
    assert (await client.update(tools=[]))["tool_choice"] == "auto"


async def test_an_output_of_ten_megabytes_is_cut_like_any_other(running: Running, client: Client) -> None:
    running.engines.mind.text, running.engines.mind.calls = "", [[PARIS]]
    await client.speak(LOUD, SILENCE)
    (item,) = (await client.the("response.done"))["response"]["output"]
    await give(client, item["call_id"], "x" * 10_000_000)
    told = (await client.until("conversation.item.done", "error"))[-1]
    assert told["type"] == "conversation.item.done" and len(told["item"]["output"]) < 200_000
