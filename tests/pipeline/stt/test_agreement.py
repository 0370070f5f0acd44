"""Which words stay: with decodings as Whisper gives them, growing, changing their minds, and cut off."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.stt import Word
from pipeline.stt.agreement import Agreement, text_of


def words(text: str, start: float = 0.0) -> list[Word]:
    """Half a second each, with Whisper's leading spaces."""
    return [Word(f" {word}", start + 0.5 * n, start + 0.5 * n + 0.4) for n, word in enumerate(text.split())]


def test_a_word_is_settled_when_two_decodings_agree_on_it() -> None:
    agreement = Agreement()
    agreement.decoded(words("the cat sat on"))
    assert text_of(agreement.settled) == ""
    agreement.decoded(words("the cat sat in the"))
    assert text_of(agreement.settled) == "the cat sat"
    assert text_of(agreement.words) == "the cat sat in the"
    agreement.decoded(words("the cat sat in the hat"))
    assert text_of(agreement.settled) == "the cat sat in the"


def test_case_and_punctuation_are_no_disagreement() -> None:
    agreement = Agreement()
    agreement.decoded(words("Well. my dear"))
    agreement.decoded(words("well, my dear friend"))
    assert text_of(agreement.settled) == "well, my dear"


def test_what_is_settled_stays_though_the_decoder_changes_its_mind() -> None:
    agreement = Agreement()
    agreement.decoded(words("I scream"))
    agreement.decoded(words("I scream for"))
    agreement.decoded(words("Ice cream for you"))
    assert text_of(agreement.settled) == "I scream for"
    assert text_of(agreement.words) == "I scream for you"


def test_a_word_said_four_times_is_four_words() -> None:
    agreement = Agreement()
    for said in ("no", "no no", "no no no", "no no no no"):
        agreement.decoded(words(said))
    agreement.final()
    assert text_of(agreement.settled) == "no no no no"


def test_the_last_decoding_is_right_as_it_is() -> None:
    agreement = Agreement()
    agreement.decoded(words("what time"))
    agreement.final(words("what time is it?"))
    assert text_of(agreement.settled) == "what time is it?" == text_of(agreement.words)
    agreement.decoded(words("what time is it? please"))
    agreement.final()
    assert text_of(agreement.settled) == "what time is it? please"


def test_a_decoding_that_hears_nothing_takes_back_only_what_was_not_settled() -> None:
    agreement = Agreement()
    agreement.decoded(words("hm"))
    agreement.decoded([])
    assert agreement.words == []


def test_the_sound_of_settled_words_is_left_behind() -> None:
    agreement = Agreement()
    agreement.decoded(words("one two three four"))
    agreement.decoded(words("one two three four"))
    agreement.leave_behind(until=1.0)
    assert agreement.begin == 0.9, "the end of the last word before"
    agreement.decoded(words("three four five", start=1.0))
    agreement.decoded(words("three four five six", start=1.0))
    assert text_of(agreement.settled) == "one two three four five"
    agreement.leave_behind(until=0.5)
    assert agreement.begin == 0.9, "never back"


def test_nothing_is_left_behind_that_is_not_settled() -> None:
    agreement = Agreement()
    agreement.decoded(words("one two three four"))
    agreement.leave_behind(until=10.0)
    assert agreement.begin == 0.0


@given(st.lists(st.lists(st.sampled_from("abc"), max_size=6), max_size=8))
def test_settled_words_never_change(decodings: list[list[str]]) -> None:
    agreement = Agreement()
    for letters in decodings:
        before = list(agreement.settled)
        agreement.decoded(words(" ".join(letters)))
        assert agreement.settled[: len(before)] == before
