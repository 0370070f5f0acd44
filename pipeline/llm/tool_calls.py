"""Tool calls put together from the pieces in which a chat server streams them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from pipeline.tools.calls import ToolCall


@dataclass(slots=True)
class _Begun:
    id: str
    name: str
    arguments: str = ""


class ToolCalls:
    """The first piece of a call has its id and name; it and those after it have its arguments, bit by bit."""

    def __init__(self) -> None:
        self._calls: list[_Begun] = []
        self._at: dict[int, _Begun] = {}
        """By the index that the pieces give."""

    def feed(self, pieces: list[Any]) -> None:
        """A delta's `tool_calls`. Raises ValueError, KeyError, TypeError or AttributeError on what is none."""
        for place, piece in enumerate(pieces):
            index, id, function = piece.get("index", place), piece.get("id"), piece["function"]
            call = self._at.get(index)
            if call is None or (id and id != call.id):  # some servers give every call the same index
                call = self._at[index] = _Begun(id or f"call_{len(self._calls)}", function["name"])
                self._calls.append(call)
            written = function.get("arguments") or ""
            call.arguments += written if isinstance(written, str) else json.dumps(written)

    def finish(self) -> list[ToolCall]:
        """All of them, in their order, once the stream has ended."""
        return [ToolCall(call.id, call.name, call.arguments or "{}") for call in self._calls]
