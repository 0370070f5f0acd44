"""What a turn claims, and of whom: "I no longer live in Oslo" takes back that the speaker's home is Oslo.

A small grammar reads English sentences: a subject ("I", "my sister Clara", "the dentist"), an adverb or a negation, and
a predicate that gives one attribute its value. A sentence that isn't understood claims nothing, so it never makes
anything else count as out of date.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from rag.claims import EXISTS, IT, TIME_OF_DAY, Claim, attribute_named, resolved
from rag.languages import language_of
from rag.lexical import EMPTY, WORD, words
from rag.phrasing import plain
from rag.stated import in_english

GRAMMAR = 2
"""Incremented when the grammar changes such that all turns must be read again (rag/claimed.py)."""


def claims(text: str) -> list[Claim]:
    """Return the claims in the order of the text, including claims about one subject that end each other."""
    found: list[Claim] = []
    if (english := in_english(text)) or language_of(text) is not None:
        text = english
    text = re.sub(r"\s+", " ", text.replace("’", "'").replace("—", ", ").replace("–", ", "))
    for sentence in _SENTENCE.findall(text):
        if sentence.endswith("?") or _ASKS.match(sentence):
            continue
        sentence = plain(sentence.strip().rstrip(" .!;"))
        sentence = _OPENING.sub(lambda opening: opening[1].replace(",", ""), sentence, count=1)
        for clause in _CLAUSE.split(sentence):
            for part in _coordinated(clause.strip(" ,")):
                for claim in _read(part, found[-1] if found else None):
                    found.append(resolved(claim, found, found) or claim)
    return found


# Sentences and clauses

_SENTENCE = re.compile(r"[^.!?;\n]+(?:[.](?=\w)[^.!?;\n]*)*[.!?;]?")
_PRONOUN = r"(?:i|we|my|our|he|she|they|it|his|her|their|its|the)\b"
_LATELY = r"(?:(?:but |and )?(?:now|today|these days|nowadays|currently|since \w+(?: \w+)?),? )?"
_OPENING = re.compile(r"^\s*((?:(?:actually|no|sorry|wait|oh|well|correction)\b,? )+)", re.IGNORECASE)
_UNREAL = "".join(
    rf"(?<!\b{word} )"
    for word in "if when whether wish that where said think hope until before while unless than who which".split()
)
_CLAUSE = re.compile(
    rf",?\s+(?:and|but|because|so|then)\s+(?={_LATELY}{_PRONOUN})|,\s*(?={_LATELY}(?:{_PRONOUN}|"
    rf"(?:but |and )?(?:people |they )?call me\b))"
    r"| (?=(?:now )?(?:i|we) (?:now |do not |no longer )?(?:live|moved|work|am|go by|like|hate|have)\b|my name is\b)"
    rf"{_UNREAL}",  # last, since few spaces get this far
    re.IGNORECASE,
)  # fmt: skip
_AND = re.compile(
    r",? and(?: then| now)? (?=(?:is|am|are|started|bought|became|become|settled|lives?|works?|got|moved|quit|stopped|"
    r"joined|adopted)\b)",
    re.IGNORECASE,
)
_ASKS = re.compile(
    r"\s*(?:what|who|whom|whose|where|when|which|why|how|is|are|am|was|were|do|does|did|can|could|will|would|shall|"
    r"should|has|tell me|remind me|if|unless|suppose|imagine)\b(?! not call)",
    re.IGNORECASE,
)
_LEAD = re.compile(
    r"(?:(?:actually|no|well|oh|sorry|so|and|but|now|today|yes|yeah|okay|ok|also|by the way|in fact|these days|"
    r"nowadays|"
    r"finally|anyway|um|uh|hi|hello|hey|then|guess what|from now on|recently|unfortunately|sadly|i mean|wait|"
    r"(?:since |as of )?(?:last|this) \w+|(?:since|as of|from) \w+day(?: on)?|(?:since|in) \d{4}|for \w+ \w+ now|"
    r"(?:just )?so you know|you (?:must |should )?know(?: that)?|for work|"
    r"(?:please )?remember(?: that)?|for now)[, ]+)+",
    re.IGNORECASE,
)


def _coordinated(clause: str) -> Iterator[str]:
    """Split the clauses of one subject: "my sister quit and became a nurse" is two."""
    first, *others = _AND.split(clause)
    yield first
    subject = _SUBJECT.fullmatch(_led(first)[0])
    for other in others if subject else ():
        assert subject is not None
        yield f"{_led(first)[0][: subject.start('rest')]}{other}"


def _led(clause: str) -> tuple[str, bool]:
    """Return the clause without its introductory words, and whether it had any."""
    led = _LEAD.match(clause)
    return (clause[led.end() :], True) if led else (clause, False)


# Subjects

_VERB = (
    r"(?:am|is|are|was|were|do|does|did|have|has|had|no longer|now|just|finally|also|really|still|used to|can|lives?|"
    r"lived|moved|works?|worked|goes|go|got|quit|left|lost|stopped|gave|sold|became|turned|likes?|loves?|hates?|"
    r"enjoys?|adores?|dislikes?|died|passed|ran|broke|changed|retired|relocated|settled|started|bought|own|drives?|"
    r"eats?|smokes?|drinks?|plays?|speaks?|call|will|stays?|resides?|separated|divorced|takes?|learns?|studies)"
)
_SUBJECT = re.compile(
    r"(?:(?P<self>i|we)(?= )|(?:(?:my|our) (?P<own>.+?)|the (?P<the>\w[\w' ]*?)|(?P<pronoun>he|she|they|it)"
    rf"|(?:his|her|their|its) (?P<theirs>names?)|(?P<named>[A-Z][\w-]+))(?= {_VERB}\b)) (?P<rest>.+)",
    re.IGNORECASE,
)
_KIN = {"mum": "mother", "mom": "mother", "mummy": "mother", "dad": "father", "daddy": "father",
        "grandma": "grandmother", "granny": "grandmother", "grandpa": "grandfather", "puppy": "dog",
        "kitten": "cat"}  # fmt: skip
_SUBJECT_WORDS = 4


def subject_named(said: str) -> str:
    """Normalize a subject: "new dog Rufus" is "dog rufus", "dog of my aunt" is "aunt's dog"."""
    said = re.sub(r"^(.+?) of (?:my |our |the )?(\w+).*$", r"\2's \1", said)
    said = re.sub(r"^(.+?) (?:next door|upstairs|downstairs)$", r"neighbour's \1", said)
    spoken = [word if word.endswith("'s") else " ".join(WORD.findall(word)) for word in said.lower().split()]
    named = [_KIN.get(word, word) for word in spoken if word not in {"", "new", "old", "own", "dear", "next", "young"}]
    return " ".join(named[:_SUBJECT_WORDS])


# Predicates

_NEW = re.compile(
    r"\b(?:now|finally|just|recently|instead|again|from now on|any ?more|any longer|no longer|new|changed)\b", re.I
)
_NO_MORE = re.compile(r"\b(?:any ?more|any longer|no longer)\b", re.IGNORECASE)
_ADVERB = re.compile(
    r"\b(?:now|finally|just|recently|currently|still|also|really|actually|already|originally|only|unfortunately|sadly|"
    r"truly|strictly|very much)\b ?",
    re.IGNORECASE,
)
_NOT = re.compile(r"\b(?:(?:do|does|did) not(?= )|no longer|not|never)\b ?", re.IGNORECASE)
_TAIL = re.compile(
    r"(?:[, ]+(?:now|again|instead|any ?more|any longer|from now on|these days|nowadays|at the moment|at present|too|"
    r"please|though|actually|then|last \w+|this \w+|(?:since|in) (?:\d{4}|spring|summer|autumn|winter)|"
    r"\w+ (?:\w+ )?ago|already|for good|you know|as you know|as well|a lot|honestly|by the way|by profession|"
    r"for a living|after all|more than i should|with an app|so much|"
    r"yesterday|today|for (?:\w+ )?(?:years|months|weeks)(?: now)?))+$"
    r"|[, ]+(?:because|since(?! \w+$)|which|where|who|so i|that is where|and (?:i|we|my|it|now)|for (?:work|now|good|"
    r"a while|the moment))\b.*$",
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
    r"actress|barber|midwife|paramedic|surgeon|optician|physicist|chemist|biologist|historian|economist|banker|broker|"
    r"florist|fisherman|forester|roofer|welder|locksmith|bricklayer|seamstress|jeweller|brewer|barista|bartender|"
    r"receptionist|analyst|technician|surveyor|inspector|judge|social worker|caretaker|conductor|composer|dancer|"
    r"director|producer|publisher|interpreter|tutor|lecturer|headteacher|trainer|coach|nanny|childminder|carer|"
    r"gamekeeper|ranger|zookeeper|guide|flight attendant|steward|stewardess|courier|trucker|mayor|clerk|salesman|"
    r"saleswoman|shopkeeper|grocer|entrepreneur)"
)
_CAR = (
    r"(?:volvo|toyota|fiat|skoda|tesla|mazda|renault|honda|volkswagen|vw|golf|polo|audi|bmw|mercedes|opel|vauxhall|"
    r"ford|"
    r"seat|peugeot|citro[eë]n|dacia|hyundai|kia|nissan|suzuki|subaru|mitsubishi|mini|jaguar|land rover|jeep|porsche|"
    r"chevrolet|chevy|chrysler|dodge|buick|cadillac|lexus|saab|lada|alfa romeo|byd|polestar)"
)
_GONE = (
    rf"(?:have |has |had )?(?:died|passed away|left us|run away|ran away|broke(?: down)?|{_BE} (?:dead|gone|stolen|"
    rf"sold|"
    rf"broken|killed|run over|written off|over|off|cancelled|canceled|called off|history|no more|put down|put to sleep)"
    r"|been (?:stolen|sold|put down|put to sleep|cancelled|canceled))"
)
_THEN = r"(?: (?:in|on|last|this|at|after|of|from|by|because|when|a|two|over)\b.*)?"
_DETERMINER = (
    r"(?:(?:an?|my|our|the|any|one|two|three|his|her|their|another|being|working as|learning|studying|taking|having|"
    r"new|old|little|small|big|young|second-hand|used) )*"
)
_THING = rf"{_DETERMINER}(?P<thing>\w+)"
_WHOLE_THING = rf"{_DETERMINER}(?P<thing>(?!home\b|work\b|early\b|it\b|that\b|this\b|up\b|off\b)[\w' ]+?)"
_OVER = (
    r"(?:quit|stopped|gave up|given up|give up|dropped|finished|completed|crashed|wrecked|scrapped|returned|donated|"
    r"cancelled|canceled|called off|sold|sell|lost|left|gone off|went off|"
    r"got rid of|gotten rid of|lost (?:all )?interest in|gave away|given away|let go of|say goodbye to|said goodbye to|"
    rf"had enough of|fallen out of love with|(?:{_BE}|grown|become|got|gotten) (?:so |really )?(?:tired|weary|sick|"
    rf"bored|fed up|done|finished|through|over)"
    r"(?: of| with)?)"
)
_EXCHANGED = (
    r"(?:switched|changed|went) from (?P<old>.+?) to (?P<new>.+)"
    r"|(?:have )?(?:left|quit|dropped) (?P<old3>.+?) for (?!good\b|now\b|a\b)(?P<new3>.+)"
    r"|(?:have )?(?:swapped|traded|exchanged|replaced) (?:in )?(?P<old2>.+?)(?: in)? (?:for|with|against) (?P<new2>.+)"
)

_PREDICATES: list[tuple[str, re.Pattern[str], bool, bool]] = [
    (attribute, re.compile(pattern, re.IGNORECASE), holds, changed)
    for attribute, pattern, holds, changed in [
        ("name", rf"{_BE} (?:called|named|known as) {_VALUE}", True, False),
        ("name", rf"goe?s? by {_VALUE}", True, False),
        ("name", rf"changed (?:my|his|her|their) name to {_VALUE}", True, True),
        ("age", rf"{_BE} (?P<value>[\w -]+?) years old\b.*", True, False),
        ("age", r"(?:have |has )?(?:turned|become|became) (?P<value>(?:\d+|\w+ty|\w+teen|(?:twen|thir|for|fif|six|"
                r"seven|eigh|nine)ty[ -]\w+))(?: years old)?", True, True),
        ("home", rf"used to live in {_VALUE}", False, False),
        ("home", rf"lived in {_VALUE}", False, False),
        ("home", rf"(?:have |has )?(?:moved|relocated|move)(?: house| back| over| away| out)*(?: from [\w ]+?)? to "
                 rf"{_PLACE}", True, True),
        ("home", rf"(?:have |has )?(?:moved|gone) (?:away|out) (?:from|of) {_PLACE}", False, True),
        ("home", rf"(?:have |has )?settled(?: down)? in {_PLACE}", True, True),
        ("home", rf"(?:{_BE} )?(?:lives?|living|resides?|residing|based|stay(?:s|ing))(?: with [\w ]+?| alone| "
         rf"together)? in "
                 rf"{_PLACE}", True, False),
        ("work", r"(?:used to work|worked) (?P<value>(?:as|at|for|in|with) .+)", False, False),
        ("work", r"(?:have |has )?(?:quit|left|lost)(?: working)?(?: (?:my|his|her|their|the|that) (?:\w+ )?(?:job|"
                 r"work|position))(?: (?P<value>(?:as|at|for|in|with) .+))?", False, True),
        ("work", rf"(?:{_BE} )?(?:starting|start) (?P<value>(?:at|as) .+?)", True, True),
        ("work", r"quit(?P<value>)", False, True),
        ("work", r"(?:quit|stopped) working(?: (?P<value>(?:as|at|for|in|with) .+))?", False, True),
        ("work", rf"{_BE} (?:fired|laid off|sacked|made redundant)(?: .*)?(?P<value>)", False, True),
        ("work", rf"(?:{_BE} )?(?:works?|working)(?: (?:freelance|part-time|full-time|mostly|mainly))? "
         rf"(?P<value>(?:as|at|for|in|with) .+)", True, False),
        ("work", r"(?:have |has )?(?:got |started |have |has |found |took )+(?:an? |the |my )?(?:new )?(?:job |work "
                 r"|working |position )?(?P<value>(?:as|at|for|with) .+)", True, True),
        ("work", rf"{_BE} (?P<value>(?:with|at) (?!me\b|us\b|you\b|him\b|her\b|my\b|our\b|the\b|home\b|work\b|an?\b|"
         rf"\d)(?-i:[A-Z]).+)",
         True, False),
        ("work", rf"(?:{_BE} |became |have become |has become )(?P<job>(?:an?|the) (?:[\w-]+ )?{_JOB})(?: (?:at|for|"
         rf"in|since) .+)?",
         True, False),
        ("work", rf"(?:{_BE} |have |has )?(?P<value>retired|unemployed|out of work)", True, True),
        ("marriage", rf"(?:{_BE} |got |have got |have |has |became )(?P<value>married|engaged|divorced|separated|"
                     rf"widowed|single)(?: (?:to|from) .+)?", True, True),
        ("marriage", r"(?:have |has )?(?P<value>separated|divorced|broke up|broken up|split up)(?: .*)?", True, True),
        ("diet", rf"(?:{_BE} |became |have become |turned |went |have gone |has gone |eat )(?:an? )?(?:strict "
         rf")?(?P<value>vegan|vegetarian|"
                 rf"pescatarian)", True, False),
        ("diet", r"(?:started eating|eats?) (?P<value>meat|everything)(?P<again>)", True, False),
        ("likes", r"(?:likes?|loves?|enjoys?|adores?) (?!to know|you\b|it\b|that\b|this\b|to see\b)(?P<value>.+)",
         True, False),
        ("likes", r"(?:hates?|dislikes?|can not stand|can not bear) (?!you\b|it\b|that\b|this\b)(?P<value>.+)",
         False, False),
        ("habit", r"(?:have |has )?(?:quit|stopped|gave up|given up) (?P<value>(?!learning\b|studying\b|being\b|"
         r"taking\b)"
                  r"\w+ing\b.*|\w+s\b)", False, True),
        ("learning", rf"(?:{_BE} |have |has )?(?:started |begun |began |taken up )?(?:(?:learning|learns?|studying|"
         rf"studies|study) |(?:taking|takes?) (?:an? )?"
                     r"(?:(?:course|class|lessons|classes) in ))(?P<value>(?!to\b).+)", True, False),
        ("learning", rf"(?:{_BE} )?(?:taking|take|takes|having) (?P<value>[A-Z]\w+) (?:lessons|classes|courses?)", True,
         False),
        ("car", r"drives? (?:an? )?(?P<value>(?:new )?(?!to\b|the\b)[\w-]+(?: [\w-]+)?)", True, False),
        ("car", rf"(?:have |has )?(?:have|has|own|owns|bought|got|switched to|drive) (?:an? )(?:new |old |used |"
         rf"little |red |black |white |blue )*"
                rf"(?P<value>{_CAR}(?: [\w-]+)?)", True, False),
        ("habit", rf"(?:{_BE} |have |has )?(?:taken up|took up|back to|gone back to|went back to|started|begun|began) "
                  rf"(?P<value>(?!working\b|as\b|at\b|with\b|the\b|my\b|an?\b)\w+.*)", True, True),
        ("habit", r"(?P<value>(?:smoke|drink|play|speak|drive|ride|study|run|swim|eat|do)s?\b.*)", True, False),
        (EXISTS, rf"(?:sold|lost|(?:gave|got) (?:away|rid of)) {_THING}(?: away)?", False, True),
        (EXISTS, rf"(?:gave|give|given|put|threw) {_WHOLE_THING} (?:away|down|to sleep)", False, True),
        (EXISTS, rf"(?:have )?{_OVER} {_WHOLE_THING}(?: (?:course|courses|lessons?|classes))?", False, True),
        (EXISTS, rf"(?:have |has )?(?:have|has|had|got|own|owns|bought|adopted) (?:(?=(?:an?|my|our|the|any|one|two|"
         rf"three|"
                 rf"another|no|new) ){_THING}|(?P<several>\w+s|children))(?P<more>,? .+)?", True, False),
    ]
]  # fmt: skip
_CALL = re.compile(
    r"(?:please )?(?:(?P<no>do not )|(?:(?:you (?:can|may|should|must)|people|everyone|everybody|(?:my |all "
    r")*friends|they)(?: all)? )?(?:now |just |all )*)(?:now )?call me (?P<value>\S.*)",
    re.IGNORECASE,
)
_MY = re.compile(
    r"(?:my|our) (?:new )?(?P<thing>(?:[\w'-]+ )*?(?:name|number|phone|mobile|address|e-?mail|birthday|password|"
    r"code|pin|job|boss|manager|doctor|teacher|age|size|height|weight|car|home|favou?rite(?: [\w-]+)+?))"
    rf" (?:is|are|was|were|(?P<once>used to be)) {_VALUE}",
    re.IGNORECASE,
)
_WHEN = re.compile(
    r"(?:is|are|was|were|has been|have been|takes place|starts)? ?(?:moved to |changed to |postponed (?:to|until) |"
    rf"put off until |rescheduled (?:for|to) )?(?P<value>{TIME_OF_DAY})",
    re.IGNORECASE,
)
_CORRECTION = re.compile(
    r"(?P<lead>(?:actually|no|not|sorry|correction|wait|oh|well|i (?:mean|meant)(?: to say)?|make (?:that|it)|rather|"
    r"it is|that is|it has been moved to|it was moved to|the name is)[, ]+)+(?P<value>\S.*)",
    re.IGNORECASE,
)
_NAMED = re.compile(r"[ ,]*(?:(?:called|named|by the name of) )?,? ?(?P<value>[A-Z][\w-]+)(?:,.*| who .*| and .*)?")


def _read(clause: str, last: Claim | None) -> Iterator[Claim]:
    rest, led = _led(clause)
    new = bool(_NEW.search(clause))
    if instead := re.search(r"(?:,? (?:now )?(?:instead of|rather than)) (.+)$", rest, re.IGNORECASE):
        yield _over(_tidied(instead[1]))
        rest = rest[: instead.start()]
    if match := _CALL.fullmatch(rest):
        yield from _valued("", "name", match["value"], holds=not match["no"], changed=True)
        return
    if found := list(_of_mine(rest, new)) or list(_of_anyone(rest, new, last)):
        yield from found
    elif (denied := re.fullmatch(r"(.+?),? (?:and )?not (?:as |at |in )?(.+)", rest)) and (
        found := list(_of_anyone(denied[1], True, last))
    ):
        yield from (_over(_tidied(denied[2])), *found)
    elif (match := _CORRECTION.fullmatch(clause)) and (last or led or new or re.search(r"\bmeant?\b|, not ", clause)):
        value = re.sub(r"^(?:it|that|the \w+) is (?:called )?", "", match["value"], flags=re.IGNORECASE)
        denied = re.match(r"(?:now )?not ", value)
        value = _ADVERB.sub("", value[denied.end() :] if denied else value)
        if len(words(value)) <= 8:
            yield from _corrected(value, not denied)


def _corrected(value: str, holds: bool) -> Iterator[Claim]:
    """Return the claims of a correction: "Turku, not Oslo"."""
    said = list(_valued(IT, "", value, holds, True))
    old = next((claim.value for claim in said if not claim.holds), "")
    for claim in said:
        yield Claim(IT, "", claim.value, claim.holds, True, replaces=old if claim.holds else "")


def _over(thing: str) -> Claim:
    """Return the claim that anything with that name or value is over."""
    return Claim(
        subject_named(re.sub(r"^(?:(?:the|my|our|an?|being|as|at|for|in) )+", "", thing)), EXISTS, "", False, True
    )


def _of_mine(clause: str, new: bool) -> Iterator[Claim]:
    """Return the claims about what belongs to the speaker: "my name is not Karin"."""
    plain, denied = _without_not(clause)
    match = _MY.fullmatch(_ADVERB.sub("", plain))
    if match is None:
        return
    thing, holds = match["thing"].lower(), not denied and not match["once"]
    thing = attribute_named(thing.replace("favorite", "favourite"))
    owner = re.fullmatch(
        r"(.+?)(?:'s|s') (?:new )?(name|age|job|work|home|number|phone number|favourite .+|birthday)", thing
    )
    if owner or (" " in thing and thing.endswith(" name")):
        subject, attribute = owner.groups() if owner else thing.rsplit(" ", 1)
        yield from _valued(subject_named(subject), attribute_named(attribute), match["value"], holds, new)
    else:
        value = re.sub(r"^an? (?:new |old )?", "", match["value"]) if thing == "car" else match["value"]
        yield from _valued("", thing, value, holds, new or "new " in clause.lower())


def _of_anyone(clause: str, new: bool, last: Claim | None) -> Iterator[Claim]:
    parted = _SUBJECT.fullmatch(clause)
    if parted is None:
        return
    plain, denied = _without_not(_ADVERB.sub("", parted["rest"]))
    plain = plain.strip()
    subject = "" if parted["self"] else subject_named(parted["own"] or parted["the"] or parted["named"] or "")
    if parted["pronoun"] or parted["theirs"]:
        if parted["theirs"]:
            plain = re.sub(r"^(?:is|are) ", "is called ", plain)
        if named := re.fullmatch(rf"is called {_VALUE}", plain, re.IGNORECASE):
            yield from _valued(last.subject if last and last.subject else IT, "name", named["value"], not denied, new)
            return
        if last is None:
            return
        subject = last.subject
        if parted["pronoun"] and parted["pronoun"].lower() == "it" and last.attribute != EXISTS:
            corrected = re.fullmatch(rf"(?:is|has been moved to|was moved to) {_VALUE}", plain, re.IGNORECASE)
            if corrected:
                yield Claim(IT, "", _tidied(corrected["value"]), not denied, new)
            return
    if subject and re.fullmatch(_GONE + _THEN, _TAIL.sub("", plain), re.IGNORECASE) and not denied:
        yield Claim(subject, EXISTS, "", holds=False, changed=True)
        return
    if parted["named"] and {word.lower() for word in plain.split()[:1]} & {"am", "do", "did"}:
        return
    if not subject and (exchanged := re.fullmatch(_EXCHANGED, _TAIL.sub("", plain), re.IGNORECASE)):
        old, now = (
            re.sub(r"^(?:(?:the|my|our|an?) )+", "", value) for value in exchanged.groups() if value is not None
        )
        yield Claim(IT, "", _tidied(now), True, True, replaces=_tidied(re.sub(r" (?:course|lessons?|class)$", "", old)))
        return
    short = _TAIL.sub("", plain)
    found = list(_predicated(subject, plain, denied, new))
    if found:
        yield from found
    elif (parted["own"] or parted["the"]) and (match := _WHEN.fullmatch(plain)):
        yield from _valued(subject, "time", match["value"], not denied, new or "moved" in plain)
    elif new and not denied and (place := re.fullmatch(rf"{_BE} (?:back )?in (?P<value>(?-i:[A-Z])[\w ]+)", short)):
        yield from _valued(subject, "home", place["value"], True, True)
    elif parted["self"] and denied and _NO_MORE.search(clause):
        yield _over(_tidied(re.sub(rf"^(?:{_BE}|have|can|will) (?:\w+ing )?(?:to )?", "", plain)))
    elif parted["self"] and (once := re.match(r"used to (?!hate|dislike|avoid)(?:\w+ )?(.+)", plain, re.IGNORECASE)):
        yield _over(_tidied(once[1]))


def _predicated(subject: str, plain: str, denied: bool, new: bool) -> Iterator[Claim]:
    short = _TAIL.sub("", plain)
    for attribute, pattern, holds, changed in _PREDICATES:
        match = pattern.fullmatch(short) or pattern.fullmatch(plain)
        if match is None:
            continue
        said = match.groupdict()
        if attribute == EXISTS:
            thing = subject_named(said.get("thing") or said.get("several") or "")
            if said.get("more") and denied:
                return
            if thing in EMPTY:
                continue
            if not subject:
                yield from _had(thing, said.get("more") or "", holds != denied, changed or new, denied)
            return
        if attribute == "likes" and denied and not holds:
            return  # "I do not hate it" isn't love
        value = f"as {said['job']}" if said.get("job") else said["value"] or ""
        yield from _valued(subject, attribute, value, holds != denied if holds else False, changed or new)
        return


def _had(thing: str, more: str, holds: bool, changed: bool, denied: bool) -> Iterator[Claim]:
    """Return the claims of having something: "I have a dog, Rufus", "a new car, a Fiat", "my haircut on Friday"."""
    when = re.fullmatch(rf"(?P<rest>(?:[\w-]+ )??)(?P<value>{TIME_OF_DAY})", more.strip(" ,"), re.IGNORECASE)
    if when and holds:
        yield from _valued(f"{thing} {when['rest']}".strip(), "time", when["value"], True, changed)
    elif thing == "job":
        if denied:
            yield Claim("", "work", "", holds=False, changed=True)
    elif thing == "car" and (make := re.fullmatch(rf",? ?an? ({_CAR}.*)", more.strip(), re.IGNORECASE)):
        yield Claim("", "car", make[1], True, changed)
    elif thing:
        yield Claim(thing, EXISTS, "", holds=holds, changed=changed)
        if holds and (named := _NAMED.fullmatch(more)):
            yield Claim(thing, "name", named["value"], True, changed)


def _valued(subject: str, attribute: str, value: str, holds: bool, changed: bool) -> Iterator[Claim]:
    """Return one claim per value: "Friday, not on Thursday" is two, and so is "not Karin but Petra"."""
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
    """Remove the verb's negation and return whether there was one; "Friday, not Thursday" keeps its own."""
    match = _NOT.search(text)
    if match is None or "," in text[: match.start()]:
        return text, False
    return text[: match.start()] + text[match.end() :], True
