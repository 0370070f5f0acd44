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
        # Serials, seats and types are no measures
        ("two MP3s", "two MP threes"),
        ("a Boeing 737s fleet", "a Boeing seven thirty-sevens fleet"),
        ("your iPhone 6s", "your iPhone six s"),
        ("seat 14A, Gate 12A", "seat fourteen A, Gate twelve A"),
        ("1h 30m", "one hour thirty minutes"),
        # Money
        ("$5k, $1.5M, $20bn", "five thousand dollars, one point five million dollars, twenty billion dollars"),
        ("20 € or 5€", "twenty euros or five euros"),
        ("US$40", "forty US dollars"),
        ("$.50", "fifty cents"),
        ("€1.200 or 3,50 €", "one thousand, two hundred euros or three euros and fifty cents"),
        ("$3/month", "three dollars per month"),
        # Ranges
        ("$10-20", "ten to twenty dollars"),
        ("8-10 pm, 9am-5pm", "eight to ten p.m., nine a.m. to five p.m."),
        ("9:00-17:00", "nine o'clock to five p.m."),
        ("1914-1918", "nineteen fourteen to nineteen eighteen"),
        ("Pages 100-150", "Pages one hundred to one hundred and fifty"),
        ("10%-20%", "ten percent to twenty percent"),
        ("May 5-7", "May fifth to seventh"),
        # Dates and years
        ("12/25/1984", "December twenty-fifth, nineteen eighty-four"),
        ("25/12/1984", "the twenty-fifth of December, nineteen eighty-four"),
        ("3/4/2020", "three, four, twenty twenty"),
        ("(1999) and March 2020", "nineteen ninety-nine, and March twenty twenty"),
        ("in 2000 cases", "in two thousand cases"),
        # Numbers that count nothing
        ("555-123-4567", "five five five, one two three, four five six seven"),
        ("your PIN is 4921", "your PIN is four nine two one"),
        ("ISBN 978-3-16", "ISBN nine seven eight, three, one six"),
        ("Dial 911 now", "Dial nine one one now"),
        ("The code is 200 lines", "The code is two hundred lines"),
        # Arithmetic
        ("10 - 4 = 6", "ten minus four equals six"),
        ("2 * 3", "two times three"),
        ("2^10 and √16", "two to the power of ten and the square root of sixteen"),
        ("x² + y²", "x squared plus y squared"),
        ("20 m²", "twenty square metres"),
        (r"$\frac{1}{2}$ of \(x^2\)", "one half of x squared"),
        ("2 1/2 cups", "two and a half cups"),
        ("24/7 and 50/50", "twenty-four seven and fifty-fifty"),
        # What is only looked at
        ("It is true [1][2].", "It is true."),
        ("So it is【5†source】.", "So it is."),
        ("R&amp;D", "R and D"),
        ("I ❤️ you. ❤️", "I love you."),
        ("¯\\_(ツ)_/¯ well (^_^) :-)", "well"),
        ("*laughs softly* Yes. [sighs] (whispers) No.", "Yes. No."),
        ("*really* good", "really good"),
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
