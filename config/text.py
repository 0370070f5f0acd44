"""Sanitize text from outside: lone surrogates, which JSON can express but no file or message can hold, are replaced on
input, and terminal control characters on output.
"""

from __future__ import annotations

import json
import re
from typing import Any


def whole_characters(text: str) -> str:
    """Return the text with surrogate pairs joined into one character and lone ones replaced by U+FFFD."""
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def printable(text: str) -> str:
    """Return text that is safe to print: nothing in it controls the terminal (colours, titles, an erased line)."""
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", "\N{REPLACEMENT CHARACTER}", text)


def parsed(text: str | bytes) -> Any:
    """Parse a JSON text, with lone surrogates replaced.

    Raises ValueError if it is not JSON, or nested too deeply.
    """
    try:
        return _whole(json.loads(text, parse_constant=_no_number))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _no_number(name: str) -> Any:
    """Refuse NaN and Infinity, which Python's parser accepts but JSON does not have."""
    raise ValueError(f"{name} is not JSON")


def _whole(tree: Any) -> Any:
    match tree:
        case str():
            return whole_characters(tree)
        case list():
            return [_whole(each) for each in tree]
        case dict():
            return {whole_characters(name): _whole(value) for name, value in tree.items()}
    return tree
