"""Checks what a very small model writes, sentence by sentence, before it is said aloud."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import SequenceMatcher

from pipeline.llm import Prompt
from pipeline.llm.builtin.turn import Turn

MOST_WORDS = 40
OPENING_WORDS = 4
"""Most words of a sentence that only leads to the next, such as "How lovely!"."""
ALIKE = 0.85
"""SequenceMatcher's ratio above which two sentences say the same."""

_END = re.compile(r"(?<![.!?…])[.!?…]+[\"”’']?(?=\s)")
_UNSPEAKABLE = re.compile(r"[][(){}<>*#_|`~\\=^]|^\W*(?:[-–—•]\s|\d+[.)](?:\s|$))|https?:|\n")
_LABEL = re.compile(r"^\W*(?:[A-Z]\w*\s?){1,3}:|\b(?:user|assistant|system|question|answer):", re.IGNORECASE)
_ITSELF = re.compile(
    r"\b(?:as an ai|language model|ai (?:assistant|model)|smollm|hugging ?face|openai|qwen|alibaba|"
    r"one short sentence|few words first|friendly companion|my name is|i was (?:born|raised|created|trained)|i grew up|"
    r"my (?:\w+ )?(?:wife|husband|kids?|children|son|daughter|mother|father|mom|dad|parents|family|friends?|brother|"
    r"sister|dog|cat|house|home|job|car|childhood|school|boss|boyfriend|girlfriend|birthday))\b",
    re.IGNORECASE,
)
"""Claims about what it is, or about a life of its own, all of which are invented."""
_MISPLACED = re.compile(
    r"\b(?:yesterday|last (?:night|week|month|year|summer))\b|\bwhat(?:'s| is) your name\b|"
    r"^you(?:'re| are) welcome\b|\bsorry for your loss\b|"
    r"\bi(?:'ve| have)? (?:just )?(?:went|saw|ate|bought|visited|lived|drove|travel+ed|been to|worked|met|woke|"
    r"slept|cooked|"
    r"played|watched|read)\b",
    re.IGNORECASE,
)
"""Things it cannot have done, and answers to things nobody said; the rules know when to thank and greet."""
_UNKNOWABLE = re.compile(
    r"\b\d{1,2}[:.]\d\d\b|\b\d{1,2} ?(?:a\.?m|p\.?m|o'clock)\b|[$€£%°]|\bdegrees\b|\bdollars?\b|\b(?:19|20)\d\d\b|"
    r"\b(?:weather|forecast|temperature|sunny|rainy|cloudy) (?:is|will|in|today)\b|\bto(?:day|morrow) (?:is|will)\b|"
    r"\bit is (?:currently|now)\b|"
    r"\byour (?:name|dog|cat|birthday|phone|address|wife|husband|mother|father|brother|sister|friend)(?:'s \w+)? "
    r"(?:is|was|are)\b|\byou (?:told|said|mentioned)\b|\b(?:news|headlines?|score) (?:is|are|was|today)\b",
    re.IGNORECASE,
)
"""What only the rules know, or nobody here: times, figures, the weather, the user's name."""
_STUTTER = re.compile(r"\b(\w+)(?:\W+\1\b){2,}|\b(\w+ \w+ \w+)\b.*\b\2\b", re.IGNORECASE)

_WRONG = (_UNSPEAKABLE, _LABEL, _ITSELF, _MISPLACED, _UNKNOWABLE, _STUTTER)

_FOREIGN = frozenset(
    "ich du und wie geht es dir bist habe nicht ist der das wie wer wo wetter bitte danke guten heißt heute "
    "mir kannst was mein "
    "je tu vous la le maison est les des où quel quelle comment bonjour merci suis fait une mon avec pour dans "
    "el los las qué cómo dónde hola gracias estás está eres tiempo una mi muy por favor como soy hace "
    "il che sono sei come dove ciao grazie oggi tempo bella mio chi chiama "
    "você obrigado olá não tudo bem meu está hoje "
    "ik jij het een niet hoe waar dank goed "
    "jag och inte hur är tack var".split()
)


class Sentences:
    """Cuts text into whole sentences as it is written."""

    def __init__(self) -> None:
        self._text = ""

    def feed(self, piece: str) -> list[str]:
        """Return the sentences that are complete now."""
        self._text += piece
        found: list[str] = []
        while end := _END.search(self._text):
            found.append(self._text[: end.end()].strip())
            self._text = self._text[end.end() :]
        return found

    @property
    def too_long(self) -> bool:
        return len(self._text.split()) > MOST_WORDS

    def finish(self) -> str:
        """Return the rest if it is a complete sentence, else an empty text."""
        rest = self._text.strip()
        return rest if re.search(r"[.!?…][\"”’']?$", rest) else ""


class Saying:
    def __init__(self, prompt: Prompt, examples: Iterable[str]) -> None:
        """`examples` are the prompt's example answers, which must not be repeated either, except for their openings."""
        history = prompt.history
        shown = [each for each in _sentences(examples) if len(each.split()) > OPENING_WORDS]
        self._said = [*_sentences(message.text for message in history if message.role == "assistant"), *shown]
        self._asked = plain(history[-1].text) if history else ""
        self._name = Turn(prompt, "").own_name

    def opens_as_before(self, sentence: str) -> bool:
        """Whether the sentence is an opening that was said before; what follows it may still be new."""
        text = plain(sentence)
        return 0 < len(text.split()) <= OPENING_WORDS and text in self._said

    def fits(self, sentence: str) -> bool:
        """Whether the sentence may be said; if so, it counts as said from now on."""
        text = plain(sentence)
        words = text.split()
        wrong = (
            not words
            or any(pattern.search(sentence) for pattern in _WRONG)
            or any(ord(letter) > 0x24F and letter.isalpha() for letter in sentence)
            or any(alike(text, other) for other in self._said)
            or (len(words) > 2 and alike(text, self._asked))
        )
        if not wrong:
            self._said.append(text)
        return not wrong


def _sentences(texts: Iterable[str]) -> list[str]:
    return [plain(sentence) for text in texts for sentence in re.split(r"(?<=[.!?…])\s+", text)]


def plain(text: str) -> str:
    return " ".join(re.findall(r"[^\W_]+", text.lower().replace("’", "'").replace("'", "")))


def alike(one: str, other: str) -> bool:
    return one == other or (
        abs(len(one) - len(other)) < 0.3 * max(len(one), len(other))
        and SequenceMatcher(None, one, other).ratio() > ALIKE
    )


def foreign(text: str) -> bool:
    """Whether the text is in a language other than English, by its letters and its commonest words."""
    letters = [letter for letter in text if letter.isalpha()]
    if sum(ord(letter) > 0x24F for letter in letters) * 2 > len(letters) > 0:
        return True
    words = plain(text).split()
    strange = sum(word in _FOREIGN or any(letter > "\x7f" for letter in word) for word in words)
    return strange >= 2 and strange * 5 >= 2 * len(words)
