"""A call in words, to be shown and to be asked about aloud."""

from __future__ import annotations

import json
import re

from config.text import parsed
from pipeline.tools.calls import ToolCall

SHOWN, SPOKEN = 200, 60
"""Characters of a text that is shown, and of one argument that is spoken."""
MOST_SPOKEN = 3
"""How many arguments are spoken."""


def named(tool: str) -> str:
    """Return `send_mail` or `sendMail` as people say it: "send mail"."""
    return " ".join(re.sub(r"(?<=[a-z])(?=[A-Z])", " ", re.sub(r"[\W_]+", " ", tool)).split()).lower()


def cut(text: str, most: int) -> str:
    """Cut a text to at most that many characters, ending in “…”."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def brief(text: str, most: int = SHOWN) -> str:
    """Return the text in one line, shortened."""
    return cut(" ".join(text.split()), most)


def arguments(call: ToolCall) -> str:
    """Return the arguments, short, for people: `city: Paris, days: 3`."""
    return brief(", ".join(f"{name}: {_plain(value)}" for name, value in _of(call).items()))


def question(call: ToolCall) -> str:
    """Return the question whether the call may be made."""
    given = list(_of(call).items())
    told = [f"{named(name)} “{brief(_plain(value), SPOKEN)}”" for name, value in given[:MOST_SPOKEN]]
    more = f" and {len(given) - MOST_SPOKEN} more" if len(given) > MOST_SPOKEN else ""
    with_what = f", with {', '.join(told)}{more}" if told else ""
    return f"May I use the tool “{named(call.name)}”{with_what}?"


def _of(call: ToolCall) -> dict[str, object]:
    try:
        given = parsed(call.arguments)
    except ValueError:
        return {}
    return given if isinstance(given, dict) else {}


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
