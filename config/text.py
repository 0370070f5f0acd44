"""Text from elsewhere: half characters, which JSON can spell and no file or message can hold, are made whole as it
comes in; what would command a terminal is taken out as it is shown.
"""

from __future__ import annotations

import json
import re
from typing import Any


def whole_characters(text: str) -> str:
    """Text without half characters: a pair of surrogates becomes its character, a lone one the replacement sign."""
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def printable(text: str) -> str:
    """Text for a terminal: nothing in it commands that (colours, titles, an erased line), whoever wrote it."""
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", "\N{REPLACEMENT CHARACTER}", text)


def parsed(text: str | bytes) -> Any:
    """What a JSON text says, in whole characters.

    Raises ValueError where it is not JSON, or nested too deeply.
    """
    try:
        return _whole(json.loads(text, parse_constant=_no_number))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _no_number(name: str) -> Any:
    """NaN and Infinity, which Python's parser takes and JSON does not have."""
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
