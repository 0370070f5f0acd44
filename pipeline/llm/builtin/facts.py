"""Reads what the user told about themselves from their own words, and finds it again when they ask.

Nothing is stored here: facts are read again each time from the conversation and from recalled memories. Memories are
data: they are matched against the patterns below and quoted, and can do nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from pipeline.llm import Prompt
from pipeline.llm.builtin.words import alike, as_name, content_words, tidy, without_lead_in
from rag.claims import Claim, attribute_named

_THING = r"(?P<thing>[^\W\d_][\w-]*?(?: [^\W\d_][\w-]*?){0,3}?)"
_OWNER = r"(?:my|our)"
_OF = r"(?:'s|(?<!s)s|')?"
"""A possessive, as recognisers and hasty typists write it."""
_LONGEST_VALUE = 80


@dataclass(frozen=True, slots=True)
class Relation:
    """A kind of fact: how users tell it, how they ask for it, and how it is answered."""

    told: tuple[str, ...]
    asked: tuple[str, ...]
    says: str
    noted: str
    """The answer when it has just been told."""
    name: bool = False
    """Whether the value is a name, to be written with a capital."""
    many: bool = False
    """Whether newer facts join the older ones instead of replacing them."""
    attribute: str = ""
    """The name in `rag.claims`, which then recognises how users tell it."""
    holds: bool = True
    """Whether it claims that something is so, or that it is not."""


@dataclass(frozen=True, slots=True)
class Fact:
    relation: Relation
    thing: str
    value: str

    @property
    def claim(self) -> Claim:
        """The fact as a claim of `rag.claims`, which knows which claims end which."""
        if self.relation is CALLED:
            return Claim(self.thing, "name", self.value)
        if self.relation is WHEN:
            return Claim(self.thing, "time", self.value)
        if self.relation is FAVOURITE:
            return Claim("", f"favourite {self.thing}", self.value)
        return Claim("", self.relation.attribute or self.thing, self.value, self.relation.holds)

    def sentence(self) -> str:
        return self.relation.says.format(thing=self.thing, value=self.value)


@dataclass(frozen=True, slots=True)
class Statement:
    """Something the user said, in this conversation or another."""

    text: str
    at: datetime
    here: bool
    """Whether it was said in this conversation."""
    after: str = ""
    """What was said to them just before."""


OWN_NAME = Relation(
    told=(),
    attribute="name",
    asked=(
        r".*\b(?:what is|know|remember|tell me|say) my (?:first )?name$",
        r"(?:do you know |do you remember )?who (?:am i|i am)$",
        r"what (?:am i called|do you call me)",
    ),
    says="Your name is {value}.",
    noted="It is lovely to meet you, {value}. What would you like to talk about?",
    name=True,
)
CALLED = Relation(
    told=(
        rf"{_OWNER} {_THING}(?:'s| is| was| are| were) (?:now )?(?:called|named) (?P<value>.+)",
        rf"{_OWNER} {_THING}{_OF} names? (?:is|was|are) (?P<value>.+)",
        rf"the names? of {_OWNER} {_THING} (?:is|was|are) (?P<value>.+)",
        rf"(?:i|we) (?:have|had|got|have got) (?:an?|one|two|three) (?:\w+ )?{_THING} (?:called|named) (?P<value>.+)",
        rf"(?:i|we) (?:call|called|named) {_OWNER} {_THING} (?P<value>[\w'-]+)",
        r"(?:his|her|its|their) names? (?:is|are) (?:now )?(?P<value>.+)",
    ),
    asked=(
        rf".*\bmy {_THING}(?:'s| is| was| are)? (?:called|cold|call|named)$",
        rf".*\b(?:is|are|was) (?:my|our) {_THING} (?:called|cold|call|named|name|names)\b",
        rf".*\b(?:my|our) {_THING}{_OF} names?$",
        rf".*\bnames? of (?:my|our) {_THING}$",
        rf"what (?:do|did) (?:i|we) (?:call|name) (?:my|our) {_THING}$",
    ),
    says="Your {thing} is called {value}.",
    noted="{value}, what a good name. Tell me more about your {thing}.",
    name=True,
)
FAVOURITE = Relation(
    told=(rf"my favourite {_THING} (?:is|are) (?P<value>.+)",),
    asked=(rf".*\bmy favourite {_THING}$", rf"(?:what|which) {_THING} (?:do i like (?:best|most)|is my favourite)"),
    says="Your favourite {thing} is {value}.",
    noted="So your favourite {thing} is {value}. What do you like about it?",
)
HOME = Relation(
    told=(),
    attribute="home",
    asked=(
        r".*\bwhere (?:do )?(?:i|we) live",
        r".*\bwh(?:at|ich) (?:city|town|country|village|place|street) (?:do )?(?:i|we) live in",
        r"where is my home",
    ),
    says="You live in {value}.",
    noted="You live in {value}. What is it like there?",
    name=True,
)
ORIGIN = Relation(
    told=(r"i (?:am|come) (?:originally )?from (?P<value>.+)",),
    asked=(r".*\bwhere (?:am i|i am|do i come|i come) from",),
    says="You told me that you are from {value}.",
    noted="From {value}! What do you miss most about it?",
    name=True,
)
WORK = Relation(
    told=(),
    attribute="work",
    asked=(
        r".*\bwhere (?:do )?i work",
        r".*\bwhat (?:do )?i do for (?:a living|work)",
        r".*\bwhat is my (?:job|work|profession)",
    ),
    says="You work {value}.",
    noted="So you work {value}. What was the best part of it lately?",
)
OUT_OF_WORK = Relation(
    told=(),
    attribute="work",
    asked=(r"(?:am i|do i) (?:still )?(?:retired|unemployed|work\b.*)", *WORK.asked),
    says="You are {value}.",
    noted="So you are {value}. What do you do with your time?",
)
AGE = Relation(
    told=(),
    attribute="age",
    asked=(r".*\bhow old (?:am i|i am)", r"what is my age"),
    says="You are {value} years old.",
    noted="{value} years, and still curious. I like that.",
)
LIKES = Relation(
    told=(),
    attribute="likes",
    asked=(r".*\bwhat (?:else )?(?:do )?i (?:like|love|enjoy)", r"what are my (?:hobbies|interests)"),
    says="You like {value}.",
    noted="You like {value}. How did that begin?",
    many=True,
)
DISLIKES = Relation(
    told=(),
    attribute="likes",
    holds=False,
    asked=(r".*\bwhat (?:else )?(?:do i|i|do) (?:not i |not |hate|dislike)+(?:like)?",),
    says="You do not like {value}.",
    noted="No {value}, then. What would you rather have?",
    many=True,
)
NOTE = Relation(
    told=(
        r"(?:you )?(?:must |should )?(?:remember|do not forget|keep in mind|note)(?: that)? "
        r"(?!me\b|my name$|what\b|when\b|the last\b)(?P<value>\w+ .+)",
    ),
    asked=(
        r".*\bwhat (?:did )?i (?:ask|asked|tell|told|want|wanted) you to (?:remember|note|keep)",
        r"what should you (?:remember|not forget)",
    ),
    says="You asked me to remember: {value}.",
    noted="I will keep it in mind: {value}.",
    many=True,
)
ATTRIBUTE = Relation(
    told=(rf"my {_THING} (?:is|are) (?!not\b|called\b|named\b)(?P<value>.+)",),
    asked=(
        rf"(?:what|who|where|when|which|how \w+) (?:is|are|was) my {_THING}$",
        rf"(?:tell me|what about|do you (?:know|remember)(?: \w+)?) my {_THING}(?: is)?$",
    ),
    says="You told me that your {thing} is {value}.",
    noted="So your {thing} is {value}. Tell me more.",
)
WHEN = Relation(
    told=(),
    asked=(
        rf"(?:when|(?:what|which) (?:day|time)|at what time) (?:is|are) (?:my|our|the) {_THING}(?: appointment| now)?$",
    ),
    says="You told me that the {thing} is {value}.",
    noted="The {thing} is {value}. I will keep it in mind.",
    attribute="time",
)
MARRIAGE = Relation(
    told=(),
    asked=(r"(?:am i|are we) (?:still )?(?:married|single|divorced|engaged)", r"what is my marital status"),
    says="You told me that you are {value}.",
    noted="You are {value}. How do you feel about it?",
    attribute="marriage",
)
DIET = Relation(
    told=(),
    asked=(r"(?:am i|do i) (?:still )?(?:an? )?(?:vegan|vegetarian|eat meat)", r"what (?:is my diet|do i eat)"),
    says="You told me about your diet: {value}.",
    noted="Your diet is {value}, then.",
    attribute="diet",
)
CAR = Relation(
    told=(),
    asked=(r"(?:what|which) (?:kind of )?car do i (?:drive|have|own)", r"(?:what|which) is my car", r"what do i drive"),
    says="You drive a {value}.",
    noted="A {value}. Where did it take you last?",
    attribute="car",
)
RELATIONS = (
    OWN_NAME,
    CALLED,
    FAVOURITE,
    HOME,
    ORIGIN,
    WORK,
    OUT_OF_WORK,
    AGE,
    LIKES,
    DISLIKES,
    NOTE,
    WHEN,
    MARRIAGE,
    DIET,
    CAR,
    ATTRIBUTE,
)

_QUESTION = re.compile(
    r"(?:what|who|whom|whose|where|when|which|why|how|is|are|am|was|were|do|does|did|can|could|will|would|shall|"
    r"should|have|has|tell me|remind me)\b",
    re.IGNORECASE,
)
_NEXT_SENTENCE = re.compile(
    r"\b(?:and|but|because|so|then) (?=(?:i|my|we|our|he|she|it|they|his|her|its)\b)", re.IGNORECASE
)


def is_question(text: str) -> bool:
    return text.rstrip().endswith("?") or _QUESTION.match(without_lead_in(tidy(text))) is not None


def statements(prompt: Prompt) -> list[Statement]:
    """Return all known statements of the current speaker, oldest first, without the one being answered."""
    recalled = prompt.recalled.items if prompt.recalled else ()
    told = sorted((item for item in recalled if item.speaker == prompt.speaker), key=lambda item: item.at.timestamp())
    found = [Statement(item.text, item.at, here=False) for item in told]
    before = ""
    for message in prompt.history[:-1]:
        if message.role == "user" and message.speaker == prompt.speaker:
            found.append(Statement(message.text, prompt.now, here=True, after=before))
        before = message.text
    return found


def read(statement: Statement, thing: str = "") -> Iterator[Fact]:
    """Yield the facts in a statement; `thing` is what "its name" refers to: the last thing that was talked about."""
    if answered := _own_name_given(statement):
        yield answered
        return
    if is_question(statement.text):
        return
    for part in re.split(r"[.!?;]\s+|, (?=(?:i|my|we)\b)", statement.text):
        for sentence in _NEXT_SENTENCE.split(tidy(part)):
            sentence = without_lead_in(sentence.strip())
            if fact := _told(sentence, thing):
                thing = fact.thing
                yield fact


def asked_for(question: str) -> list[tuple[Relation, str]]:
    """Return the kinds of fact that a question (tidied) may ask for, each with its subject; likeliest first."""
    wanted = []
    for relation in RELATIONS:
        matches = (re.match(pattern, question, re.IGNORECASE) for pattern in relation.asked)
        if match := next(filter(None, matches), None):
            wanted.append((relation, (match.groupdict().get("thing") or "").lower()))
    return wanted


def look_up(wanted: Iterable[tuple[Relation, str]], facts: Iterable[Fact]) -> str | None:
    """Return the sentence for the first wanted fact that is known."""
    facts = list(facts)
    for relation, thing in wanted:
        found = [fact for fact in facts if fact.relation is relation and _same(fact.thing, thing)]
        if found and relation.many:
            return relation.says.format(thing=thing, value=_listed([fact.value for fact in found]))
        if found:
            return found[-1].sentence()
    return None


def recollection(question: str, told: Iterable[Statement], least: float = 0.0) -> Statement | None:
    """Return the statement that shares most words with a question for which there is no pattern; the newest wins ties.

    `least` is the share of the question's words that it must have; unless it is 0, it must also have two of them.
    """
    wanted = content_words(question)
    best: tuple[int, Statement] | None = None
    for statement in told:
        shared = sum(any(alike(word, other) for other in content_words(statement.text)) for word in wanted)
        if shared and not is_question(statement.text) and (best is None or shared >= best[0]):
            best = (shared, statement)
    if best is None or (least and best[0] < max(2, least * len(wanted))):
        return None
    return best[1]


def _told(sentence: str, thing: str) -> Fact | None:
    for relation in RELATIONS:
        for pattern in relation.told:
            if not (match := re.fullmatch(pattern, sentence, re.IGNORECASE)):
                continue
            value = match["value"].strip(" '-")[:_LONGEST_VALUE]
            about = match.groupdict().get("thing") or (thing if relation is CALLED else "")
            if value and (about or relation is not CALLED):
                return Fact(relation, about.lower(), as_name(value) if relation.name else value)
    return None


def _own_name_given(statement: Statement) -> Fact | None:
    """Read a bare name, such as "Anna", as the user's if it answers "What shall I call you?"."""
    words = re.sub(r"^(?:it is|i am|this is) ", "", without_lead_in(tidy(statement.text)), flags=re.IGNORECASE).split()
    if "call you?" not in statement.after or not 0 < len(words) <= 2 or is_question(statement.text):
        return None
    return Fact(OWN_NAME, "", as_name(" ".join(words)))


def _same(thing: str, other: str) -> bool:
    """Whether they are alike, or `thing` only has a name or a word more: "sister clara"."""
    thing, other = attribute_named(thing), attribute_named(other)
    return alike(thing, other) or bool(other and f" {thing} ".startswith(f" {other} "))


def _listed(values: list[str]) -> str:
    return values[0] if len(values) == 1 else ", ".join(values[:-1]) + " and " + values[-1]
