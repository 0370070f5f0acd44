"""The marks of chat templates, which must not occur in text that comes from elsewhere."""

from __future__ import annotations

import re
from typing import Any

_MARKS = re.compile(
    r"<(?=\||/?s>|[be]os>|(?:start|end)_of_turn>|｜|/?(?:tools?|tool_calls?|tool_response|function_calls?|think)>)"
    r"|\[(?=/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|TOOL_CONTENT)\])"
)


def unmarked(text: str) -> str:
    """Return the text without anything like `<|im_end|>`, `</s>`, `[INST]`, `<end_of_turn>` or `</tool_response>`."""
    return _MARKS.sub(lambda mark: f"{mark[0]} ", text)


def unmarked_tree(tree: Any) -> Any:
    """Do the same for every text in a JSON tree, including keys."""
    match tree:
        case str():
            return unmarked(tree)
        case dict():
            return {unmarked(str(key)): unmarked_tree(value) for key, value in tree.items()}
        case list() | tuple():
            return [unmarked_tree(each) for each in tree]
    return tree
