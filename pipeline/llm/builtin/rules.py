"""Everything the built-in replies can answer: a table, read from the top. The first rule that matches and has an answer
wins."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from pipeline.llm import Message, Prompt
from pipeline.llm.builtin import answers
from pipeline.llm.builtin.turn import Turn
from pipeline.llm.builtin.words import tidy, without_lead_in

HONESTY = (
    "I am Parley's built-in replies: a small table of rules, not a language model. I match words, and I do not truly "
    "understand them. To talk with a real language model, open the setup page and choose one under Mind."
)
HOW_TO_INSTALL = (
    "Open the setup page and look under Mind. There you can choose a language model, for example one that Ollama runs "
    "on this machine, and from then on it answers instead of me."
)

Say = Callable[[Turn, "re.Match[str]"], str | None]


About = Literal["known", "itself", "talk"]


@dataclass(frozen=True, slots=True)
class Rule:
    """Patterns for what was heard (tidied, without lead-in, in any case), and what to answer."""

    patterns: tuple[re.Pattern[str], ...]
    say: Say | tuple[str, ...]
    """A function that computes the answer, or phrases to choose from."""
    about: About = "known"
    """What the answer is about: things known here, the rules themselves, or small talk, which a model does better."""

    def reply(self, turn: Turn) -> str | None:
        """Return the reply; None if the rule does not fit, or has no answer after all."""
        match = next(filter(None, (pattern.match(turn.said) for pattern in self.patterns)), None)
        if match is None:
            return None
        return turn.choose(self.say) if isinstance(self.say, tuple) else self.say(turn, match)


LONGEST, MOST = 1_000, 100
"""Characters read of a message, and messages read. Speech is shorter than that, but a client may send megabytes."""


def to_go_on(prompt: Prompt) -> Prompt:
    """If the user has said nothing new, add a message that asks the assistant to go on, or to begin."""
    if not prompt.history or prompt.history[-1].role == "user":
        return prompt
    begun = any(message.role == "assistant" for message in prompt.history)
    return replace(prompt, history=(*prompt.history, Message("user", "Go on." if begun else "Hello.")))


def clipped(prompt: Prompt) -> Prompt:
    """Return the prompt, cut to the messages and characters that are read."""
    recent = prompt.history[-MOST:]
    return replace(prompt, history=tuple(replace(message, text=message.text[:LONGEST]) for message in recent))


def answer(prompt: Prompt) -> str:
    """Return the reply to the last message of the history."""
    prompt = to_go_on(clipped(prompt))
    said = tidy(prompt.history[-1].text) if prompt.history else ""
    turn = Turn(prompt, without_lead_in(said))
    return next(reply for rule in RULES if (reply := rule.reply(turn)))


def known(prompt: Prompt, itself: tuple[str, ...]) -> str | None:
    """Return a rule's reply, if one knows it, so that a model need not answer; `itself` says what that model is."""
    prompt = clipped(prompt)
    turn = Turn(prompt, without_lead_in(tidy(prompt.history[-1].text)))
    for rule in RULES:
        if rule.about != "talk" and (reply := rule.reply(turn)):
            return (
                turn.choose(tuple(each.format(name=turn.own_name) for each in itself))
                if rule.about == "itself"
                else reply
            )
    return None


def go_on(turn: Turn, match: re.Match[str]) -> str:
    """Continue an interrupted reply: compute it again from the words it answered, and drop what was already heard."""
    history = turn.prompt.history[:-1]
    if len(history) < 2 or not history[-1].interrupted:
        return "That was all I had to say. What is on your mind?"
    whole = answer(replace(turn.prompt, history=history[:-1]))
    heard = history[-1].text.rstrip(" .,…—-")
    rest = whole[len(heard) :].lstrip(" .,") if whole.startswith(heard) else whole
    return rest or "That was all I had to say."


def introduce(turn: Turn, match: re.Match[str]) -> str:
    return f"You can call me {turn.own_name}. {HONESTY}"


def _rule(say: Say | str | tuple[str, ...], *patterns: str, about: About = "known") -> Rule:
    compiled = tuple(re.compile(pattern, re.IGNORECASE) for pattern in patterns)
    return Rule(compiled, (say,) if isinstance(say, str) else say, about)


_POLITE = r"(?: please| now| then| again| parley)*$"
_MACHINE = (
    r"(?:ai|a i|artificial|robot|bot|computer|machine|human|person|real|alive|conscious|language model|llm|chat ?gpt|"
    r"gpt|program|chatbot|intelligent)\b"
)
_VERY = r"(?:so |very |really |a bit |a little |quite |too |just )*"
_QUESTION = r"(?:what|who|where|when|which|why|how|do|did|does|is|was|are|will|tell me|am|have|remind me)\b"
_HERE_AND_NOW = r"(?: right| just| here| now| today| at the moment| parley)*"
_ALWAYS = r"."

RULES: tuple[Rule, ...] = (
    _rule(
        ("I did not catch that. Could you say it again?", "Sorry, I missed that. Once more, please?"),
        r"$",
    ),
    # -- the conversation itself
    _rule(
        ("All right.", "I am quiet."),
        rf"(?:please )?(?:stop|wait|pause|enough|hold on|never ?mind)(?: it| that| talking)?{_POLITE}",
        rf"(?:be )?(?:quiet|silent|silence|shush|hush|shut up)(?: for (?:a|one) \w+)?{_POLITE}",
    ),
    _rule(
        answers.again,
        rf"what(?: did you (?:just )?say| was that)?{_POLITE}",
        rf"(?:what )?(?:say|repeat) (?:that|it){_POLITE}",
        rf"(?:repeat|say again|come again|once more|again|pardon|pardon me|excuse me|sorry what){_POLITE}",
        r"i (?:did not|could not) (?:hear|understand|catch) (?:you|that)",
    ),
    _rule(answers.your_words, r"what (?:did i (?:just )?say|have i (?:just )?said)$"),
    _rule(
        go_on,
        rf"(?:go on|go ahead|continue|keep going|carry on|you were saying){_POLITE}",
        rf"finish (?:that|your sentence){_POLITE}",
        about="talk",
    ),
    _rule(
        "Then tell me how it really is, and I will go by that.",
        r"(?:that is |you are |it is )?(?:wrong|not right|not true|not correct|incorrect|a mistake)$",
        r"(?:that is )?not what i (?:meant|said|asked)$",
    ),
    # -- what it is
    _rule(introduce, r"(?:what|who) (?:exactly )?(?:are|or) you(?: exactly| really)?$", about="itself"),
    _rule(
        HONESTY,
        rf".*\b(?:are you|you are) (?:an? |really |actually |just |even |only )*{_MACHINE}",
        r".*\b(?:do|can|could) you (?:really |actually |truly |even )*(?:understand|think|feel|reason|have feelings)"
        r"(?: me| things| anything| at all| what i (?:say|mean)| like .+)*$",
        r".*\b(?:which|what) (?:language )?model (?:are|is|do|does)\b",
        r".*\bhow do you work\b",
        r".*\bwho (?:made|built|wrote) you\b",
        about="itself",
    ),
    _rule(
        HOW_TO_INSTALL,
        r".*\b(?:install|get|set up|use|choose|change|add) (?:an? |the |to |another |real |proper |better |large )*"
        r"(?:language )?(?:model|mind|llm|ai|brain)\b",
    ),
    _rule(
        lambda turn, match: f"I am {turn.own_name}.",
        r".*\bwhat is your name\b",
        r"what (?:are you called|(?:shall|should|do|can) i call you)",
        r"do you have a name",
    ),
    _rule(
        "I can tell the time and the date, do small sums, and remember what you tell me. Try it with your dog's name.",
        r"(?:what|which things) (?:else )?can you (?:do|say|talk about|help)",
        r"help(?: me)?$",
        r"how can you help",
    ),
    # -- time and numbers
    _rule(
        answers.clock_in,
        r".*\b(?:what|which|the|local) (?:is )?(?:the )?(?:current |local )?time(?: is it| it is| is)?(?: now| "
        r"right now)?"
        r" in (?P<place>(?!the (?:morning|afternoon|evening)\b)[^\W\d].*)$",
        r".*\bhow late is it in (?P<place>[^\W\d].*)$",
    ),
    _rule(
        answers.clock,
        r"(?:do you know |do you have )?(?:what )?(?:is |was )?(?:the )?time(?: is it| it is)?(?: today)?" + _POLITE,
        r".*\bwhat time (?:is it|it is)\b",
        r"what hour is it",
    ),
    _rule(
        lambda turn, match: f"It is the year {turn.now.year}.", r".*\bwhat year (?:is it|it is)\b", r"what is the year"
    ),
    _rule(lambda turn, match: f"It is {turn.now:%B}.", r".*\b(?:what|which) month (?:is it|it is)\b"),
    _rule(
        answers.which_day,
        r"(?:do you know )?(?:what|which) (?:is |was |will )?(?:be )?(?:the |today's |tomorrow's )?(?:date|day)\b"
        r"(?! of| did| do| will i| am i| is my)",
        r"what is (?:today|tomorrow)$",
        r"(?:what|which) (?:day|date) (?:is|was|will) (?:it |that )?(?:be )?(?:today|tomorrow|yesterday|the day )",
        r"is (?:it|today) (?:mon|tues|wednes|thurs|fri|satur|sun)day",
    ),
    _rule(
        answers.days_until,
        r".*\bhow (?:many days|long)(?: is it| are there| left)? (?:until|till|to|before) (?P<day>.+)$",
    ),
    _rule(answers.arithmetic, _ALWAYS),
    # -- what the user told
    _rule(answers.told_fact, _ALWAYS),
    _rule(answers.asked_fact, _ALWAYS),
    _rule(answers.who_is, r"(?:do you know )?who (?:is|was) (?P<name>[^\W\d_]+)$"),
    _rule(
        answers.all_facts,
        r".*\bwhat (?:else )?do you (?:know|remember)(?: about me)?$",
        r".*\bwhat have i told you$",
        r".*\bdo you remember me$",
        r"tell me about me$",
    ),
    _rule("You decide what I keep. The memory page lets you correct or delete anything.", r"(?:please )?forget\b"),
    # -- what it cannot know or do, except what the user told about it: their plans, things and people
    _rule(
        answers.weather,
        r".*\b(?:weather|forecast|temperature)\b",
        r".*\bwhether (?:like|in|is)\b",
        r".*\b(?:is it|will it|going to) (?:be )?(?:rain|raining|sunny|snow|snowing|cold|warm|hot)\b",
    ),
    _rule(answers.note, _QUESTION),
    _rule(answers.recollection, _QUESTION),
    _rule(
        (
            "I have no connection to the outside world, so I cannot know that. Has something caught your eye?",
            "I cannot know that. Nothing from outside reaches me here.",
            "I cannot look that up. I have no connection to the world outside.",
            "I would need the internet for that, and I am not connected to it.",
            "Things like that change every day, and no news reaches me.",
            "I do not know, and I have no way to find out.",
        ),
        r".*\b(?:news|headlines|traffic|stocks?|share price|prices?|score|exchange rate|who (?:won|is winning)|"
        r"lottery|flights?|"
        r"bitcoin|latest|trending|(?:happening|going on) (?:in|now|today|around|right now))\b(?!.*\bi\b)",
        r".*\bhow much (?:does|do|is|are) .*\b(?:cost|costs|worth|tickets?|ticket|euros?|dollars?|pounds?)\b",
        r".*\b(?:is|are|when|does|do) .*\b(?:open|opens?|close|closed|leaves?|departs?|arrives?)\b.*\b(?:now|today|"
        r"tonight|time|"
        r"shop|store|bank|museum|train|bus|plane|ferry|pharmacy)\b",
        r".*\b(?:when|what time) (?:does|do|is|will) .*\b(?:train|bus|plane|flight|ferry|shop|store|bank|museum|"
        r"pharmacy|game|"
        r"match|film|movie|sun)\b",
        r"who is (?:the )?(?:current |now )*(?:president|prime minister|king|queen|chancellor|pope|champion)\b",
    ),
    _rule(
        (
            "I have no eyes, so I cannot know that. What is it like?",
            "I only hear you, and see nothing. Would you describe it to me?",
            "I would have to see that, and I cannot.",
        ),
        r".*\b(?:can|do|could) you (?:see|look|watch|smell)\b",
        rf"what am i (?:wearing|holding|doing|looking at|thinking|eating|drinking){_HERE_AND_NOW}$",
        r"how do i look\b",
        rf"where am i{_HERE_AND_NOW}$",
        r"(?:what|who) is (?:that )?(?:behind|in front of|next to|beside|near|in|on) (?:me|us|my \w+|this|the room)\b",
        r"how many fingers\b",
    ),
    _rule(
        (
            "The future is hidden from me, too. What do you expect?",
            "I cannot see what will happen. What would you like best?",
            "Nobody knows that yet, least of all me.",
        ),
        r".*\b(?:who|which|what) .*\bwill (?:win|happen|be|come)\b",
        r"(?:will|when will|what will|where will|how will) (?:i|we|it|they|he|she|the|my|there|people|humans)\b",
        r".*\bgoing to (?:win|happen)\b",
    ),
    _rule(
        (
            "I am only a program, so I do not have that kind of life. How about you?",
            "Nothing like that ever happens to a program. How about you?",
            "I live in this computer and nowhere else, so there is nothing to tell.",
            "A program has none of that. Tell me about yours.",
        ),
        r"(?:what|where|when|who|which|how|did|do|have|are|were|was|is) .*\byou(?:r|rs)?\b.*\b(?:born|eat|eating|"
        r"ate|eaten|breakfast|lunch|dinner|live|"
        r"living|from|grow up|grew up|sleep|slept|dream|dreamt|travel|travelled|holidays?|vacation|family|mother|"
        r"father|brothers?|"
        r"sisters?|wife|husband|married|children|kids|school|childhood|last night|yesterday|weekend|old|age|"
        r"birthday|hair|eyes|"
        r"wear|wearing|tall|weigh|home|friends?|pets?|dog|cat|job)\b",
    ),
    _rule(
        (
            "Nobody has told me that, so I do not know it.",
            "I do not know that, and it is better not to tell me such things.",
        ),
        r".*\b(?:phone number|password|pin code|bank balance|account number|email address|credit card|home address|"
        r"how much money|"
        r"lottery numbers)\b",
    ),
    _rule(
        "I would if I could, but I can only talk. Shall I remember something for you instead?",
        r"(?:set|start|play|call|send|open|turn|switch|order|buy|book|search|google|remind|wake)\b",
    ),
    # -- good manners
    _rule(
        answers.greeting,
        rf"(?:hello|hi|hey|hiya|howdy|greetings|good (?:morning|afternoon|evening|day))(?: there| you)?{_POLITE}",
    ),
    _rule(
        ("I am well, as far as a program can be. And you?", "Everything is fine here. How are you?"),
        r".*\bhow (?:are you|are things|is it going|do you do|have you been)\b",
        r"what is up$",
        r"how is your day",
    ),
    _rule(("You are welcome.", "Gladly.", "Any time."), r".*\b(?:thank you|thanks|thank)\b"),
    _rule(
        answers.goodbye,
        r"(?:good ?bye|bye|good night|see you|so long|farewell|talk to you|until (?:next|tomorrow))\b",
        r"(?:i have to go|that is all)\b",
    ),
    _rule(
        "The pleasure is mine. What shall we talk about?",
        r"(?:nice|pleased|good|great) to (?:meet|see|hear) you",
    ),
    _rule("No harm done.", rf"(?:i am )?{_VERY}sorry\b", r"my apologies"),
    _rule(
        (
            "Why did the microphone break up with the speaker? It felt it was not being heard.",
            "I wanted to tell you a joke about silence, but there is nothing to say.",
            "Two rules walk into a table. The first one matches, so nobody asks the second.",
        ),
        r".*\b(?:joke|make me laugh|something funny)\b",
    ),
    _rule(
        "That is kind of you. It all comes from a small table, but it is glad to be read.",
        r".*\bi love you\b",
        rf".*\byou are {_VERY}(?:nice|great|good|funny|clever|smart|sweet|the best|wonderful|cute)\b",
        about="talk",
    ),
    _rule(
        "I am a small table of rules and do what I can. A real language model waits on the setup page, under Mind.",
        rf".*\byou are {_VERY}(?:stupid|dumb|bad|useless|boring|annoying)\b",
        about="talk",
    ),
    _rule(
        answers.feeling,
        rf"i (?:am|feel|was|am feeling|have been) {_VERY}(?P<feeling>sad|tired|lonely|angry|ill|sick|afraid|scared|"
        r"worried|bored|stressed|unhappy|exhausted|anxious|happy|great|excited|glad|proud|good|fine|wonderful|well)\b",
    ),
    _rule(
        ("Good. Tell me more.", "Then go on, I am listening."),
        r"(?:yes|yeah|yep|sure|of course|okay|ok|all right|right|exactly|indeed|maybe|perhaps)(?: please)?$",
        about="talk",
    ),
    _rule(
        "All right. What would you rather talk about?", r"(?:no|nope|not really|no thanks|no thank you)$", about="talk"
    ),
    # -- what was not told, choices, and everything else
    _rule(answers.untold_fact, _ALWAYS),
    _rule(
        (
            "You have not told me that yet.",
            "I do not know that. You have never told me.",
            "I would remember it if you had told me, and you have not.",
        ),
        r"(?:what|where|when|who|which|how (?:many|much|old|long|often)|did|do|have|had|is|was|am|are) "
        r"(?!.*\b(?:should|could|can|would|you|think)\b).*\b(?:i|my|our|we)\b",
    ),
    _rule(answers.either, r"(?P<one>.+) or (?P<other>.+)", r".*\bbetween (?P<one>.+) and (?P<other>.+)", about="talk"),
    _rule(answers.unknown, _ALWAYS, about="talk"),
    _rule(
        (
            "Tell me more about that.",
            "I see. And how was that for you?",
            "I am listening. What happened then?",
            "Go on, I am with you.",
        ),
        _ALWAYS,
        about="talk",
    ),
)
