"""Answers that must be computed. Each function takes the turn and the match of a rule's pattern; if it returns None, it
has no answer, and the next rule is tried.
"""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta

from pipeline.llm.builtin import facts
from pipeline.llm.builtin.arithmetic import NotCalculable, calculate
from pipeline.llm.builtin.knowledge import known
from pipeline.llm.builtin.turn import Turn
from pipeline.llm.builtin.words import alike, content_words, some_time_ago
from pipeline.tools.builtin.places import time_in

# The conversation itself


def again(turn: Turn, match: re.Match[str]) -> str:
    return f"I said: {turn.last_reply}" if turn.last_reply else "I have not said anything yet."


def your_words(turn: Turn, match: re.Match[str]) -> str:
    before = [m.text for m in turn.prompt.history[:-1] if m.role == "user"]
    return f"You said: {before[-1]}" if before else "That was the first thing I heard from you."


def greeting(turn: Turn, match: re.Match[str]) -> str:
    hour = turn.now.hour
    part = "morning" if 5 <= hour < 12 else "afternoon" if 12 <= hour < 18 else "evening" if 18 <= hour < 23 else ""
    greeting = f"Good {part}" if part else "Hello there, night owl"
    if turn.name:
        return f"{greeting}, {turn.name}. " + turn.choose(("How are you?", "What is new?", "It is good to hear you."))
    if any(message.role == "assistant" for message in turn.prompt.history):
        return f"{greeting}. What is on your mind?"
    return f"{greeting}. I am {turn.own_name}. What shall I call you?"


def goodbye(turn: Turn, match: re.Match[str]) -> str:
    wish = "Sleep well" if "night" in turn.said.lower() else turn.choose(("Goodbye", "Take care", "Until next time"))
    return f"{wish}, {turn.name}." if turn.name else f"{wish}."


# Time and numbers


def clock(turn: Turn, match: re.Match[str]) -> str:
    return f"It is {_spoken(turn.now)}"


def clock_in(turn: Turn, match: re.Match[str]) -> str | None:
    place = re.sub(rf"{NOW_AND_PLEASE}$", "", match["place"], flags=re.IGNORECASE)
    if place.lower() in _HERE:
        return clock(turn, match)
    there = time_in(place, turn.now)
    named = re.sub(r"(?<![\w'])[a-z]", lambda letter: letter[0].upper(), place)
    return f"In {named} it is {_spoken(there)}" if there else f"I do not know what time it is in {named}."


NOW_AND_PLEASE = r"(?: please| now| right now| at the moment| today| again| parley)*"
_HERE = frozenset({"here", "my town", "my city", "this place", "this room"})


def _spoken(at: datetime) -> str:
    return f"{(at.hour - 1) % 12 + 1}:{at.minute:02} {'a.m.' if at.hour < 12 else 'p.m.'}"


_DAYS = {"yesterday": -1, "today": 0, "tomorrow": 1, "the day after tomorrow": 2, "the day before yesterday": -2}


def which_day(turn: Turn, match: re.Match[str]) -> str:
    named = next((day for day in sorted(_DAYS, key=len, reverse=True) if day in turn.said.lower()), "today")
    day = turn.now.date() + timedelta(days=_DAYS[named])
    verb = "is" if _DAYS[named] == 0 else "was" if _DAYS[named] < 0 else "will be"
    return f"{named.capitalize()} {verb} {day:%A}, {day:%B} {day.day}, {day.year}."


_FEASTS = {"christmas": (12, 25), "christmas eve": (12, 24), "new year": (1, 1), "halloween": (10, 31)}


def days_until(turn: Turn, match: re.Match[str]) -> str | None:
    wanted = re.sub(r"^the |'s( day)?$| day$", "", match["day"].lower())
    if wanted not in _FEASTS:
        return None
    today = turn.now.date()
    month, day = _FEASTS[wanted]
    feast = date(today.year, month, day)
    if feast < today:
        feast = date(today.year + 1, month, day)
    days = (feast - today).days
    return "That is today!" if days == 0 else f"It is {days} {'day' if days == 1 else 'days'} until then."


def arithmetic(turn: Turn, match: re.Match[str]) -> str | None:
    try:
        result = calculate(turn.said)
    except NotCalculable as error:
        return str(error)
    return f"That is {result}." if result else None


# What the user told


def asked_fact(turn: Turn, match: re.Match[str]) -> str | None:
    """Answer from the facts read from the user's words, otherwise quote their words about the same thing."""
    wanted = facts.asked_for(turn.said)
    if answer := facts.look_up(wanted, turn.known):
        return answer
    if wanted and (denial := turn.knowledge.denial(*wanted[0])):
        single = wanted[0][0].attribute and not wanted[0][0].many
        return "You told me that this has changed, but not what it is now." if single else _quoted(turn, denial)
    thing = next((thing for _, thing in wanted if thing), "")
    if found := thing and facts.recollection(thing, turn.still_so):
        return _quoted(turn, found)
    return None


def untold_fact(turn: Turn, match: re.Match[str]) -> str | None:
    if not (wanted := facts.asked_for(turn.said)):
        return None
    thing = wanted[0][1]
    return f"You have not told me about your {thing} yet." if thing else "You have not told me that yet."


def told_fact(turn: Turn, match: re.Match[str]) -> str | None:
    last = turn.prompt.history[-2].text if len(turn.prompt.history) > 1 else ""
    said = turn.prompt.history[-1].text
    knowledge = known(turn.told)
    new = knowledge.hear(facts.Statement(said, turn.now, here=True, after=last))
    if not new:
        taken_back = len(knowledge.past) > len(turn.knowledge.past)
        return "I will go by that from now on. How is it now?" if taken_back else None
    first = new[0]
    reply = first.relation.noted.format(thing=first.thing, value=first.value)
    return reply[0].upper() + reply[1:]


def who_is(turn: Turn, match: re.Match[str]) -> str | None:
    """Return the newest thing told about somebody of that name."""
    named = (fact for fact in reversed(turn.known) if fact.thing and alike(fact.value, match["name"]))
    return next((fact.sentence() for fact in named), None)


def all_facts(turn: Turn, match: re.Match[str]) -> str:
    sentences = [fact.sentence() for fact in turn.known[-5:]]
    return " ".join(sentences) if sentences else "You have not told me much about yourself yet. Where shall we begin?"


def note(turn: Turn, match: re.Match[str]) -> str | None:
    """Answer from a note: "remember that the key is under the mat" answers "Where is the key?"."""
    wanted = content_words(turn.said)
    notes = (fact for fact in reversed(turn.known) if fact.relation is facts.NOTE)
    return next((note.sentence() for note in notes if wanted & content_words(note.value)), None)


def recollection(turn: Turn, match: re.Match[str]) -> str | None:
    """Quote the user's own words. If the question is about themselves, one shared word is enough; otherwise most."""
    if facts.asked_for(turn.said):
        return None
    least = 0.0 if _OWN.search(turn.said) else 0.6
    found = facts.recollection(turn.said, turn.still_so, least)
    return _quoted(turn, found) if found else None


_OWN = re.compile(r"\b(?:i|my|me|we|our|us)\b", re.IGNORECASE)


def _quoted(turn: Turn, found: facts.Statement) -> str:
    when = "Earlier" if found.here else some_time_ago(found.at.date(), turn.now)
    return f"{when} you told me: “{found.text.strip()[:200]}”"


# What it cannot know, and what it can at least say


def weather(turn: Turn, match: re.Match[str]) -> str:
    place = re.search(
        r"\b(?:in|at|for|over|near) (?!(?:the (?:morning|afternoon|evening)|general)\b)([^\W\d_].*)", turn.said
    )
    where = re.sub(
        r"(?i)\b(?:today|tomorrow|tonight|now|like|right|this \w+|please)\b.*", "", place[1] if place else ""
    )
    named = re.sub(r"(?<![\w'])[a-z]", lambda letter: letter[0].upper(), where.strip())
    if not named:
        return "I cannot look at the weather. I have no connection to a forecast. What does it look like outside?"
    return f"I cannot look at the weather in {named}. I have no connection to a forecast. Are you going there?"


def either(turn: Turn, match: re.Match[str]) -> str | None:
    before = r"^.*\b(?:would|is|are|was|between|win|wins|better|rather|prefer|have|like|want|be)\b "
    one = re.sub(before, "", match["one"]).split()[-3:]
    other = (match["other"]).split()[:3]
    if not content_words(" ".join(one)) or not content_words(" ".join(other)):
        return None
    choice = f"{' '.join(one)} or {' '.join(other)}"
    return (
        f"{choice[0].upper()}{choice[1:]}? I am only built-in replies and cannot weigh the two. Which would you choose?"
    )


def feeling(turn: Turn, match: re.Match[str]) -> str:
    named = match["feeling"].lower()
    if named in ("happy", "great", "excited", "glad", "proud", "good", "fine", "wonderful", "well"):
        return f"I am glad that you are {named}. What has made it so?"
    return f"I am sorry that you are {named}. Would you like to tell me about it?"


def unknown(turn: Turn, match: re.Match[str]) -> str | None:
    if not facts.is_question(turn.prompt.history[-1].text) and not facts.is_question(turn.said):
        return None
    return turn.choose((
        "I do not know that. I am only built-in replies, not a language model. What do you think?",
        "I have no answer to that. A real language model might: the setup page has some, under Mind.",
        "That is beyond my few rules. But I know the time, sums, and what you have told me.",
    ))  # fmt: skip
