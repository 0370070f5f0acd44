"""Makes a call fit for its tool: small slips of the model are corrected; other mistakes are refused with a reason."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pipeline.tools.calls import Tool, ToolCall
from pipeline.tools.written import loaded


class BadCall(ValueError):
    """A call is wrong; the message is one sentence for the language model, which may then correct itself."""


def checked(call: ToolCall, tools: Sequence[Tool]) -> ToolCall:
    """Return the corrected call. Raises BadCall for an unknown tool, no object as arguments, or a missing argument."""
    tool = next((each for each in tools if each.name == call.name), None)
    tool = tool or next((each for each in tools if _plain(each.name) == _plain(call.name)), None)
    if tool is None:
        there_are = ", ".join(each.name for each in tools)
        raise BadCall(f"There is no tool {call.name[:40]!r}: call one of {there_are}.")
    arguments = loaded(call.arguments or "{}")
    if isinstance(arguments, str):  # JSON within JSON
        arguments = loaded(arguments)
    arguments = {} if arguments is None and not call.arguments.strip("{} \n") else arguments
    needed = tool.parameters.get("required")
    required = [name for name in needed if isinstance(name, str)] if isinstance(needed, list) else []
    if not isinstance(arguments, dict):
        raise BadCall(f"The arguments of {tool.name} must be a JSON object: call it again.")
    if missing := [name for name in required if name not in arguments]:
        raise BadCall(f"{tool.name} needs {', '.join(missing)}: call it again, or ask for what you do not know.")
    return replace(call, name=tool.name, arguments=_dumped(arguments), own=tool.own)


def _dumped(arguments: dict[Any, Any]) -> str:
    return json.dumps(arguments, ensure_ascii=False)


def _plain(name: str) -> str:
    """Return the name without a namespace, in a uniform spelling."""
    return re.sub(r"[^a-z0-9]", "", name.lower().rpartition(".")[2])
