"""Which attribute a question asks for, and of whom, by the names used in rag/grammar.py."""

from __future__ import annotations

import re
from dataclasses import dataclass

from rag.claims import EXISTS, attribute_named
from rag.grammar import subject_named

_WHO = r"(?P<who>i|we|(?:my|our) [\w' ]+?|the \w+(?: \w+)?|[a-z][\w']*)"
_WHOSE = r"(?:(?P<mine>my|our)|(?P<whose>(?:my|our|the) [\w ]+?|[a-z]\w+)'s?)"
_PLACE = r"(?:city|town|village|country|place|part of [\w ]+|street)"
_LANGUAGE = r"(?:language|lessons?|course)s?"
_DAY = r"(?:when|(?:what|which) (?:day|time|date)|(?:at|on) (?:what|which) (?:day|time|date)|what time)"

_QUESTIONS = [
    (re.compile(pattern, re.IGNORECASE), attributes)
    for pattern, attributes in [
        (rf"\b(?:where|(?:what|which) {_PLACE}) (?:do|does|am|is|are) {_WHO} (?:liv(?:e|ing)|based|at home|staying)\b",
         ["home"]),
        (rf"\bwhere (?:is|are) {_WHOSE} home\b|\b{_WHOSE.replace('mine', 'mine2').replace('whose', 'whose2')} home "
         rf"is\b", ["home"]),
        (rf"\bwhat (?:do|does|is|am|are) {_WHO} (?:do(?:ing)? for (?:a living|work)|work(?:ing)? as|do at work)\b",
         ["work"]),
        (rf"\b(?:where|for whom|who|(?:what|which) (?:company|firm|place)) (?:do|does|am|is|are) {_WHO} "
         rf"work(?:ing)?(?: for| at)?\b",
         ["work"]),
        (rf"\b{_WHOSE} (?:job|profession|occupation|employer|work)\b", ["work"]),
        (rf"\b(?:job|profession|occupation|employer) of {_WHO}(?=\?|$)", ["work"]),
        (rf"\b(?:do|does) {_WHO} (?:have a job|work)(?: now| at the moment| still)?\?", ["work"]),
        (rf"\b{_WHOSE} (?:full |first |last |real )?name\b", ["name", EXISTS]),
        (rf"\bname of {_WHO}(?=\?|$)", ["name", EXISTS]),
        (rf"\b(?:what|how) (?:am|is|are|was) {_WHO} called\b|\bwhat {_WHO.replace('who', 'who2')}(?: am| is|'m|'s) "
         rf"called\b",
         ["name", EXISTS]),
        (r"\bwhat (?:should|shall|do|can|must) (?:you|people|they|one) call (?P<who>me|us)\b", ["name"]),
        (r"\bwho am (?P<who>i)\b|\bhow (?:should|shall|do|can) (?:you|people|they) (?:call|address) (?P<who2>me)\b",
         ["name"]),
        (rf"\b(?:am|is|are|was) {_WHO} (?:still |really |now |already )?(?:married|single|engaged|divorced|separated|"
         rf"widowed|in a relationship)",
         ["marriage"]),
        (rf"\b{_WHOSE} (?:marital|relationship|family) status\b", ["marriage"]),
        (rf"\b(?:am|is|are) {_WHO} (?:still |really |now |an? )*(?:vegan|vegetarian|pescatarian)\b|\b(?:do|does) "
         rf"{_WHO.replace('who', 'who2')} (?:still |really )?eat (?:meat|fish)\b", ["diet"]),
        (rf"\b{_WHOSE} diet\b", ["diet"]),
        (rf"\b(?:what|which)(?: (?:kind|sort|make|brand) of)? (?:car|vehicle) (?:do|does|am|is|are) {_WHO} (?:drive|"
         rf"have|own|driving|got)\b"
         rf"|\bwhat (?:do|does|am|is|are) {_WHO.replace('who', 'who2')} driv(?:e|ing)\b", ["car"]),
        (rf"\b{_WHOSE} car\b", ["car"]),
        (rf"\b{_WHOSE} (?P<thing>(?:mobile |phone |cell )?number|phone|address|e-?mail|birthday|password|code|pin|boss|"
         r"manager|doctor|teacher|size|height|weight|age|favou?rite [\w ]+)(?=[?.,!]|$| now| again)", ["thing"]),
        (rf"\b(?:reach|call|ring|phone) {_WHO} by (?:phone|telephone)\b|\bphone number (?:do|does) "
         rf"{_WHO.replace('who', 'who2')} have\b",
         ["phone number"]),
        (rf"\bhow old (?:am|is|are) {_WHO}(?=\?|$| now)", ["age"]),
        (rf"\b(?:what|which) (?P<best>[\w ]+?) (?:do|does) {_WHO} (?:like|love) (?:best|most)\b", ["best"]),
        (rf"\b(?:what|which) {_LANGUAGE} (?:do|does|am|is|are) {_WHO} (?:learn|study|learning|studying|taking|take)",
         ["learning"]),
        (rf"\b(?:am|is|are|do|does) {_WHO} (?:still )?(?:learn|learning|study|studying|taking|take) (?:any |a "
         rf")?(?:new |foreign )?"
         rf"{_LANGUAGE}", ["learning"]),
        (rf"\b{_DAY} (?:is|are|was) (?P<who>(?:my|our) [\w' ]+?|the \w+(?: \w+)?)(?=\?|$)", ["time", EXISTS]),
        (rf"\b{_DAY} (?:do|am|will|shall) (?:i|we) (?:have|having|go to|going to|attend) (?P<who>(?:my|our|the) [\w' "
         rf"]+?)(?=\?|$)",
         ["time", EXISTS]),
        (r"\b(?:do|have) (?:i|we) (?:still )?(?:have|own|got) an? (?P<who>\w+)\b|\babout (?P<who2>my (?!self)\w+)\b",
         [EXISTS, "name"]),
    ]
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Asked:
    """The attributes, the one meant first; `subject` is as in `Claim`, empty for the asker."""

    attributes: list[str]
    subject: str


def asked(question: str) -> Asked | None:
    """Return what the question asks for, or None if the grammar knows no such attribute."""
    text = re.sub(r"\s+", " ", question.replace("’", "'")).strip()
    text = re.sub(r"\b(what|who|where|when|how)'s\b", r"\1 is", text, flags=re.IGNORECASE)
    for pattern, attributes in _QUESTIONS:
        if match := pattern.search(text):
            said = match.groupdict()
            if thing := said.get("thing"):
                attributes = [attribute_named(thing.lower().replace("favorite", "favourite"))]
            elif best := said.get("best"):
                attributes = [f"favourite {best.lower()}"]
            who = next((said[name] for name in ("who", "who2", "whose", "whose2") if said.get(name)), "")
            return Asked(attributes, _subject(who))
    return None


def _subject(who: str) -> str:
    if who.lower() in {"", "i", "we", "me", "us"}:
        return ""
    return subject_named(re.sub(r"^(?:my|our|the) ", "", who, flags=re.IGNORECASE))
