"""What somebody claimed, of whom, and which earlier claims it ends: "I no longer live in Oslo" takes back a home."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from rag.lexical import EMPTY, words

EXISTS = "exists"
"""The attribute of what somebody has or once had: a dog, a job, a grandmother. If it doesn't hold, anything with that
name or value is over: "Rufus died", "I gave up Spanish"."""
MANY = frozenset({"likes", "habit", "learning", EXISTS})
"""Attributes that hold several values at once."""
IT = "it"
"""The subject of a correction ("Actually it's Turku"): whatever the speaker claimed last."""
SOON = 4
"""How many turns after a claim a correction ("Actually it's Turku") may still refer to it."""
_REFINED = frozenset({"home", "work", "name"})
_APART = frozenset({"divorced", "separated", "broke up", "broken up", "split up", "single"})
_SPOUSES = frozenset({"wife", "husband", "partner", "girlfriend", "boyfriend", "fiancé", "fiancée", "spouse"})


@dataclass(frozen=True, slots=True)
class Claim:
    """One attribute of one subject as it is now or, if `holds` is False, as it is not or no longer is."""

    subject: str
    """In lower case; empty means the speaker. The owner comes first: "neighbour's dog"."""
    attribute: str
    value: str
    """As it was said; may be empty if the claim doesn't hold."""
    holds: bool = True
    changed: bool = False
    """Whether it was said to be new: "now", "moved", "instead"."""
    replaces: str = ""
    """In a correction or a change, the value that this one replaces, of whatever attribute."""

    @property
    def label(self) -> str:
        """What the claim is about, for people: "home", "sister's home", "no dog", "olives"."""
        if self.attribute == EXISTS:
            about = self.subject
        else:
            about = " ".join(words(self.value)) if self.attribute in MANY else self.attribute
            about = f"{self.subject}'s {about}" if self.subject else about
        return about if self.holds else f"no {about}"

    def ends(self, older: Claim) -> bool:
        """Whether this claim ends `older`, an earlier claim by the same speaker."""
        if self.attribute == EXISTS and not self.holds:
            return older.holds and self._speaks_of(older)
        if older.attribute == EXISTS and not older.holds:
            return self.holds and older._speaks_of(self)
        if self.attribute == "marriage" and self.value in _APART and set(older.subject.split()) & _SPOUSES:
            return True
        if not same_subject(self.subject, older.subject) or self.attribute != older.attribute:
            return False
        new, old = told(self.value), told(older.value)
        if self.holds == older.holds:
            if not self.holds or self.attribute in MANY or new == old:
                return bool(self.replaces) and told(self.replaces) == old != new
            if self.attribute in _REFINED and (new <= old or old <= new):
                return False  # "Oslo" and "Oslo, near the harbour"
            return self.attribute != "work" or self.changed or _role(self.value) == _role(older.value)
        if not new or not old:
            return True
        return new <= old or old <= new if self.attribute in MANY else bool(new & old)

    def _speaks_of(self, other: Claim) -> bool:
        """Whether this claim's subject ("dog rufus", "spanish") is what the other claim is about."""
        mine, theirs = set(self.subject.split()), told(other.value)
        if other.attribute == "name" and other.subject:
            named = set(words(other.value))
            return mine == named or (same_subject(self.subject, other.subject) and not _another(mine, named, other))
        if other.subject or other.attribute == EXISTS:
            return same_subject(self.subject, other.subject)
        gone = told(self.subject)
        return self.subject == other.attribute or (bool(gone and theirs) and (gone <= theirs or theirs <= gone))


def _another(mine: set[str], named: set[str], other: Claim) -> bool:
    """Whether the words name another subject: "dog rufus" isn't the dog whose name is Bella."""
    further = mine - set(other.subject.split())
    return bool(further) and not further & named


def standing(found: Sequence[Claim]) -> list[Claim]:
    """Return the claims that no later claim of the same turn ends."""
    return [claim for index, claim in enumerate(found) if not any(later.ends(claim) for later in found[index + 1 :])]


def resolved(claim: Claim, before: Sequence[Claim], recent: Sequence[Claim]) -> Claim | None:
    """Complete a claim from earlier ones: what "it" is, or that Rufus is a dog. Return None if nothing fits.

    Args:
        before: the speaker's claims that still hold, oldest first.
        recent: those of them that were made just before.
    """
    if claim.attribute == EXISTS and not claim.holds:
        named = set(claim.subject.split())
        for older in reversed(before):
            if older.attribute == "name" and older.subject and set(words(older.value)) == named:
                return replace(claim, subject=f"{older.subject} {claim.subject}")
        return claim
    if claim.subject != IT:
        return replace(claim, subject=_whole(claim.subject, before))
    if claim.replaces:
        replaced = told(claim.replaces)
        for older in reversed(before):
            if older.holds and told(older.value) == replaced:
                return replace(claim, subject=older.subject, attribute=older.attribute, value=_alike(claim, older))
    for older in reversed(recent):
        if older.attribute == EXISTS or (not older.holds and claim.holds and not older.value):
            continue
        if claim.attribute:
            if older.attribute == claim.attribute:
                return replace(claim, subject=older.subject)
        elif _fits(claim.value, older):
            return replace(claim, subject=older.subject, attribute=older.attribute, value=_alike(claim, older))
    return None


def _whole(subject: str, before: Sequence[Claim]) -> str:
    """Return the full subject: "sister clara" for "clara" or "sister", if that was the last one spoken of."""
    held = set(subject.split())
    if not held or any(word.endswith("'s") for word in held):
        return subject
    for older in reversed(before):
        if held < set(older.subject.split()) and same_subject(subject, older.subject):
            return older.subject
    return subject


def told(value: str) -> frozenset[str]:
    """Return the stems of the words that carry meaning."""
    telling = (word for word in words(value) if word not in EMPTY or word.isdigit())
    return frozenset(_stem(word) for word in telling)


def _stem(word: str) -> str:
    if len(word) <= 4:
        return word.removesuffix("s") if len(word) == 4 else word
    stem = re.sub(r"(?:ing|ed|e?s|e)$", "", word)
    return stem[:-1] if word.endswith(("ing", "ed")) and stem[-2:-1] == stem[-1:] and stem[-1:] not in "ls" else stem


def same_subject(one: str, other: str) -> bool:
    """Whether two subjects may be one: "clara", "sister" and "sister clara", but not "sister's dog" and "dog"."""
    first, second = set(one.split()), set(other.split())
    if {word for word in first if word.endswith("'s")} != {word for word in second if word.endswith("'s")}:
        return False
    return first == second or bool(first and second and (first <= second or second <= first))


def _role(value: str) -> str:
    """Return whether a value of work says "at" (where somebody works) or "as" (their job)."""
    role = value.lower().split(" ", 1)[0] if value else ""
    return "at" if role in {"for", "with", "in"} else role


# Which values fit which attribute in a correction

_CHATTER = re.compile(
    r"(?:.*\b(?:fine|nice|okay|ok|good|great|true|right|cold|hot|warm|sure|funny|easy|hard|late|early|cool|bad|\w+ing)"
    r"|(?:an?|i|you|we|he|she|they|thanks?|yes|no|not|so|very|too|just|that)\b.*)",
    re.IGNORECASE,
)
TIME_OF_DAY = (
    r"(?:(?:on|at|in|next|this) )*(?:\w+day|tomorrow|today|tonight|noon|midnight|january|february|march|april|may|june|"
    r"july|august|september|october|november|december|\d[\d:.]*|one|two|three|four|five|six|seven|eight|nine|ten|"
    r"eleven|twelve|half past \w+)\b.*"
)


def _short(value: str) -> bool:
    return len(value.split()) <= 3 and not _CHATTER.fullmatch(value)


_FITTING: Mapping[str, Callable[[str], bool]] = {
    "name": _short,
    "home": lambda value: _short(re.sub(r"^(?:in|to) ", "", value)),
    "car": lambda value: _short(re.sub(r"^an? ", "", value)),
    "favourite": _short,
    "learning": _short,
    "time": lambda value: bool(re.fullmatch(TIME_OF_DAY, value, re.IGNORECASE)),
    "age": lambda value: bool(re.fullmatch(r"\d+|\w+ty(?:[ -]\w+)?|\w+teen", value)),
    "phone": lambda value: any(letter.isdigit() for letter in value),
    "birthday": lambda value: any(letter.isdigit() for letter in value) or len(value.split()) > 1,
    "work": lambda value: bool(re.match(r"(?:as|at|for|in|with|an?) ", value)) and not _CHATTER.fullmatch(value[3:]),
}


def _fits(value: str, older: Claim) -> bool:
    fits = _FITTING.get(older.attribute.split(" ")[0])
    return fits is not None and fits(value)


def _alike(claim: Claim, older: Claim) -> str:
    """Return the value phrased like the older one: "as a nurse" for "a nurse", "Turku" for "in Turku"."""
    value = re.sub(r"^(?:in|to) ", "", claim.value) if older.attribute == "home" else claim.value
    if older.attribute == "car":
        return re.sub(r"^an? ", "", value)
    if older.attribute != "work" or re.match(r"(?:as|at|for|in|with) ", value):
        return value
    return f"{older.value.split(' ', 1)[0]} {value}"


_ALIASES = {"phone": "phone number", "mobile": "phone number", "mobile number": "phone number",
            "number": "phone number", "job": "work", "manager": "boss", "first name": "name", "full name": "name",
            "real name": "name"}  # fmt: skip
PLAIN = frozenset({"phone number", "address", "email", "e-mail", "birthday", "password", "code", "pin", "boss",
                   "doctor", "teacher", "size", "height", "weight"})  # fmt: skip
"""Attributes of the speaker that are stated as "my … is"."""


def attribute_named(thing: str) -> str:
    """Return one name for each attribute: "mobile number" and "number" are both "phone number"."""
    return _ALIASES.get(thing, thing)
