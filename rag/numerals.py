"""Number words: "twenty-one", "a couple of", "the fifth"."""

from __future__ import annotations

import re

ONES = "one two three four five six seven eight nine".split()
TENS = {word: 10 * ten for ten, word in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split(), 2)}
NUMBERS = (
    {"a": 1, "an": 1, "couple of": 2, "a couple of": 2, "few": 3, "a few": 3, "several": 4}
    | TENS
    | {
        word: number
        for number, word in enumerate(
            [*ONES, *"ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen".split()], 1
        )
    }
)
NTH = {
    word: number
    for number, word in enumerate(
        "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth "
        "fifteenth sixteenth seventeenth eighteenth nineteenth twentieth".split(),
        1,
    )
} | {"thirtieth": 30}
COUNTED = rf"\d{{1,4}}|(?:{'|'.join(TENS)})[ -](?:{'|'.join(ONES)})|{'|'.join(sorted(NUMBERS, key=len, reverse=True))}"
"""A pattern of any number, in digits or in words."""


def number(words: str) -> int:
    """Return the number of "12", "twelve", "twenty-one" or "a few"."""
    words = " ".join(words.lower().split())
    if words.isdigit():
        return int(words)
    return NUMBERS[words] if words in NUMBERS else sum(NUMBERS[word] for word in re.split("[ -]", words))


def nth(words: str) -> int:
    """Return the number of "5", "fifth" or "twenty-first"."""
    if words.isdigit():
        return int(words)
    *tens, last = re.split("[ -]", words.lower())
    return sum(NUMBERS[ten] for ten in tens) + NTH[last]
