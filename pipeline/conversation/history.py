"""What was said in this conversation. The LLM, the memory and the page see only what was heard."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Literal

from pipeline.llm import USER, Message
from pipeline.tools.calls import ToolCall

Role = Literal["user", "assistant", "system", "tool"]


@dataclass(frozen=True, slots=True)
class Entry:
    id: str
    role: Role
    text: str
    turn: int
    interrupted: bool = False
    calls: tuple[ToolCall, ...] = ()
    """The tool calls the assistant made after what it said."""
    call_id: str = ""
    """The id of the call that a tool's entry answers."""
    speaker: str = USER
    """Who said a user's message, by their name in the memory."""

    @property
    def message(self) -> Message:
        return Message(self.role, self.text, self.interrupted, self.calls, self.call_id, self.speaker)


@dataclass(frozen=True, slots=True)
class Past:
    """What a resumed conversation begins with."""

    entries: tuple[Entry, ...] = ()
    turns: int = 0
    """Turns begun so far. The next turn gets the next number, so no two turns share one."""


FIRST = Past()
"""The past of a new conversation."""


class History:
    def __init__(self, past: Past = FIRST) -> None:
        self._entries = [replace(entry, id=_id(made)) for made, entry in enumerate(past.entries, 1)]
        self._made = len(self._entries)

    @property
    def entries(self) -> tuple[Entry, ...]:
        return tuple(self._entries)

    @property
    def messages(self) -> tuple[Message, ...]:
        return tuple(entry.message for entry in self._entries)

    def without(self, turn: int) -> tuple[Message, ...]:
        """Return what was said in all other turns."""
        return tuple(each.message for each in self._entries if each.turn != turn)

    def add(
        self,
        role: Role,
        text: str,
        turn: int,
        *,
        interrupted: bool = False,
        id: str | None = None,
        calls: tuple[ToolCall, ...] = (),
        call_id: str = "",
        speaker: str = USER,
        place: int | None = None,
    ) -> Entry:
        """Add an entry at the end, or before the entry that is now at `place`."""
        self._made += 1
        entry = Entry(id or _id(self._made), role, text, turn, interrupted, calls, call_id, speaker)
        self._entries.insert(len(self._entries) if place is None else place, entry)
        return entry

    def attribute(self, turn: int, speaker: str) -> None:
        """Record who said a turn, once that is known."""
        self._entries = [
            replace(entry, speaker=speaker) if entry.turn == turn and entry.role == "user" else entry
            for entry in self._entries
        ]

    def answered(self, call_id: str, text: str) -> bool:
        """Add the result of a call; return False if the call is no longer in the history."""
        call = next((entry for entry in self._entries if call_id in _calls(entry)), None)
        if call is not None:
            self.add("tool", text, call.turn, call_id=call_id)
        return call is not None

    def as_news(self, call_ids: Collection[str]) -> None:
        """Move these calls and their results to the end, after whatever was said since."""
        calls = [entry for entry in self._entries if _calls(entry) & {*call_ids}]
        ids = {id for entry in calls for id in _calls(entry)}
        moved = [entry for entry in self._entries if entry in calls or entry.call_id in ids]
        self._entries = [entry for entry in self._entries if entry not in moved] + moved

    def place(self, id: str) -> int | None:
        """Return the index of an entry; None if there is none with this id."""
        return next((place for place, entry in enumerate(self._entries) if entry.id == id), None)

    def put_back(self, role: Literal["user", "assistant"], text: str, turn: int, *, speaker: str = USER) -> Entry:
        """Put the words of an earlier turn back in their place, before those of any later turn."""
        later = next((place for place, entry in enumerate(self._entries) if entry.turn > turn), len(self._entries))
        return self.add(role, text, turn, speaker=speaker, place=later)

    def find(self, id: str) -> Entry | None:
        return next((entry for entry in self._entries if entry.id == id), None)

    def delete(self, id: str) -> bool:
        before = len(self._entries)
        self._entries = [entry for entry in self._entries if entry.id != id]
        return len(self._entries) < before

    def truncate(self, id: str, text: str) -> bool:
        """Shorten a reply of which less was heard than assumed; return whether there is one with this id."""
        for place, entry in enumerate(self._entries):
            if entry.id == id:
                self._entries[place] = replace(entry, text=text, interrupted=True)
                return True
        return False


def _calls(entry: Entry) -> set[str]:
    return {call.id for call in entry.calls}


def _id(made: int) -> str:
    return f"item_{made:06d}"
