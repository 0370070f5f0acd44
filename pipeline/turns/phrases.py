"""Phrases people say over a reply: assent that lets it go on, commands that end it, and words that open a turn."""

from __future__ import annotations

import re

_HUMS = (
    "[hm]+|u+h+|u+m+|a+h+|o+h+|aw+|aha|oho|uhhuh|huh|(?:ha|he)+h?|e+r+m?|"
    "yeah|yea|yes|yep|yup|right|okay|ok|alright|sure|wow|whoa|really|thanks|gotcha|"
    "exactly|absolutely|definitely|totally|certainly|indeed|precisely|agreed|understood|seriously"
)
_PRAISE = (
    "right|true|great|good|nice|cool|fine|fair|sweet|neat|fun|funny|sad|lovely|perfect|interesting|amazing|awesome|"
    "wonderful|fantastic|excellent|brilliant|incredible|beautiful|impressive|fascinating|crazy|wild|clever|smart"
)
_PHRASES = (
    "i see",
    "i know",
    "i agree",
    "i understand",
    "i get it",
    "i think so",
    "i guess so",
    "i believe you",
    "i (?:did not|didn't|never) (?:know|knew) that",
    "i had no idea",
    "i (?:can't|cannot) wait",
    "got it",
    "get it",
    "of course",
    "for sure",
    "for real",
    "all right",
    "thank you(?: very much| so much)?",
    "yes please",
    "(?:that )?makes (?:a lot of )?sense",
    "(?:fair|good|true|sure|funny|strangely|interestingly) enough",
    "good (?:point|idea|one|for you)",
    "well done",
    "not bad",
    "too bad",
    "oh no",
    "no (?:way|kidding|problem|worries|doubt|wonder|idea)",
    "don't worry",
    "you don't say",
    "you're right",
    "you are right",
    "is that (?:so|right)",
    "who knew",
    "why not",
    "(?:oh )?my (?:god|gosh|goodness|word)",
    "(?:please )?(?:go on|go ahead|carry on|keep going|keep talking|continue)",
    "(?:do not|don't|never) (?:stop|pause|wait)",
    "non stop",
    "tell me more",
    "what an? (?:story|shame|pity|surprise|relief|day|world|life|thing|joke|treat|coincidence)",
)
ASSENT = re.compile(
    rf"\b(?:{'|'.join(_PHRASES)}"
    rf"|(?:(?:that's|thats|that is|it's|it is|sounds|how|so|very|pretty|quite|really) )*(?:{_PRAISE})"
    rf"|{_HUMS})\b"
)
"""What a listener says to mean "go on" (backchannels, Yngve 1970), or to tell the voice not to stop."""

COMMAND = re.compile(
    r"\b(?:stop|wait|pause|halt|cancel|abort|enough|silence|quiet|mute|hush|shush|sh+|freeze"
    r"|be silent|shut up|shut it|zip it|never ?mind|time out|no more"
    r"|(?:hold|hang) (?:on|it|up|that|your horses)"
    r"|(?:cut|knock) (?:it|that) (?:out|off)"
    r"|(?:forget|skip|drop|quit|leave) (?:it|this|that)"
    r"|(?:scratch|not) that|no no"
    r"|(?:one|a|just a|half a) (?:second|sec|moment|minute)"
    r"|excuse me|(?:that's|thats|that is|you're|you are) (?:wrong|not))\b"
)
"""Words that end a reply as soon as they are heard."""

OBJECTION = re.compile(
    r"\b(?:no|nope|nah|nuh|not|never|wrong|incorrect|false|untrue|mistake|nonsense|\w+n't|cannot|but|actually|however"
    r"|what|what's|why|who|who's|how|when|where|where's|which|hello|hey|listen|sorry|pardon|question|goodbye"
    r"|help|again|repeat|louder|slower|faster|shorter|quieter|skip|next|back|instead|another|different|else"
    r"|(?:can|could|would|will|do|did|are|were) (?:you|we|i|it|they|he|she)|is (?:it|he|she|that|this|there)"
    r"|let (?:me|us)|let's|i (?:mean|meant|said|asked|want|wanted|need|have|thought|was)|i'd like|tell me|give me"
    r"|speak up|slow down|speed up|change the|move on)\b"
)
"""Words that object, ask or open a turn. They take the turn once the speech is over. Any other single word may as well
be a misheard "mm-hmm"."""


def normalized(transcript: str) -> str:
    """Return the words in lower case with one space between them, without punctuation and hyphens."""
    return " ".join(re.findall(r"[^\W\d_]+(?:'[^\W\d_]+)*", transcript.lower().replace("’", "'")))


def without_assent(words: str) -> str:
    """Return what is left of normalized words without everything that means "go on"."""
    return " ".join(ASSENT.sub(" ", words).split())
