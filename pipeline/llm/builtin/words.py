"""Normalises what was heard: speech recognition gives no punctuation, and spells the same phrase in many ways."""

from __future__ import annotations

import re
from datetime import date, datetime
from difflib import SequenceMatcher

_CONTRACTIONS = (
    (
        r"\b(what|who|where|when|how|that|it|he|she|there|here|today|name)'?s\b(?! (?:name|birthday|date|day)\b)",
        r"\1 is",
    ),
    (r"\bi'?m\b", "I am"),
    (r"\b(you|we|they)'re\b", r"\1 are"),
    (r"\b(i|you|we|they)'ve\b", r"\1 have"),
    (r"\b(i|you|we|they|he|she|it)'ll\b", r"\1 will"),
    (r"\bca(?:n'?t|nnot)\b", "can not"),
    (r"\bwo n'?t\b|\bwon't\b", "will not"),
    (r"\b(do|does|did|is|are|was|were|have|has|had|would|could|should)n'?t\b", r"\1 not"),
    (r"\bfavorite\b", "favourite"),
    (r"\bgonna\b", "going to"),
    (r"\bwhat (?:are|or) the time\b", "what is the time"),
)
_LEAD_IN = re.compile(
    r"^(?:(?:um+|uh+|er+|hm+|well|so|okay|ok|oh|ah|hey|hi|hello|please|and|but|actually|no|yes|yeah|now|then|right|wait|"
    r"look|listen|parley|by the way|i mean|(?:can|could|would|will) you (?:please )?(?:just )?tell me|"
    r"i (?:want|would like|'d like) to know|do you happen to know)[, ]+)+",
    re.IGNORECASE,
)
_SMALL_WORDS = frozenset(
    "a about am an and are as at be been but by called can could did do does for from had has have he her his how i in "
    "is it name named "
    "know me my not of on or our remember said say she so tell that the their them there they this to told us was we "
    "were what when where which who why will with would you your".split()
)

_SMALL_IN_NAMES = frozenset("in at near on by of the and de la van von der".split())


def tidy(text: str) -> str:
    """Return the text with one spelling per phrase, single spaces, and only apostrophes and numbers' punctuation."""
    text = text.replace("’", "'").replace("`", "'")
    text = re.sub(r"(?<=\d),(?=\d{3}\b)", "", text)
    text = re.sub(r"(?<!\d)[.:,]|[.:,](?!\d)|[^\w\s'.:,%+*/=-]", " ", text)
    text = re.sub(r"\s+", " ", text).strip()
    for pattern, replacement in _CONTRACTIONS:
        text = re.sub(pattern, replacement, text, flags=re.IGNORECASE)
    return text


def without_lead_in(text: str) -> str:
    """Return `text` (tidied) without its lead-in: "well hello could you tell me what…" -> "what…"."""
    rest = _LEAD_IN.sub("", text)
    return text if rest.lower() in ("", "parley", "there", "again", "you") else rest


def content_words(text: str) -> set[str]:
    """Return the words that carry the topic, in a rough singular."""
    words = re.findall(r"[^\W_]+", re.sub(r"'s?\b", "", text.lower()))
    return {singular(word) for word in words} - _SMALL_WORDS


def singular(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def alike(one: str, other: str) -> bool:
    """Whether two words or phrases may be the same, misheard or in another form."""
    one, other = singular(one.lower().removesuffix("'s")), singular(other.lower().removesuffix("'s"))
    return one == other or (min(len(one), len(other)) > 3 and SequenceMatcher(None, one, other).ratio() >= 0.8)


def as_name(value: str) -> str:
    """Return a name as it is written; recognisers give "rufus", a keyboard may give "McKenna"."""
    if value != value.lower():
        return value
    return " ".join(word if word in _SMALL_IN_NAMES else word[:1].upper() + word[1:] for word in value.split())


def some_time_ago(at: date, now: datetime) -> str:
    """Return when something was said, as people put it: "Earlier today", "Yesterday", "On Tuesday", "On May 3"."""
    days = (now.date() - at).days
    if days <= 0:
        return "Earlier today"
    if days == 1:
        return "Yesterday"
    if days < 7:
        return f"On {at:%A}"
    return f"On {at:%B} {at.day}" + (f", {at.year}" if at.year != now.year else "")
