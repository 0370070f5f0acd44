"""What is said for what is written."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.tts.speakable import CODE, speakable


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("", ""),
        ("Hello there.", "Hello there."),
        ("I don't know, Zoë.", "I don't know, Zoë."),
        # Times
        ("It is 3:20 p.m.", "It is three twenty p.m."),
        ("It is 15:05 now.", "It is three oh five p.m. now."),
        ("At 3:00 we meet.", "At three o'clock we meet."),
        ("At 5:30pm, then.", "At five thirty p.m., then."),
        ("From 9 a.m. to 5pm", "From nine a.m. to five p.m."),
        ("It took 1:02:03", "It took one hour two minutes three seconds"),
        # Dates and years
        ("Today is Saturday, November 21, 2026.", "Today is Saturday, November twenty-first, twenty twenty-six."),
        ("on 2026-11-21", "on November twenty-first, twenty twenty-six"),
        ("on 21 November 2026", "on the twenty-first of November, twenty twenty-six"),
        ("in 1984 and since 2005", "in nineteen eighty-four and since two thousand and five"),
        ("the 1990s", "the nineteen nineties"),
        ("the 80s", "the eighties"),
        ("on May 3rd", "on May third"),
        # Numbers
        ("7", "seven"),
        ("3.14", "three point one four"),
        ("1,250 people", "one thousand, two hundred and fifty people"),
        ("-5 or −3", "minus five or minus three"),
        ("the 21st", "the twenty-first"),
        ("20% off", "twenty percent off"),
        ("5–10 or 5-10", "five to ten or five to ten"),
        ("1/2 of 3/4", "one half of three quarters"),
        ("½ cup", "one half cup"),
        ("#5", "number five"),
        ("version 3.11.2", "version three point eleven point two"),
        ("call 015112345678", "call zero one five one one two three four five six seven eight"),
        ("GPT4 and mp3", "GPT four and mp three"),
        # Money and measures
        ("$3.50 or €1 or £2.01", "three dollars and fifty cents or one euro or two pounds and one penny"),
        ("$5 million", "five million dollars"),
        ("5 km at 60 km/h", "five kilometres at sixty kilometres per hour"),
        ("1 kg, 2 kg", "one kilogram, two kilograms"),
        ("-5 °C", "minus five degrees Celsius"),
        ("16 GB and 6 ft", "sixteen gigabytes and six feet"),
        ("5 more", "five more"),
        # Short forms and signs
        ("Dr. Smith, e.g. him", "Doctor Smith, for example him"),
        ("A & B", "A and B"),
        ("3 + 4 = 7", "three plus four equals seven"),
        ("3*4", "three times four"),
        ("a → b", "a to b"),
        ("wait — what", "wait, what"),
        ("He left (early).", "He left, early."),
        ("“Quoted” and ‘so’", "Quoted and so"),
        ("Really?! No...", "Really? No..."),
        # Markdown
        ("**bold**, *it*, __so__, ~~gone~~", "bold, it, so, gone"),
        ("# Title\n\nText", "Title. Text"),
        ("- one\n- two", "one. two"),
        ("1. Milk\n2. Bread", "one: Milk. two: Bread"),
        ("> quoted", "quoted"),
        ("| a | b |\n|---|---|\n| 1 | 2 |", "a, b. one, two."),
        ("a\n\n---\n\nb", "a. b"),
        ("see [the docs](https://x.org/a?b=1)", "see the docs"),
        ("![a cat](cat.png) here", "a cat here"),
        ("run `foo_bar()` now", "run foo bar now"),
        ("```python\nprint(1)\n```\nThat is it.", f"{CODE} That is it."),
        ("a <b>c</b> d", "a c d"),
        # Addresses
        ("Visit https://docs.python.org/3/x.html, please.", "Visit docs dot python dot org, please."),
        ("on www.example.com.", "on example dot com."),
        ("mail anna.b@example.com", "mail anna dot b at example dot com"),
        # Emoji
        ("Hello 😀👍🏽 there ✅", "Hello there"),
        ("👩‍👩‍👧", ""),
        ("...", ""),
    ],
)
def test_what_is_said(written: str, said: str) -> None:
    assert speakable(written) == said


ANYTHING = st.text(max_size=200)
WRITTEN = st.text(alphabet="aBcdms .,:;!?-–'\"()[]*_`#|<>/\\&%$€°+=~@\n0123456789é😀", max_size=120)


@given(ANYTHING | WRITTEN)
@example("²³ ٣ Ⅷ ①")
def test_nothing_unspeakable_remains(text: str) -> None:
    said = speakable(text)
    assert re.fullmatch(r"[^\d\n\t]*", said)
    for character in said:
        assert character.isalpha() or character in " .,:;?!'-" or not character.isascii()
    assert "  " not in said
    assert said == said.strip()


@given(st.lists(st.from_regex(r"[a-z]{3,9}", fullmatch=True), max_size=30))
def test_no_word_is_lost(words: list[str]) -> None:
    assert speakable(" ".join(words)).split() == words


@given(st.lists(st.from_regex(r"[a-z]{4,9}", fullmatch=True), min_size=1, max_size=8), st.integers(0, 10**15))
def test_no_word_beside_a_number_is_lost(words: list[str], number: int) -> None:
    said = speakable(f"{' '.join(words)} {number} {' '.join(words)}").split()
    assert said[: len(words)] == words
    assert said[-len(words) :] == words


@given(WRITTEN)
def test_what_can_be_said_is_said_as_it_is(text: str) -> None:
    once = speakable(text)
    assert speakable(once) == once


@pytest.mark.parametrize(
    "text", ["(" * 5000, "*" * 5000, "[a](" * 2000, "1," * 5000, "a@" * 3000, "`" * 4999, "- " * 4000]
)
def test_long_nonsense_takes_no_long_time(text: str) -> None:
    """Catastrophic backtracking would not return within the suite's life."""
    speakable(text)
