"""Everything the built-in replies can answer: a table, read from the top; the first row that fits and answers wins.

A row is a pattern for what was heard (tidied, without its lead-in) and what to say: phrases to choose from, or a
function for an answer that must be worked out. A function that returns None lets the next row try.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from functools import cached_property

from pipeline.llm import Prompt
from pipeline.llm.builtin import facts
from pipeline.llm.builtin.arithmetic import NotCalculable, calculate
from pipeline.llm.builtin.words import content_words, some_time_ago, tidy, without_lead_in

HONESTY = (
    "I am Parley's built-in replies: a small table of rules, not a language model. I match words, and I do not truly "
    "understand them. To talk with a real language model, open the setup page and choose one under Mind."
)
HOW_TO_INSTALL = (
    "Open the setup page and look under Mind. There you can choose a language model, for example one that Ollama runs "
    "on this machine, and from then on it answers instead of me."
)


@dataclass(frozen=True)
class Turn:
    """What a rule can look at."""

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
    def known(self) -> list[facts.Fact]:
        return facts.known(self.told)

    @property
    def name(self) -> str:
        return next((fact.value for fact in self.known if fact.relation is facts.OWN_NAME), "")

    @property
    def last_reply(self) -> str:
        return next((m.text for m in reversed(self.prompt.history[:-1]) if m.role == "assistant"), "")

    def choose(self, phrases: tuple[str, ...]) -> str:
        """Another phrase each time, and the same one for the same conversation."""
        return phrases[len(self.prompt.history) // 2 % len(phrases)]


Say = Callable[[Turn, "re.Match[str]"], str | None]


@dataclass(frozen=True, slots=True)
class Rule:
    heard: re.Pattern[str]
    say: Say


def answer(prompt: Prompt) -> str:
    """The reply to the last message of the history."""
    raw = prompt.history[-1].text if prompt.history else ""
    said = tidy(raw)
    turn = Turn(prompt, said)
    for candidate in dict.fromkeys((without_lead_in(said), said)):
        for rule in RULES:
            match = rule.heard.match(candidate)
            if match and (reply := rule.say(replace(turn, said=candidate), match)):
                return reply
    raise AssertionError("the last rule answers everything")


def _phrases(*phrases: str) -> Say:
    return lambda turn, match: turn.choose(phrases)


# The conversation itself


def _again(turn: Turn, match: re.Match[str]) -> str:
    return f"I said: {turn.last_reply}" if turn.last_reply else "I have not said anything yet."


def _your_words(turn: Turn, match: re.Match[str]) -> str:
    before = [m.text for m in turn.prompt.history[:-1] if m.role == "user"]
    return f"You said: {before[-1]}" if before else "That was the first thing I heard from you."


def _go_on(turn: Turn, match: re.Match[str]) -> str | None:
    """An interrupted reply is made anew from the words it answered, and goes on after what was heard of it."""
    history = turn.prompt.history[:-1]
    if len(history) < 2 or not history[-1].interrupted:
        return "That was all I had to say. What is on your mind?"
    whole = answer(replace(turn.prompt, history=history[:-1]))
    heard = history[-1].text.rstrip(" .,…—-")
    rest = whole[len(heard) :].lstrip(" .,") if whole.startswith(heard) else whole
    return rest or "That was all I had to say."


def _greeting(turn: Turn, match: re.Match[str]) -> str:
    hour = turn.now.hour
    part = "morning" if 5 <= hour < 12 else "afternoon" if 12 <= hour < 18 else "evening" if 18 <= hour < 23 else ""
    greeting = f"Good {part}" if part else "Hello there, night owl"
    if turn.name:
        return f"{greeting}, {turn.name}. {turn.choose(('How are you?', 'What is new with you?', 'It is good to hear you.'))}"
    if any(message.role == "assistant" for message in turn.prompt.history):
        return f"{greeting}. What is on your mind?"
    return f"{greeting}. I am {_my_name(turn)}. What shall I call you?"


def _goodbye(turn: Turn, match: re.Match[str]) -> str:
    wish = "Sleep well" if "night" in turn.said.lower() else turn.choose(("Goodbye", "Take care", "Until next time"))
    return f"{wish}, {turn.name}." if turn.name else f"{wish}."


def _my_name(turn: Turn, match: re.Match[str] | None = None) -> str:
    """The persona names the companion; everything else in it is meant for a model that can act a part."""
    named = re.search(r"\b[Yy]ou are ([A-Z][\w-]{1,30})\b", turn.prompt.persona)
    return named[1] if named else "Parley"


# Time and numbers


def _time(turn: Turn, match: re.Match[str]) -> str:
    return f"It is {(turn.now.hour - 1) % 12 + 1}:{turn.now.minute:02} {'a.m.' if turn.now.hour < 12 else 'p.m.'}"


_DAYS = {"yesterday": -1, "today": 0, "tomorrow": 1, "the day after tomorrow": 2, "the day before yesterday": -2}


def _date(turn: Turn, match: re.Match[str]) -> str:
    named = next((day for day in sorted(_DAYS, key=len, reverse=True) if day in turn.said.lower()), "today")
    day = turn.now.date() + timedelta(days=_DAYS[named])
    verb = "is" if _DAYS[named] == 0 else "was" if _DAYS[named] < 0 else "will be"
    return f"{named.capitalize()} {verb} {day:%A}, {day:%B} {day.day}, {day.year}."


_FEASTS = {"christmas": (12, 25), "christmas eve": (12, 24), "new year": (1, 1), "halloween": (10, 31)}


def _days_until(turn: Turn, match: re.Match[str]) -> str | None:
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


def _sum(turn: Turn, match: re.Match[str]) -> str | None:
    try:
        result = calculate(turn.said)
    except NotCalculable as error:
        return str(error)
    return f"That is {result}." if result else None


# What the user told


def _asked_fact(turn: Turn, match: re.Match[str]) -> str | None:
    """From what was read out of the user's words, else from their own words about the same thing."""
    wanted = facts.asked_for(turn.said)
    if answer := facts.look_up(wanted, turn.known):
        return answer
    thing = next((thing for _, thing in wanted if thing), "")
    if found := thing and facts.recollection(thing, turn.told):
        return _quoted(turn, found)
    return None


def _untold_fact(turn: Turn, match: re.Match[str]) -> str | None:
    if not (wanted := facts.asked_for(turn.said)):
        return None
    thing = next((thing for _, thing in wanted if thing), "")
    return f"You have not told me about your {thing} yet." if thing else "You have not told me that yet."


def _told_fact(turn: Turn, match: re.Match[str]) -> str | None:
    last = turn.prompt.history[-2].text if len(turn.prompt.history) > 1 else ""
    things = [fact.thing for fact in turn.known if fact.thing]
    said = turn.prompt.history[-1].text
    new = list(facts.read(facts.Statement(said, turn.now, here=True, after=last), things[-1] if things else ""))
    if not new:
        return None
    first = new[0]
    reply = first.relation.noted.format(thing=first.thing, value=first.value)
    return reply[0].upper() + reply[1:]


def _all_facts(turn: Turn, match: re.Match[str]) -> str:
    sentences = [fact.sentence() for fact in turn.known[-5:]]
    return " ".join(sentences) if sentences else "You have not told me much about yourself yet. Where shall we begin?"


def _noted(turn: Turn, match: re.Match[str]) -> str | None:
    """ "Where is the key?" is answered by "remember that the key is under the mat"."""
    wanted = content_words(turn.said)
    notes = (fact for fact in reversed(turn.known) if fact.relation is facts.NOTE)
    return next((note.sentence() for note in notes if wanted & content_words(note.value)), None)


def _recollection(turn: Turn, match: re.Match[str]) -> str | None:
    if facts.asked_for(turn.said) or not re.search(r"\b(?:i|my|me|we|our)\b", turn.said, re.IGNORECASE):
        return None
    found = facts.recollection(turn.said, turn.told)
    return _quoted(turn, found) if found else None


def _quoted(turn: Turn, found: facts.Statement) -> str:
    when = "Earlier" if found.here else some_time_ago(found.at.date(), turn.now)
    return f"{when} you told me: “{found.text.strip()[:200]}”"


# What it cannot know, and what it can at least say


def _weather(turn: Turn, match: re.Match[str]) -> str:
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


def _either(turn: Turn, match: re.Match[str]) -> str | None:
    before = r"^.*\b(?:would|is|are|was|between|win|wins|better|rather|prefer|have|like|want)\b "
    one = re.sub(before, "", match["one"] or match["first"]).split()[-3:]
    other = (match["other"] or match["second"]).split()[:3]
    if not content_words(" ".join(one)) or not content_words(" ".join(other)):
        return None
    choice = f"{' '.join(one)} or {' '.join(other)}"
    return (
        f"{choice[0].upper()}{choice[1:]}? I am only built-in replies and cannot weigh the two. Which would you choose?"
    )


def _lament(turn: Turn, match: re.Match[str]) -> str:
    feeling = match["feeling"].lower()
    if feeling in ("happy", "great", "excited", "glad", "proud", "good", "fine", "wonderful", "well"):
        return f"I am glad that you are {feeling}. What has made it so?"
    return f"I am sorry that you are {feeling}. Would you like to tell me about it?"


def _unknown(turn: Turn, match: re.Match[str]) -> str | None:
    if not facts.is_question(turn.prompt.history[-1].text) and not facts.is_question(turn.said):
        return None
    return turn.choose((
        "That I do not know. I am only built-in replies, not a language model. What do you think?",
        "I have no answer to that. A real language model might: the setup page has some, under Mind.",
        "That is beyond my few rules. But I know the time, sums, and what you have told me.",
    ))  # fmt: skip


def _listen(turn: Turn, match: re.Match[str]) -> str:
    return turn.choose((
        "Tell me more about that.",
        "I see. And how was that for you?",
        "I am listening. What happened then?",
        "Go on, I will remember it.",
    ))  # fmt: skip


_QUESTION = r"(?:what|who|where|when|which|why|how|do|did|does|is|was|are|tell me|am|have|remind me)\b"

_TABLE: tuple[tuple[str, Say], ...] = (
    (r"$", _phrases("I did not catch that. Could you say it again?", "Sorry, I missed that. Once more, please?")),
    # The conversation itself
    (r"(?:stop|wait|quiet|be quiet|shush|hush|silence|shut up|enough|never ?mind|hold on|pause)(?: it| that| now| please| talking)*$",
     _phrases("All right.", "I am quiet.")),
    (r"(?:what did you (?:just )?say|(?:say|repeat) (?:that|it)(?: again)?|repeat|say again|pardon(?: me)?|excuse me|"
     r"come again|once more|again|what was that|i (?:did not|could not) (?:hear|understand|catch) (?:you|that)|sorry what|what)(?: please)?$",
     _again),
    (r"what did i (?:just )?say$|what have i (?:just )?said$", _your_words),
    (r"(?:go on|continue|keep going|carry on|you were saying|go ahead|finish (?:that|your sentence))(?: please)?$", _go_on),
    (r"(?:that is |you are |it is )?(?:wrong|not right|not true|not correct|incorrect|a mistake)$",
     _phrases("Then tell me how it really is, and I will go by that.")),
    # What it is
    (r".*\b(?:are you|you are) (?:an? |really |actually |just |even |only )*(?:ai|a i|artificial|robot|bot|computer|machine|human|person|"
     r"real|alive|conscious|language model|llm|chat ?gpt|gpt|program|chatbot|intelligent)\b", lambda t, m: HONESTY),
    (r"(?:what|who) (?:exactly )?(?:are|or) you(?: exactly| really)?$", lambda t, m: f"You can call me {_my_name(t)}. {HONESTY}"),
    (r".*\b(?:do|can|could) you (?:really |actually |truly |even )*(?:understand|think|feel|reason|have (?:feelings|a mind|thoughts))"
     r"(?: me| things| anything| at all| what i (?:say|mean)| like .+)*$", lambda t, m: HONESTY),
    (r".*\b(?:which|what) (?:language )?model\b|.*\bhow do you work\b|.*\bwho (?:made|built|wrote) you\b", lambda t, m: HONESTY),
    (r".*\b(?:install|get|set up|use|choose|change) (?:an? |the |to |another |real |proper |better |different |large )*(?:language )?"
     r"(?:model|mind|llm|ai|brain)\b", lambda t, m: HOW_TO_INSTALL),
    (r".*\bwhat is your name\b|.*\bwhat (?:are you called|shall i call you|do i call you)\b|do you have a name",
     lambda t, m: f"I am {_my_name(t)}." + ("" if t.name else " And what shall I call you?")),
    (r"(?:what|which things) (?:else )?can you (?:do|say|talk about|help)|help(?: me)?$|what do you know$|how can you help",
     _phrases("I can tell you the time and the date, do small sums, and remember what you tell me. Try telling me your dog's name.")),
    # Time and numbers
    (r"(?:do you know |do you have )?(?:what(?: is| was)? (?:the )?time(?: is it| it is| now| please)*|what hour is it|the time)"
     r"(?: please| now| right now| today)*$|time please$|.*\bwhat time (?:is it|it is)\b", _time),
    (r".*\bwhat year is it\b|what is the year", lambda t, m: f"It is the year {t.now.year}."),
    (r".*\b(?:what|which) month\b", lambda t, m: f"It is {t.now:%B}."),
    (r"(?:do you know )?(?:what|which) (?:is |was |will )?(?:be )?(?:the |today's |tomorrow's )?(?:date|day)\b(?! of| did| do| will i| am i| is my)|"
     r"what is (?:today|tomorrow)$|is it (?:mon|tues|wednes|thurs|fri|satur|sun)day", _date),
    (r".*\bhow (?:many days|long)(?: is it| are there| left)? (?:until|till|to|before) (?P<day>.+)$", _days_until),
    (r".", _sum),
    # What the user told
    (r".", _told_fact),
    (r".", _asked_fact),
    (r".*\bwhat do you (?:know|remember)(?: about me)?$|.*\bwhat have i told you$|.*\bdo you remember me$|tell me about me$", _all_facts),
    (r"(?:please )?forget\b", _phrases("You decide what I keep. The memory page lets you correct or delete anything.")),
    # What it cannot know or do
    (r".*\b(?:weather|whether (?:like|in|is)|forecast|temperature|(?:is it|will it|going to) (?:be )?(?:rain|raining|sunny|snow|snowing|cold|warm|hot))\b", _weather),
    (r".*\b(?:news|headlines|traffic|stock|stocks|price|score|exchange rate|who won)\b(?!.*\bi\b)",
     _phrases("I have no connection to the outside world, so I cannot know that. Has something caught your eye?")),
    (r"(?:set|start|play|call|send|open|turn|switch|order|buy|book|search|google|remind|wake)\b",
     _phrases("I would if I could, but I can only talk. Shall I remember something for you instead?")),
    # Good manners
    (r"(?:(?:hello|hi|hey|hiya|howdy|greetings|good (?:morning|afternoon|evening|day)|hello there|hi there)(?: parley| again| there| you)*)$",
     _greeting),
    (r".*\bhow (?:are you|are things|is it going|do you do|have you been)\b|what is up$|how is your day",
     _phrases("I am well, as far as a table of rules can be. And you?", "All my rules are in order. How are you?")),
    (r".*\b(?:thank you|thanks|thank)\b", _phrases("You are welcome.", "Gladly.", "Any time.")),
    (r"(?:good ?bye|bye|bye bye|good night|see you|so long|farewell|talk to you|until (?:next|tomorrow)|i have to go|that is all)\b", _goodbye),
    (r"(?:nice|pleased|good|great) to (?:meet|see|hear) you", _phrases("The pleasure is mine. What shall we talk about?")),
    (r"(?:i am |i'm )?(?:so |very )?sorry\b|my apologies", _phrases("No harm done.")),
    (r".*\b(?:joke|make me laugh|something funny)\b", _phrases(
        "Why did the microphone break up with the speaker? It felt it was not being heard.",
        "I wanted to tell you a joke about silence, but there is nothing to say.",
        "Two rules walk into a table. The first one matches, so nobody asks the second.")),
    (r".*\b(?:i love you|you are (?:so |very |really )*(?:nice|great|good|funny|clever|smart|sweet|the best|wonderful|cute))\b",
     _phrases("That is kind of you. It all comes from a small table, but it is glad to be read.")),
    (r".*\byou are (?:so |very |really )*(?:stupid|dumb|bad|useless|boring|annoying)\b",
     _phrases("I am a small table of rules and do what I can. A real language model waits on the setup page, under Mind.")),
    (r"i (?:am|feel|was|am feeling|have been)(?: so| very| a bit| a little| really| quite| too| just)* (?P<feeling>sad|tired|lonely|angry|ill|sick|afraid|"
     r"scared|worried|bored|stressed|unhappy|exhausted|anxious|happy|great|excited|glad|proud|good|fine|wonderful|well)\b", _lament),
    (r"(?:yes|yeah|yep|sure|of course|okay|ok|all right|right|exactly|indeed|maybe|perhaps)(?: please)?$", _phrases("Good. Tell me more.", "Then go on, I am listening.")),
    (r"(?:no|nope|not really|no thanks|no thank you)$", _phrases("All right. What would you rather talk about?")),
    # Questions about what was said once, choices, and all the rest
    (_QUESTION, _noted),
    (_QUESTION, _recollection),
    (r".", _untold_fact),
    (r"(?P<one>.+) or (?P<other>.+)|.*\bbetween (?P<first>.+) and (?P<second>.+)", _either),
    (r".", _unknown),
    (r".", _listen),
)  # fmt: skip
RULES = tuple(Rule(re.compile(pattern, re.IGNORECASE), say) for pattern, say in _TABLE)
