"""What was said in this conversation, as the LLM, the memory and the page may know it: only what was heard."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from pipeline.llm import Message


@dataclass(frozen=True, slots=True)
class Entry:
    id: str
    role: Literal["user", "assistant", "system"]
    text: str
    turn: int
    interrupted: bool = False


@dataclass(frozen=True, slots=True)
class Past:
    """What a conversation that goes on again begins with."""

    entries: tuple[Entry, ...] = ()
    turns: int = 0
    """Begun so far: the next one's number follows, so that none has the number of another."""


FIRST = Past()
"""Of a conversation that begins."""


class History:
    def __init__(self, past: Past = FIRST) -> None:
        self._entries = [replace(entry, id=_id(made)) for made, entry in enumerate(past.entries, 1)]
        self._made = len(self._entries)

    @property
    def entries(self) -> tuple[Entry, ...]:
        return tuple(self._entries)

    @property
    def messages(self) -> tuple[Message, ...]:
        return tuple(Message(entry.role, entry.text, entry.interrupted) for entry in self._entries)

    def without(self, turn: int) -> tuple[Message, ...]:
        """What was said in all other turns."""
        return tuple(Message(each.role, each.text, each.interrupted) for each in self._entries if each.turn != turn)

    def add(
        self,
        role: Literal["user", "assistant", "system"],
        text: str,
        turn: int,
        *,
        interrupted: bool = False,
        id: str | None = None,
    ) -> Entry:
        self._made += 1
        entry = Entry(id or _id(self._made), role, text, turn, interrupted)
        self._entries.append(entry)
        return entry

    def put_back(self, role: Literal["user", "assistant"], text: str, turn: int) -> Entry:
        """What an earlier turn had said, in its place again, whatever was said since."""
        later = next((place for place, entry in enumerate(self._entries) if entry.turn > turn), len(self._entries))
        entry = self.add(role, text, turn)
        self._entries.insert(later, self._entries.pop())
        return entry

    def find(self, id: str) -> Entry | None:
        return next((entry for entry in self._entries if entry.id == id), None)

    def delete(self, id: str) -> bool:
        before = len(self._entries)
        self._entries = [entry for entry in self._entries if entry.id != id]
        return len(self._entries) < before

    def truncate(self, id: str, text: str) -> bool:
        """A reply of which less was heard than had been assumed."""
        for place, entry in enumerate(self._entries):
            if entry.id == id:
                self._entries[place] = replace(entry, text=text, interrupted=True)
                return True
        return False


def _id(made: int) -> str:
    return f"item_{made:06d}"
