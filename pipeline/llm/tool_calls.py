"""Assembles tool calls from the pieces in which a chat server streams them."""

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
    """The first piece of a call has its id and name; all its pieces have parts of the arguments."""

    def __init__(self) -> None:
        self._calls: list[_Begun] = []
        self._at: dict[int, _Begun] = {}
        """The newest call by the index given in the pieces."""

    def feed(self, pieces: list[Any]) -> None:
        """Take a delta's `tool_calls`. Raises ValueError, KeyError, TypeError or AttributeError if malformed."""
        for place, piece in enumerate(pieces):
            index, id, function = piece.get("index", place), piece.get("id"), piece["function"]
            call = self._at.get(index)
            if call is None or (id and id != call.id):  # some servers give every call the same index
                call = self._at[index] = _Begun(id or f"call_{len(self._calls)}", function["name"])
                self._calls.append(call)
            written = function.get("arguments") or ""
            call.arguments += written if isinstance(written, str) else json.dumps(written)

    def finish(self) -> list[ToolCall]:
        """Return all calls in order, once the stream has ended."""
        return [ToolCall(call.id, call.name, call.arguments or "{}") for call in self._calls]
