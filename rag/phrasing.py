"""Normalize phrasing: write out short forms and turn roundabout sentences into plain ones.

"I'd rather be called Sasha than Alex" becomes "Call me Sasha, not Alex", so that rag/grammar.py needs only one form.
"""

from __future__ import annotations

import re

_ROOM = r"(?:little |small |new |nice |old |own )*(?:home|place|flat|apartment|room)"
_PUT_OFF = r"(?:moved|postponed|put off|rescheduled|changed|delayed|brought forward|shifted)"
_THEIRS = r"(?P<thing>(?:my|our|the) [\w' ]+?)"
_DAY = r"(?:on |to |at )?"

_PLAINER = [  # cues, one of which must occur (for speed); the pattern; its replacement
    (cue.split("|"), re.compile(pattern, re.IGNORECASE), plain)
    for cue, pattern, plain in [
        # short forms
        ("can", r"\bcan'?t\b|\bcannot\b", "can not"),
        ("won", r"\bwon'?t\b", "will not"),
        ("n", r"\b(do|does|did|is|are|was|were|have|has|had|would|could|should)n'?t\b", r"\1 not"),
        ("m", r"\bi'?m\b", "I am"),
        ("'re", r"\b(you|we|they)'re\b", r"\1 are"),
        ("'ve", r"\b(i|you|we|they)'ve\b", r"\1 have"),
        ("'d rather", r"\b(i|you|we|they)'d rather\b", r"\1 would rather"),
        ("'s", r"\b(it|that|he|she|there|here|name|number|who|what|where)'s\b(?! (?:name|birthday|got))", r"\1 is"),
        ("'s got", r"\b(he|she|it|there)'s got\b", r"\1 has"),
        ("have got", r"\b(i|we|you|they) have got\b", r"\1 have"),
        # tense and mood
        ("i have been", r"\b(i) have been (?=(?!to\b|there\b)\w)", r"\1 am "),
        ("have been", r"\b(we|they) have been (?=(?!to\b|there\b)\w)", r"\1 are "),
        ("has been", r"\bhas been (?=(?!to\b|there\b)\w)", "is "),
        ("had to", r"\b(i|we|he|she|they|my \w+|our \w+) had to (?=(?:be|give|put|sell|say|let|cancel|quit|leave)\b)",
         r"\1 "),
        (" to ", r"\b(i|we) have (?:decided|chosen) to\b", r"\1"),
        ("and i", r"\bmy (?:husband|wife|partner|girlfriend|boyfriend|family|kids|children|mother|brother|sister) and "
         r"i\b",
         "we"),
        # homes
        ("is in|is at", rf"\b(?:my|our) {_ROOM} is (?=(?:in|at) )", "I live "),
        (" in ", rf"\b(?:i|we) (?:have|rent|bought|found) an? {_ROOM} (?=in )", "I live "),
        ("lives there|live there", r"\b(has|have|had) an? (?:\w+ )?(?:house|home|place|flat) in ([\w ]+?) and lives? "
         r"there", r"lives in \2"),
        ("has left", r"\bhas left (\w[\w ]*?) for (\w+)", r"has moved from \1 to \2"),
        ("home", r"\b(?:i|we) (?:now )?call (\w+) (?:my |our )?home\b", r"I live in \1"),
        ("home", r"^(\w+) is (?:now )?(?:my|our) (?:new )?home\b", r"I live in \1"),
        ("home", r"^(?:now )?home is (?:now )?(?:in )?(?=[a-z])(?!where\b)", "I live in "),
        ("my home now|our home now", r"\b(\w+) is (?:my|our) home now\b", r"I live in \1 now"),
        (" in ", r"\b(i|we|he|she) (?:have )?(?:ended up|landed|wound up) in\b", r"\1 moved to"),
        # work
        ("employed", r"\b(am|is|are) employed (?:at|by|with)\b", r"\1 working for"),
        ("hired", r"\bi (?:was|am|got|have been) hired (?:by|at)\b", "I started working for"),
        ("joined", r"\bjoined (?=(?-i:[A-Z]))", "started working for "),
        ("hired me", r"^(.+?) (?:has )?hired me\b", r"I started working for \1"),
        ("company", r"\bmy (new )?company is\b", r"I work for \1"),
        ("contract", r"\bmy contract (?:at|with) (.+?) (?:has )?(?:ended|ran out|expired|is over)\b",
         r"I quit my job at \1"),
        ("living as", r"\b(?:earn|make)(s?) (?:my|our|his|her|a|their) living as\b", r"work\1 as"),
        ("employer", r"\bmy (new )?employer is\b", r"I work for \1"),
        ("fired|sacked|let|laid|made", r"\b(?:they|the company|my boss) (?:have |has )?(?:fired|sacked|let|laid|made) "
         r"(?:me|us)(?: go| off| redundant)?"
         r"\b(?=,|$|\.| )", "I was fired"),
        ("notice|resign", r"\bi (?:have )?(?:handed|gave|given) in my (?:notice|resignation)\b|\bi (?:have "
         r")?resigned\b", "I quit my job"),
        ("between jobs", r"\b(am|is|are) between jobs\b", r"\1 out of work"),
        ("switched|changed", r"\b(?:have |has )?(?:switched|changed) (?:careers|jobs|professions)\b(?: to (?=be))?",
         "has a new job"),
        # names and numbers
        (" me", r"\b(?:everyone|everybody|people|my friends|they all) calls me\b", "people call me"),
        ("call me", r"^(\S+) is what (?:people|they|my friends|everyone|everybody) calls? me\b", r"people call me \1"),
        ("renamed", r"\b(?:i|we) (?:have )?renamed (my|our) (\w+) (?:to |as )?(?=\w)", r"\1 \2 is now called "),
        ("whose name", r",? whose name is\b", " called"),
        ("and ", r" and (?:i |we )?(?:have )?(?:named|called) (?:it|him|her)\b", ", it is called"),
        ("named|call", r"\b(?:i|we) (?:have )?(?:named|call|called) (my|our) (\w+) (\w+)$", r"\1 \2 is called \3"),
        ("the name of", r"\bthe name of (my|our) (\w+) is\b", r"\1 \2 is called"),
        ("my |our ", r"^(my|our) (\w+), ([A-Z]\w+), (?:is|was|has|does|did|likes?|loves?)\b(?!.*\b(?:dead|gone)\b).*$",
         r"\1 \2 is called \3"),
        (" is my", r"^(\w+) is my (\w+)$", r"my \2 is called \1"),
        ("number", r"\bhere is my (new )?(phone |mobile )?number:?,? ", r"my \1phone number is "),
        ("me as", r"\b(?:people|they|everyone|everybody|friends|my friends)(?: all)? knows? me as\b", "people call me"),
        ("be called", r"\bi would (?:rather|prefer to) be called (\S+) than (\S+)", r"call me \1, not \2"),
        ("call", r"\b(?:and )?(?:we|i) (?:have )?(?:named|called|call) (?:it|him|her)\b", "it is called"),
        (", my ", r"^(\w+), my (\w+), (?!.*\b(?:died|dead|gone)\b).*$", r"my \2 is called \1"),
        ("me at|me on|me under", r"\b(?:reach|call|ring|text|phone) me (?:at|on|under) (?=\+?\d)",
         "reach me, my phone number is "),
        ("new number|new phone|new mobile", r"\bi have a new (?:phone |mobile )?number\b,? ?(?:it is )?",
         "my new phone number is "),
        ("changed to", r"\b(?:my|the) (phone |mobile )?number (?:has )?changed to\b", "my phone number is now"),
        ("number", r"\b(?:my|the) (?:old )?number (?:does not work|is dead|is gone)[\w ]*, (?:please )?use\b",
         "my phone number is now"),
        # what one likes best
        ("favourite|favorite", r"^(?:the )?([\w -]+?) is my favou?rite (\w+)$", r"my favourite \2 is \1"),
        ("best|most", r"^the (\w+) (?:that )?(?:i|we) (?:like|love) (?:best|most) is\b", r"my favourite \1 is"),
        ("of all", r"^of all (\w+?)s?,? i (?:like|love) ([\w ]+?) (?:the )?(?:best|most)$", r"my favourite \1 is \2"),
        ("is|are", r"^([\w -]+?) (?:is|are) (?:one of my favourite things|my passion|great fun)$", r"I like \1"),
        ("into|fond of|keen on|about|fan of|lover of", r"\bam (?:really |very |quite |so )*(?:into|fond of|keen on|"
         r"mad about|crazy about|an? (?:\w+ )?(?:fan|lover) of)"
         r"(?= )", "like"),
        ("to ", r"\b(i|we) (?:have )?(?:started|began|come|came|learned|learnt|begun|grown) to (?=(?:like|love|enjoy|"
         r"hate)\b)",
         r"\1 "),
        ("diet", r"\bam on an? (vegan|vegetarian) diet\b", r"am \1"),
        ("eating meat", r"\b(?:am|have gone|went|have started|started)(?: back)?(?: to)? eating meat\b", "eat meat"),
        ("knot|hitched", r"\b(?:tied the knot|got hitched)\b", "got married"),
        ("divorce", r"\bmy divorce (?:came through|is final|is through)\b", "I got divorced"),
        # what is over
        ("with us", r"\b(is|are) not with us\b", r"\1 dead"),
        ("home for", r"\b(?:i|we) (?:have )?found an? (?:new |good )*home for (\w+)", r"I gave \1 away"),
        ("for me", r"^([\w ]+?) (?:is|are) (?:no longer|not) for me\b", r"I am over \1"),
        ("there is no", r"\bthere is no (?=\w)", "I do not have a "),
        ("no more", r"\bno more ([\w ]+?) for (?:me|us)\b", r"I stopped \1"),
        ("cancel|called off", rf"\b(?:they|somebody|someone|we|i) (?:have )?(?:cancelled|canceled|called off) "
         rf"{_THEIRS}(?=$|,)",
         r"\g<thing> is cancelled"),
        # what is put off
        ("it is", rf"\b(?:they|somebody|someone|we|i) (?:have )?{_PUT_OFF} {_THEIRS}(?:,|;| and)? ?(?:so )?(?:it is|"
         rf"now it is)\b",
         r"\g<thing> is now"),
        ("it is", rf"\b{_THEIRS} (?:got|was|is|has been) {_PUT_OFF}(?:,|;| and) (?:so )?(?:it is|now it is)\b",
         r"\g<thing> is now"),
        ("to|until|for", rf"\b(?:they|somebody|someone|we|i|the \w+) (?:have |has )?{_PUT_OFF} {_THEIRS} (?:to|until|"
         rf"for) {_DAY}", r"\g<thing> is now on "),
        ("there is", r"\bthere is (?=(?:my|our) )", "I have "),
        ("there is", r"\bthere is an? (new )?(\w+) in (?:our|the|my) (?:house|home|flat)\b", r"we have a \1\2"),
        # slips
        ("i said", r"\bi said ([^,]+), but (?:i )?(?:meant|mean)(?: to say)? (.+)$", r"I meant \2, not \1"),
        ("why i said", r", i (?:do not know|have no idea) why i said (.+)$", r", not \1"),
        ("misspoke|wrong|mistake|misheard", r"\b(?:i misspoke|i was wrong|that was wrong|my mistake|you got (?:that|"
         r"it) wrong|you misheard)[,;:]? ", "no, "),
    ]
]  # fmt: skip


def plain(sentence: str) -> str:
    """Return one sentence, without its full stop, in the plain words that the grammar knows."""
    lower = sentence.lower()
    for cues, pattern, plainer in _PLAINER:
        for cue in cues:  # few cues ever match: checking them takes nearly all of the time
            if cue in lower:
                sentence = pattern.sub(plainer, sentence)
                lower = sentence.lower()
                break
    return sentence
