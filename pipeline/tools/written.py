"""Tool calls that a language model wrote as text instead of in its server's format."""

from __future__ import annotations

import ast
import json
import re
from typing import Any

from config.text import parsed
from pipeline.tools.calls import ToolCall

_NAMED = re.compile(r"<(?:function|invoke)(?:=| name=)[\"']?(?P<name>[\w.-]+)[\"']?>")
_PARAMETER = re.compile(
    r"<parameter(?:=| name=)[\"']?(?P<name>[\w.-]+)[\"']?>(?P<value>(?:(?!<parameter).)*?)</parameter>", re.DOTALL
)
_FENCE = re.compile(r"^```\w*|```$", re.MULTILINE)
_NAMES, _ARGUMENTS = ("name", "function", "tool", "tool_name"), ("arguments", "parameters", "args", "input")
"""Keys that models use for the two parts of a call."""


def written_calls(passage: str) -> list[ToolCall]:
    """Return the calls in a passage, as JSON or in some models' tags; none if it is something else."""
    if (named := _NAMED.search(passage)) is not None:
        rest = passage[named.end() :]
        arguments = {each["name"]: _value(each["value"].strip()) for each in _PARAMETER.finditer(rest)}
        given = arguments or loaded(rest.partition("</")[0])
        return [_call(named["name"], given)] if isinstance(given, dict) else []
    found = [at for at in (passage.find("{"), passage.find("[{")) if at >= 0]
    tree = loaded(re.split(r"</\w+>", passage[min(found) :])[0]) if found else None
    return [call for each in (tree if isinstance(tree, list) else [tree]) if (call := _read(each)) is not None]


def loaded(text: str) -> Any:
    """Parse JSON, even with the mistakes of small models; return None if nothing helps.

    These put code fences around it, add commas, quote as Python does, and leave brackets open.
    """
    text = _FENCE.sub("", text).strip()
    bare = re.sub(r",(?=\s*[}\]])", "", text)
    for candidate in (text, bare, bare + _unclosed(bare)):
        try:
            return parsed(candidate)
        except ValueError:
            continue
    try:
        return ast.literal_eval(bare)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None


def _read(tree: Any) -> ToolCall | None:
    if not isinstance(tree, dict):
        return None
    if isinstance(inner := tree.get("function"), dict):
        tree = inner
    name = next((tree[key] for key in _NAMES if isinstance(tree.get(key), str)), None)
    arguments: Any = next((tree[key] for key in _ARGUMENTS if key in tree), {})
    return None if name is None else _call(name, arguments)


def _call(name: str, arguments: Any) -> ToolCall:
    return ToolCall("", name, arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False))


def _value(text: str) -> Any:
    try:
        return parsed(text)
    except ValueError:
        return text


def _unclosed(text: str) -> str:
    """Return the brackets that close what is open at the end."""
    open_, quoted, escaped = list[str](), False, False
    for character in text:
        if quoted:
            quoted = escaped or character != '"'
            escaped = character == "\\" and not escaped
        elif character == '"':
            quoted = True
        elif character in "[{":
            open_.append("}" if character == "{" else "]")
        elif character in "]}" and open_:
            open_.pop()
    return ('"' if quoted else "") + "".join(reversed(open_))
