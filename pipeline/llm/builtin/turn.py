"""What a rule of the built-in replies knows about the current turn."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from pipeline.llm import Prompt
from pipeline.llm.builtin import facts
from pipeline.llm.builtin.knowledge import Knowledge, known


@dataclass(frozen=True)
class Turn:
    """One turn: what was said, and what is known about the user."""

    prompt: Prompt
    said: str
    """The user's words, tidied."""

    @property
    def now(self) -> datetime:
        return self.prompt.now

    @cached_property
    def told(self) -> list[facts.Statement]:
        return facts.statements(self.prompt)

    @cached_property
    def knowledge(self) -> Knowledge:
        return known(self.told)

    @property
    def known(self) -> list[facts.Fact]:
        return self.knowledge.facts

    @property
    def still_so(self) -> list[facts.Statement]:
        """The user's statements, without those of which something is no longer true."""
        return [statement for statement in self.told if statement not in self.knowledge.past]

    @property
    def name(self) -> str:
        return next((fact.value for fact in self.known if fact.relation is facts.OWN_NAME), "")

    @property
    def last_reply(self) -> str:
        return next((m.text for m in reversed(self.prompt.history[:-1]) if m.role == "assistant"), "")

    @property
    def own_name(self) -> str:
        """The name that the persona gives; the rest of the persona is for a model that can play a role."""
        named = re.search(r"\b[Yy]ou are ([A-Z][\w-]{1,30})\b", self.prompt.persona)
        return named[1] if named else "Parley"

    def choose(self, phrases: tuple[str, ...]) -> str:
        """Choose a phrase, if possible one not said yet; the same conversation always gets the same one."""
        said = {message.text for message in self.prompt.history if message.role == "assistant"}
        left = [phrase for phrase in phrases if phrase not in said] or phrases
        return left[len(self.prompt.history) // 2 % len(left)]
