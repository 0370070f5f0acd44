"""What a turn claims, and of whom: "I no longer live in Oslo" takes back that the speaker's home is Oslo.

English sentences are read by a small grammar: a subject ("I", "my sister Clara", "the dentist"), an adverb or a
negation, and a predicate that gives one attribute its value. What isn't understood claims nothing, so that nothing else
is ever taken to be out of date because of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from rag.lexical import EMPTY, words

EXISTS = "exists"
"""The attribute of what somebody has, or once had: a dog, a job, a grandmother."""
MANY = frozenset({"likes", "habit", EXISTS})
"""Attributes that hold several values at once."""
_REFINED = frozenset({"home", "work", "name"})
_APART = frozenset({"divorced", "separated", "broke up", "broken up", "split up", "single"})
_SPOUSES = frozenset({"wife", "husband", "partner", "girlfriend", "boyfriend", "fiancé", "fiancée", "spouse"})
IT = "it"
"""The subject of a correction ("Actually it's Turku"): whatever the speaker claimed last."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One attribute of one subject, as it is now; or, where it doesn't hold, as it is not, or no longer."""

    subject: str
    """Lower case; empty is the speaker."""
    attribute: str
    value: str
    """As it was said; may be empty where the claim doesn't hold."""
    holds: bool = True
    changed: bool = False
    """It was said to be new: "now", "moved", "instead"."""

    @property
    def label(self) -> str:
        """What it is about, for people: "home", "sister's home", "dog", "olives"."""
        if self.attribute == EXISTS:
            return self.subject
        about = " ".join(words(self.value)) if self.attribute in MANY else self.attribute
        return f"{self.subject}'s {about}" if self.subject else about

    def ends(self, older: Claim) -> bool:
        """Whether what `older`, of the same speaker, claims is no longer so after this was said."""
        if self.attribute == EXISTS and not self.holds:
            return older.holds and _same_subject(self.subject, older.subject or older.attribute)
        if self.attribute == "marriage" and self.value in _APART and set(older.subject.split()) & _SPOUSES:
            return True
        if not _same_subject(self.subject, older.subject):
            return False
        if self.attribute != older.attribute:
            return False
        new, old = _told(self.value), _told(older.value)
        if self.holds == older.holds:
            if not self.holds or self.attribute in MANY or new == old:
                return False
            if self.attribute in _REFINED and (new <= old or old <= new):
                return False  # "Oslo" and "Oslo, near the harbour"
            return self.attribute != "work" or self.changed or _role(self.value) == _role(older.value)
        if not new or not old:
            return True
        return new <= old or old <= new if self.attribute in MANY else bool(new & old)


def claims(text: str) -> list[Claim]:
    """In the order of the text; those of one subject that end each other are all there."""
    found: list[Claim] = []
    for sentence in _SENTENCE.findall(_plain(text)):
        if sentence.endswith("?") or _ASKS.match(sentence):
            continue
        sentence = _OPENING.sub(lambda opening: opening[1].replace(",", ""), sentence, count=1)
        for clause in _CLAUSE.split(sentence.rstrip(" .!;")):
            for claim in _read(clause.strip(" ,"), found[-1] if found else None):
                found.append(resolved(claim, found) or claim)
    return found


def attribute_named(thing: str) -> str:
    """One name for each attribute: "mobile number" and "number" are the "phone number"."""
    return _ALIASES.get(thing, thing)


def standing(found: Sequence[Claim]) -> list[Claim]:
    """Those that no later one of the same turn ends."""
    return [claim for index, claim in enumerate(found) if not any(later.ends(claim) for later in found[index + 1 :])]


def resolved(claim: Claim, before: Sequence[Claim]) -> Claim | None:
    """A correction with the subject and the attribute of what it corrects; None where nothing before it fits.

    `before`: what the speaker had claimed, oldest first.
    """
    if claim.subject != IT:
        return claim
    for older in reversed(before):
        fits = _FITTING.get(older.attribute.split(" ")[0])
        if fits is not None and fits(claim.value):
            return replace(claim, subject=older.subject, attribute=older.attribute)
    return None


# The grammar

_SENTENCE = re.compile(r"[^.!?;\n]+(?:[.](?=\w)[^.!?;\n]*)*[.!?;]?")
_PRONOUN = r"(?:i|we|my|our|he|she|they|it|his|her|their|its|the)\b"
_OPENING = re.compile(r"^\s*((?:(?:actually|no|sorry|wait|oh|well|correction)\b,? )+)", re.IGNORECASE)
_UNREAL = "".join(
    rf"(?<!\b{word} )"
    for word in "if when whether wish that where said think hope until before while unless than who which".split()
)
_CLAUSE = re.compile(
    rf",?\s+(?:and|but|because|so|then)\s+(?=(?:now )?{_PRONOUN})|,\s*(?=(?:now |but now |and now )?(?:{_PRONOUN}|"
    rf"call me\b))"
    r"| (?=(?:now )?(?:i|we) (?:now |do not |no longer )?(?:live|moved|work|am|go by|like|hate|have)\b|my name is\b)"
    rf"{_UNREAL}",  # last, since few blanks get so far
    re.IGNORECASE,
)  # fmt: skip
_ASKS = re.compile(
    r"\s*(?:what|who|whom|whose|where|when|which|why|how|is|are|am|was|were|do|does|did|can|could|will|would|shall|"
    r"should|has|tell me|remind me|if|unless|suppose|imagine)\b(?! not call)",
    re.IGNORECASE,
)
_LEAD = re.compile(
    r"(?:(?:actually|no|well|oh|sorry|so|and|but|now|today|yes|yeah|okay|ok|also|by the way|in fact|these days|"
    r"nowadays|"
    r"finally|anyway|um|uh|hi|hello|hey|then|guess what|from now on|recently|unfortunately|sadly|i mean|wait|"
    r"(?:since |as of )?(?:last|this) \w+|(?:since|in) \d{4}|for \w+ \w+ now|(?:just )?so you know|you (?:must|"
    r"should) know|"
    r"(?:please )?remember(?: that)?|for now)[, ]+)+",
    re.IGNORECASE,
)
_SUBJECT = re.compile(
    r"(?:(?P<self>i|we)(?= )|(?:(?:my|our) (?P<own>.+?)|the (?P<the>\w[\w ]*?)|(?P<pronoun>he|she|they|it)"
    r"|(?:his|her|their|its) (?P<theirs>names?)|(?P<named>[A-Z][\w-]+))"
    r"(?= (?:am|is|are|was|were|do|does|did|have|has|had|no longer|now|just|finally|also|really|still|used to|can|"
    r"lives?|lived|moved|works?|worked|goes|go|got|quit|left|lost|stopped|gave|sold|became|turned|likes?|loves?|hates?|"
    r"enjoys?|adores?|dislikes?|died|passed|ran|broke|changed|retired|relocated|settled|started|bought|own|drives?|"
    r"eats?|"
    r"smokes?|drinks?|plays?|speaks?|call|started|will|stays?|resides?|separated|divorced)\b)) (?P<rest>.+)",
    re.IGNORECASE,
)
_NEW = re.compile(
    r"\b(?:now|finally|just|recently|instead|again|from now on|any ?more|any longer|no longer|new|changed)\b", re.I
)
_ADVERB = re.compile(
    r"\b(?:now|finally|just|recently|currently|still|also|really|actually|already|originally|only|unfortunately|sadly|"
    r"truly|very much)\b ?",
    re.IGNORECASE,
)
_NOT = re.compile(r"\b(?:(?:do|does|did) not(?= )|no longer|not|never)\b ?", re.IGNORECASE)
_TAIL = re.compile(
    r"(?:[, ]+(?:now|again|instead|any ?more|any longer|from now on|these days|nowadays|at the moment|at present|too|"
    r"please|though|actually|then|last \w+|this \w+|(?:since|in) \d{4}|\w+ (?:\w+ )?ago|already|for good|you know|"
    r"as well|"
    r"yesterday|today|for (?:\w+ )?(?:years|months|weeks)(?: now)?))+$"
    r"|[, ]+(?:because|since|which|where|who|and (?:i|we|my|it|now))\b.*$",
    re.IGNORECASE,
)
_BE = r"(?:am|is|are|was|were|be|been)"
_VALUE = r"(?P<value>\S.*)"
_PLACE = (
    r"(?P<value>(?!an? |my |our |your |his |her |this |that |it\b|is\b|are\b|was\b|peace\b|fear\b|love\b|bed\b)\S.*)"
)
_JOB = (
    r"(?:nurse|teacher|doctor|engineer|driver|student|pensioner|baker|cook|chef|waiter|waitress|lawyer|writer|painter|"
    r"singer|farmer|builder|carpenter|plumber|electrician|manager|programmer|developer|designer|architect|dentist|"
    r"scientist|journalist|musician|librarian|accountant|consultant|assistant|secretary|gardener|photographer|"
    r"pharmacist|therapist|psychologist|mechanic|pilot|sailor|soldier|policeman|policewoman|firefighter|hairdresser|"
    r"researcher|professor|translator|editor|tailor|butcher|cashier|cleaner|freelancer|postman|vet|priest|actor|"
    r"actress)"
)
_GONE = (
    rf"(?:have |has |had )?(?:died|passed away|run away|ran away|broke(?: down)?|{_BE} (?:dead|gone|stolen|sold|broken)"
    r"|been (?:stolen|sold|put down|put to sleep))"
)
_THING = (
    r"(?:an? |my |our |the |any |one |two |three |his |her |their )?(?:new |old |little |small |big )*(?P<thing>\w+)"
)

_PREDICATES: list[tuple[str, re.Pattern[str], bool, bool]] = [
    (attribute, re.compile(pattern, re.IGNORECASE), holds, changed)
    for attribute, pattern, holds, changed in [
        ("name", rf"{_BE} (?:called|named|known as) {_VALUE}", True, False),
        ("name", rf"goe?s? by {_VALUE}", True, False),
        ("name", rf"changed (?:my|his|her|their) name to {_VALUE}", True, True),
        ("age", rf"{_BE} (?P<value>[\w -]+?) years old\b.*", True, False),
        ("age", r"(?:have |has )?(?:turned|become|became) (?P<value>(?:\d+|\w+ty|\w+teen|(?:twen|thir|for|fif|six|"
                r"seven|eigh|"
                r"nine)ty[ -]\w+))(?: years old)?", True, True),
        ("home", rf"used to live in {_VALUE}", False, False),
        ("home", rf"lived in {_VALUE}", False, False),
        ("home", rf"(?:have |has )?(?:moved|relocated|move)(?: house| back| over| away| out)*(?: from [\w ]+?)? to "
                 rf"{_PLACE}",
         True, True),
        ("home", rf"(?:have |has )?(?:left|(?:moved|gone) (?:away|out) (?:from|of)) {_PLACE}", False, True),
        ("home", rf"(?:have |has )?settled(?: down)? in {_PLACE}", True, True),
        ("home", rf"(?:{_BE} )?(?:lives?|living|resides?|residing|based|stay(?:s|ing)) in {_PLACE}", True, False),
        ("work", r"(?:used to work|worked) (?P<value>(?:as|at|for|in|with) .+)", False, False),
        ("work", r"(?:have |has )?(?:quit|left|lost)(?: working)?(?: (?:my|his|her|their|the|that) (?:\w+ )?(?:job|"
                 r"work|position))"
                 r"(?: (?P<value>(?:as|at|for|in|with) .+))?", False, True),
        ("work", r"(?:quit|stopped) working(?: (?P<value>(?:as|at|for|in|with) .+))?", False, True),
        ("work", rf"{_BE} (?:fired|laid off|sacked|made redundant)(?: .*)?(?P<value>)", False, True),
        ("work", rf"(?:{_BE} )?(?:works?|working) (?P<value>(?:as|at|for|in|with) .+)", True, False),
        ("work", r"(?:have |has )?(?:got |started |have |has |found |took )+(?:an? |the |my )?(?:new )?(?:job|work|"
                 r"working|position)"
                 r" (?P<value>(?:as|at|for|in|with) .+)", True, True),
        ("work", rf"(?:{_BE} |became |have become )(?P<job>an? (?:[\w-]+ )?{_JOB})(?: (?:at|for|in) .+)?", True, False),
        ("work", rf"(?:{_BE} |have |has )?(?P<value>retired|unemployed|out of work)", True, True),
        ("marriage", rf"(?:{_BE} |got |have got |have |has |became )(?P<value>married|engaged|divorced|separated|"
                     rf"widowed|single)"
                     r"(?: (?:to|from) .+)?", True, True),
        ("marriage", r"(?:have |has )?(?P<value>separated|divorced|broke up|broken up|split up)(?: .*)?", True, True),
        ("diet", rf"(?:{_BE} |became |have become |turned |went )(?:an? )?(?P<value>vegan|vegetarian|pescatarian)",
         True, False),
        ("diet", r"eats? (?P<value>meat|everything)(?P<again>)", True, False),
        ("likes", r"(?:likes?|loves?|enjoys?|adores?) (?!to know|you\b|it\b|that\b|this\b|to see\b)(?P<value>.+)",
         True, False),
        ("likes", r"(?:hates?|dislikes?|can not stand) (?!you\b|it\b|that\b|this\b)(?P<value>.+)", False, False),
        ("habit", r"(?:have |has )?(?:quit|stopped|gave up|given up) (?P<value>\w+ing\b.*|\w+s\b)", False, True),
        ("car", r"drives? (?:an? )?(?P<value>(?:new )?(?!to\b|the\b)[\w-]+(?: [\w-]+)?)", True, False),
        ("habit", r"(?P<value>(?:smoke|drink|play|speak|drive|ride|study|run|swim|eat)s?\b.*)", True, False),
        (EXISTS, rf"(?:sold|lost|(?:gave|got) (?:away|rid of)) {_THING}(?: away)?", False, True),
        (EXISTS, rf"(?:have |has )?(?:have|has|had|got|own|owns|bought|adopted) {_THING}(?P<more>,? .+)?", True, False),
    ]
]  # fmt: skip
_CALL = re.compile(
    r"(?:please )?(?:(?P<no>do not )|(?:(?:you (?:can|may|should|must)|people|everyone|everybody|(?:my |all "
    r")*friends|they) )?"
    r"(?:now |just |all )*)(?:now )?call me (?P<value>\S.*)",
    re.IGNORECASE,
)
_MY = re.compile(
    r"(?:my|our) (?:new )?(?P<thing>(?:[\w'-]+ )*?(?:name|number|phone|mobile|address|e-?mail|birthday|password|"
    r"code|pin|"
    r"job|boss|manager|doctor|teacher|age|size|height|weight|car|home|favou?rite(?: [\w-]+)+?))"
    rf" (?:is|are|was|were|(?P<once>used to be)) {_VALUE}",
    re.IGNORECASE,
)
_WHEN = re.compile(
    r"(?:is|are|was|were|has been|have been)? ?(?:moved to |changed to |postponed (?:to|until) |put off until |"
    r"rescheduled (?:for|to) )?"
    r"(?P<value>(?:(?:on|at|in|next|this) )*(?:\w+day|tomorrow|today|tonight|noon|midnight|january|february|march|"
    r"april|may|"
    r"june|july|august|september|october|november|december|\d[\d:.]*|one|two|three|four|five|six|seven|eight|nine|"
    r"ten|eleven|twelve|half past \w+)\b.*)",
    re.IGNORECASE,
)
_CORRECTION = re.compile(
    r"(?P<lead>(?:actually|no|sorry|correction|wait|oh|well|i (?:mean|meant)(?: to say)?|make (?:that|it)|rather|"
    r"it is|that is|it has been moved to|it was moved to)[, ]+)+(?P<value>\S.*)",
    re.IGNORECASE,
)
_ALIASES = {"phone": "phone number", "mobile": "phone number", "mobile number": "phone number",
            "number": "phone number", "job": "work", "manager": "boss", "first name": "name", "full name": "name",
            "real name": "name"}  # fmt: skip
PLAIN = frozenset({"phone number", "address", "email", "e-mail", "birthday", "password", "code", "pin", "boss",
                   "doctor", "teacher", "size", "height", "weight"})  # fmt: skip
"""Attributes of the speaker that are told as "my … is"."""
_KIN = {"mum": "mother", "mom": "mother", "mummy": "mother", "dad": "father", "daddy": "father",
        "grandma": "grandmother", "granny": "grandmother", "grandpa": "grandfather", "puppy": "dog",
        "kitten": "cat"}  # fmt: skip


def _read(clause: str, last: Claim | None) -> Iterator[Claim]:
    led = _LEAD.match(clause)
    rest = clause[led.end() :] if led else clause
    new = bool(_NEW.search(clause))
    if match := _CALL.fullmatch(rest):
        yield from _valued("", "name", match["value"], holds=not match["no"], changed=True)
        return
    if found := list(_of_mine(rest, new)) or list(_of_anyone(rest, new, last)):
        yield from found
    elif (match := _CORRECTION.fullmatch(clause)) and (last or led or new or re.search(r"\bmeant?\b|, not ", clause)):
        value = re.sub(r"^(?:it|that) is ", "", match["value"], flags=re.IGNORECASE)
        denied = re.match(r"(?:now )?not ", value)
        if len(words(value)) <= 8:
            yield from _valued(IT, "", _ADVERB.sub("", value[denied.end() :] if denied else value), not denied, True)


def _of_mine(clause: str, new: bool) -> Iterator[Claim]:
    """ "My name is not Karin"."""
    plain, denied = _without_not(clause)
    match = _MY.fullmatch(_ADVERB.sub("", plain))
    if match is None:
        return
    thing, holds = match["thing"].lower(), not denied and not match["once"]
    thing = attribute_named(thing.replace("favorite", "favourite"))
    owner = re.fullmatch(r"(.+?)(?:'s|s') (name|age|job|work|home)", thing)
    if owner or (" " in thing and thing.endswith(" name")):
        subject, attribute = owner.groups() if owner else thing.rsplit(" ", 1)
        yield from _valued(_subject(subject), attribute_named(attribute), match["value"], holds, new)
    else:
        yield from _valued("", thing, match["value"], holds, new or "new " in clause.lower())


def _of_anyone(clause: str, new: bool, last: Claim | None) -> Iterator[Claim]:
    parted = _SUBJECT.fullmatch(clause)
    if parted is None:
        return
    plain, denied = _without_not(_ADVERB.sub("", parted["rest"]))
    plain = plain.strip()
    subject = "" if parted["self"] else _subject(parted["own"] or parted["the"] or parted["named"] or "")
    if parted["pronoun"] or parted["theirs"]:
        if last is None:
            return
        subject = last.subject
        if parted["theirs"]:
            plain = re.sub(r"^(?:is|are) ", "is called ", plain)
        elif parted["pronoun"].lower() == "it" and last.attribute != EXISTS:
            corrected = re.fullmatch(rf"(?:is|has been moved to|was moved to) {_VALUE}", plain, re.IGNORECASE)
            if corrected:
                yield from _valued(IT, "", corrected["value"], not denied, new)
            return
    if subject and re.fullmatch(_GONE, _TAIL.sub("", plain), re.IGNORECASE) and not denied:
        yield Claim(subject, EXISTS, "", holds=False, changed=True)
        return
    if parted["named"] and {word.lower() for word in plain.split()[:1]} & {"am", "do", "did"}:
        return
    for attribute, pattern, holds, changed in _PREDICATES:
        match = pattern.fullmatch(_TAIL.sub("", plain)) or pattern.fullmatch(plain)
        if match is None:
            continue
        said = match.groupdict()
        if attribute == EXISTS:
            thing = _subject(said["thing"] or "")
            if said.get("more") and denied:
                return
            if thing in EMPTY:
                continue
            if thing == "job" and denied:
                yield Claim(subject, "work", "", holds=False, changed=True)
            elif thing and not subject:
                yield Claim(thing, EXISTS, "", holds=holds != denied, changed=changed or new)
            return
        if attribute == "likes" and denied and not holds:
            return  # "I do not hate it" isn't love
        value = f"as {said['job']}" if said.get("job") else said["value"] or ""
        yield from _valued(subject, attribute, value, holds != denied if holds else False, changed or new)
        return
    if (parted["own"] or parted["the"]) and (match := _WHEN.fullmatch(plain)):
        yield from _valued(subject, "time", match["value"], not denied, new or "moved" in plain)


def _valued(subject: str, attribute: str, value: str, holds: bool, changed: bool) -> Iterator[Claim]:
    """ "Friday, not on Thursday" is two claims, and so is "not Karin but Petra"."""
    first, *others = re.split(r",? but (?:it is |also )?|,? (?=(?:and )?not )", value) if value else [""]
    first, value = _tidied(first), value
    if first or not holds:
        yield Claim(subject, attribute, first, holds, changed)
    for other in others:
        denied = re.match(r"(?:and )?not (.+)", other)
        yield Claim(subject, attribute, _tidied(denied[1] if denied else other), not denied, True)


def _tidied(value: str) -> str:
    return _TAIL.sub("", _ADVERB.sub("", _TAIL.sub("", value))).strip(" ,'\"“”-")[:80].strip()


def _without_not(text: str) -> tuple[str, bool]:
    """The first negation is taken out of the verb, none out of "Friday, not Thursday"."""
    match = _NOT.search(text)
    if match is None or "," in text[: match.start()]:
        return text, False
    return text[: match.start()] + text[match.end() :], True


def _subject(said: str) -> str:
    """ "new dog Rufus" is "dog rufus"."""
    named = [_KIN.get(word, word) for word in words(said) if word not in {"new", "old", "own", "dear", "next", "s"}]
    return " ".join(named[:3])


def _same_subject(one: str, other: str) -> bool:
    first, second = set(one.split()), set(other.split())
    return first == second or bool(first and second and (first <= second or second <= first))


def _told(value: str) -> frozenset[str]:
    telling = (word for word in words(value) if word not in EMPTY or word.isdigit())
    return frozenset(re.sub(r"(?:ing|e?s|e)$", "", word) if len(word) > 4 else word for word in telling)


def _role(value: str) -> str:
    return value.lower().split(" ", 1)[0] if value else ""


_CHATTER = re.compile(
    r"(?:.*\b(?:fine|nice|okay|ok|good|great|true|right|cold|hot|warm|sure|funny|easy|hard|late|early|cool|bad|\w+ing)"
    r"|(?:a|an|i|you|we|he|she|they|thanks?|yes|no|not|so|very|too|just|that)\b.*)",
    re.IGNORECASE,
)
_FITTING = {
    "name": lambda value: len(value.split()) <= 3 and not _CHATTER.fullmatch(value),
    "home": lambda value: len(value.split()) <= 3 and not _CHATTER.fullmatch(value),
    "time": lambda value: bool(_WHEN.fullmatch(value)),
    "age": lambda value: bool(re.fullmatch(r"\d+|\w+ty(?:[ -]\w+)?|\w+teen", value)),
    "favourite": lambda value: len(value.split()) <= 3 and not _CHATTER.fullmatch(value),
    "phone": lambda value: any(letter.isdigit() for letter in value),
    "birthday": lambda value: any(letter.isdigit() for letter in value) or len(value.split()) > 1,
    "work": lambda value: bool(re.match(r"(?:as|at|for|in|with) ", value)),
}

_SHORT_FORMS = [
    (re.compile(pattern, re.IGNORECASE), long)
    for pattern, long in [
        (r"\bcan'?t\b|\bcannot\b", "can not"),
        (r"\bwon'?t\b", "will not"),
        (r"\b(do|does|did|is|are|was|were|have|has|had|would|could|should)n'?t\b", r"\1 not"),
        (r"\bi'?m\b", "I am"),
        (r"\b(you|we|they)'re\b", r"\1 are"),
        (r"\b(i|you|we|they)'ve\b", r"\1 have"),
        (r"\b(it|that|he|she|there|here|name|who|what|where)'s\b(?! (?:name|birthday|got))", r"\1 is"),
        (r"\b(he|she|it)'s got\b", r"\1 has"),
        (r"\bi have got\b", "I have"),
    ]
]


def _plain(text: str) -> str:
    text = re.sub(r"\s+", " ", text.replace("’", "'").replace("—", ", ").replace("–", ", "))
    for pattern, long in _SHORT_FORMS:
        text = pattern.sub(long, text)
    return text
