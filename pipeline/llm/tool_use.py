"""Tools in the format of OpenAI's chat API, which servers, llama.cpp and chat templates share."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pipeline.llm import Message, Prompt
from pipeline.llm.marks import unmarked, unmarked_tree
from pipeline.tools.calls import Tool, ToolCall

NO_RESULT = "There is no result yet."
"""Stands for the result of a call until there is one, because templates and servers require a result for each call."""


def offered(prompt: Prompt) -> tuple[Tool, ...]:
    """Return the tools that may be called; if a particular one must be, only that one."""
    named = tuple(tool for tool in prompt.tools if tool.name == prompt.tool_choice)
    return named or prompt.tools


def specified(tools: Sequence[Tool]) -> list[dict[str, Any]]:
    """Return a request's `tools`. Their descriptions are data, made safe so that they cannot end their message."""
    return [
        {
            "type": "function",
            "function": {
                "name": each.name,
                "description": unmarked(each.description),
                "parameters": unmarked_tree(dict(each.parameters)),
            },
        }
        for each in tools
    ]


def chosen(choice: str) -> str | dict[str, Any]:
    """Return a request's `tool_choice`."""
    if choice in ("auto", "none", "required"):
        return choice
    return {"type": "function", "function": {"name": choice}}


def requested(calls: Sequence[ToolCall]) -> list[dict[str, Any]]:
    """Return a message's `tool_calls`."""
    return [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in calls
    ]


def results(history: Sequence[Message]) -> dict[str, str]:
    """Return the result of each call, by its id; if there are several, the first counts."""
    found: dict[str, str] = {}
    for message in history:
        if message.role == "tool":
            found.setdefault(message.call_id, message.text)
    return found


def described(tools: Sequence[Tool], choice: str) -> str:
    """Describe the tools in words, in the form most templates use, for a server or template without tool support."""
    if not tools or choice == "none":
        return ""
    listed = "\n".join(json.dumps(each["function"], ensure_ascii=False) for each in specified(tools))
    must = {"auto": "", "required": " You must call one of them now."}.get(choice, f" You must call {choice} now.")
    return (
        f"You may call these functions:\n{listed}\n"
        "To call one, write nothing but this, with its arguments as JSON:\n"
        f'<tool_call>{{"name": "…", "arguments": {{…}}}}</tool_call>{must}'
    )


def told(prompt: Prompt) -> Prompt:
    """Return the prompt with its tools described in words, as part of the persona."""
    persona = f"{prompt.persona}\n\n{described(prompt.tools, prompt.tool_choice)}".strip()
    return replace(prompt, persona=persona, tools=())
