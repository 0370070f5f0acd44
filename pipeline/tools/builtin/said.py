"""Search in earlier conversations."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from pipeline.tools.builtin import Builtin, builtin

Search = Callable[[str, str], Awaitable[str]]
"""Returns what fits a question, excluding one conversation by name; empty if nothing does."""


def said_tools(search: Search, works: Callable[[], bool]) -> Sequence[Builtin]:
    """Return the tool. `works`: whether there is a memory."""

    async def run(given: Mapping[str, Any], conversation: str) -> str:
        found = await search(str(given["query"])[:500], conversation)
        return found or "Nothing about that was said in earlier conversations."

    what = "What to look for, as a question or in a few words."
    return (
        builtin(
            "search_conversations",
            "Search what the user and you said in earlier conversations.",
            "Looks up what you and Parley said in earlier conversations.",
            run,
            works=works,
            query=what,
        ),
    )
