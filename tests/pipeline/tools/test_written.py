"""Calls that small models write as text, and what is wrong with them."""

from __future__ import annotations

import json

import pytest

from pipeline.tools.calls import Tool, ToolCall
from pipeline.tools.checked import BadCall, checked
from pipeline.tools.written import written_calls

WEATHER = Tool("get_weather", "", {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]})
CLOCK = Tool("clock")

WRITTEN = [
    '<tool_call>{"name": "get_weather", "arguments": {"city": "Paris"}}</tool_call>',
    '<tool_call>\n{"name": "get_weather", "arguments": "{\\"city\\": \\"Paris\\"}"}\n</tool_call>',
    '[TOOL_CALLS][{"name": "get_weather", "arguments": {"city": "Paris"}}]',
    '{"name": "get_weather", "parameters": {"city": "Paris"}}',
    '{"type": "function", "function": {"name": "get_weather", "arguments": {"city": "Paris"}}}',
    "<tool_call>{'name': 'get_weather', 'arguments': {'city': 'Paris',}}</tool_call>",
    '<tool_call>{"name": "get_weather", "arguments": {"city": "Paris"}',
    '<function=get_weather>{"city": "Paris"}</function>',
    "<function=get_weather><parameter=city>Paris</parameter></function>",
    '<tool_call>```json\n{"name": "Get-Weather", "arguments": {"city": "Paris"}}\n```</tool_call>',
]


@pytest.mark.parametrize("passage", WRITTEN)
def test_a_call_is_read_in_whatever_form_it_is_written(passage: str) -> None:
    (call,) = [checked(each, [WEATHER, CLOCK]) for each in written_calls(passage)]
    assert (call.name, json.loads(call.arguments)) == ("get_weather", {"city": "Paris"})


@pytest.mark.parametrize("passage", ["", '{"city": "Paris"}', "<tool_call>Paris</tool_call>", '["a", 1]', "{" * 5000])
def test_what_is_no_call_gives_none(passage: str) -> None:
    assert written_calls(passage) == []


def test_parallel_calls_are_all_read() -> None:
    two = '[{"name": "clock", "arguments": {}}, {"name": "get_weather", "arguments": {"city": "Rome"}}]'
    assert [call.name for call in written_calls(two)] == ["clock", "get_weather"]


@pytest.mark.parametrize(
    ("name", "arguments", "why"),
    [
        ("sing", "{}", "There is no tool 'sing': call one of get_weather, clock."),
        ("get_weather", "{}", "get_weather needs city"),
        ("get_weather", '["Paris"]', "must be a JSON object"),
        ("get_weather", "Paris", "must be a JSON object"),
    ],
)
def test_what_cannot_be_mended_is_refused_with_a_reason(name: str, arguments: str, why: str) -> None:
    with pytest.raises(BadCall, match=why):
        checked(ToolCall("1", name, arguments), [WEATHER, CLOCK])


@pytest.mark.parametrize("arguments", ["", "{}", " { } "])
def test_a_tool_without_arguments_needs_none(arguments: str) -> None:
    assert checked(ToolCall("1", "functions.clock", arguments), [WEATHER, CLOCK]) == ToolCall("1", "clock", "{}")
