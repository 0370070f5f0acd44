"""What is known about the user: the facts in everything they said, without those that newer ones have ended."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta

from pipeline.llm.builtin.facts import (
    ATTRIBUTE,
    CALLED,
    FAVOURITE,
    OUT_OF_WORK,
    RELATIONS,
    WHEN,
    WORK,
    Fact,
    Relation,
    Statement,
    read,
)
from pipeline.llm.builtin.words import alike, as_name
from rag.claims import EXISTS, PLAIN, Claim, attribute_named, resolved, standing
from rag.grammar import claims

_SOON = timedelta(minutes=10)
"""A correction ("Actually it's Turku") follows what it corrects within this time."""


@dataclass
class Knowledge:
    """What is known about the user after the statements heard so far."""

    facts: list[Fact] = field(default_factory=list)
    """Oldest first."""
    past: list[Statement] = field(default_factory=list)
    """Statements of which something is no longer true."""
    _held: list[tuple[Statement, Claim]] = field(default_factory=list)
    _thing: str = ""

    def hear(self, statement: Statement) -> list[Fact]:
        """Take a statement; return the facts that it adds, which replace older ones."""
        recent = [claim for source, claim in self._held if source.at - statement.at > -_SOON][-8:]
        said = [
            claim
            for one in claims(statement.text)
            if (claim := resolved(one, [claim for _, claim in self._held], recent)) is not None
        ]
        for claim in said:
            over = [(source, old) for source, old in self._held if claim.ends(old)]
            self.past += [source for source, _ in over if source not in self.past]
            self._held = [entry for entry in self._held if entry not in over]
            self.facts = [fact for fact in self.facts if not claim.ends(fact.claim)]
        self._held += [(statement, claim) for claim in standing(said)]
        added = [*_claimed(standing(said)), *read(statement, self._thing)]
        claimed = {claim.attribute for claim in said}
        added = [fact for fact in added if fact.relation is not ATTRIBUTE or fact.thing in claimed or
                 attribute_named(fact.thing) not in claimed]  # fmt: skip
        for fact in added:
            self._thing = fact.thing or self._thing
            self.facts = [old for old in self.facts if not _replaces(fact, old)] + [fact]
        return [fact for fact in added if fact in self.facts]

    def denial(self, relation: Relation, thing: str) -> Statement | None:
        """Return the newest statement saying that there is no such thing, or that it is no longer true."""
        for statement, claim in reversed(self._held):
            if claim.attribute == EXISTS and thing and alike(claim.subject.split(" ")[0], thing):
                return None if claim.holds else statement
            if relation.attribute and claim.attribute == relation.attribute and not (claim.subject or claim.holds):
                return statement
        return None


def _claimed(said: Iterable[Claim]) -> Iterator[Fact]:
    """Yield the claims that fit one of the relations, as facts."""
    for claim in said:
        relation = next((r for r in RELATIONS if r.attribute == claim.attribute and r.holds == claim.holds), None)
        if relation is WORK and not re.match(r"(?:as|at|for|in|with) ", claim.value):
            relation = OUT_OF_WORK
        if relation is WHEN:
            yield Fact(relation, claim.subject.removesuffix(" appointment"), claim.value)
        elif relation is not None and not claim.subject:
            yield Fact(relation, "", as_name(claim.value) if relation.name else claim.value)
        elif claim.attribute == "name" and claim.subject and claim.holds:
            yield Fact(CALLED, claim.subject, as_name(claim.value))
        elif claim.attribute.startswith("favourite ") and not claim.subject and claim.holds:
            yield Fact(FAVOURITE, claim.attribute.removeprefix("favourite "), claim.value)
        elif claim.attribute in PLAIN and not claim.subject and claim.holds:
            yield Fact(ATTRIBUTE, claim.attribute, claim.value)


def known(told: Iterable[Statement]) -> Knowledge:
    """Return every fact that was told; newer ones have replaced older ones about the same thing."""
    knowledge = Knowledge()
    for statement in told:
        knowledge.hear(statement)
    return knowledge


def _replaces(new: Fact, old: Fact) -> bool:
    if new.relation is not old.relation or not alike(new.thing, old.thing):
        return False
    return not new.relation.many or new.value.lower() == old.value.lower()
