"""Clauses: early, natural, and independent of how the text arrived."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.tts.clauses import LONGEST, ClauseSplitter, reached


def clauses(*pieces: str) -> list[str]:
    splitter = ClauseSplitter()
    return [clause for piece in pieces for clause in splitter.feed(piece)] + splitter.finish()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("  \n ", []),
        ("Hello", ["Hello"]),
        ("Hello there. How are you?", ["Hello there.", "How are you?"]),
        ("Really?! Yes! Good…", ["Really?!", "Yes!", "Good…"]),
        # A first clause as soon as it stands alone, then sentences
        ("As far as I know, it rains, and it pours.", ["As far as I know,", "it rains, and it pours."]),
        ("Well, that is so. One, two, three four, five.", ["Well, that is so.", "One, two, three four, five."]),
        ("I would say so: yes, it is.", ["I would say so:", "yes, it is."]),
        ("It was late — very late. Then", ["It was late —", "very late.", "Then"]),
        ("That costs him 1,250 euros.", ["That costs him 1,250 euros."]),
        # No end of a sentence
        ("Dr. Smith met Mrs. Jones. They spoke.", ["Dr. Smith met Mrs. Jones.", "They spoke."]),
        ("Pi is 3.14 or so. Yes.", ["Pi is 3.14 or so.", "Yes."]),
        ("Eat fruit e.g. apples i.e. food. Done.", ["Eat fruit e.g. apples i.e. food.", "Done."]),
        ("It is 3 p.m. now. Go.", ["It is 3 p.m. now.", "Go."]),
        ("J. R. R. Tolkien wrote it. I read.", ["J. R. R. Tolkien wrote it.", "I read."]),
        ("It was not I. It was you.", ["It was not I.", "It was you."]),
        ("See https://a.org/x.y?z=1. Then go.", ["See https://a.org/x.y?z=1.", "Then go."]),
        ("She said “No.” Then she left.", ["She said “No.”", "Then she left."]),
        ("(He laughed.) We did too.", ["(He laughed.)", "We did too."]),
        ("It was on June 3, 2026, in May. Yes.", ["It was on June 3, 2026,", "in May.", "Yes."]),
        ("*sighs, shrugs, looks away* So.", ["*sighs, shrugs, looks away* So."]),
        # Lines, lists and Markdown
        ("First line\nsecond line", ["First line", "second line"]),
        ("1. Milk\n2. Bread", ["1. Milk", "2. Bread"]),
        ("- Milk. Cold.\n- Bread", ["- Milk.", "Cold.", "- Bread"]),
        ("Look at [the docs. Really](http://a.b/c d). Yes.", ["Look at [the docs. Really](http://a.b/c d).", "Yes."]),
        ("Type `a. b` now. Yes.", ["Type `a. b` now.", "Yes."]),
        ("```\nx = 1. \n\ny\n``` Done.", ["```\nx = 1. \n\ny\n```", "Done."]),
        ("```\nnever closed. ever", ["```\nnever closed. ever"]),
        ("今日は。元気です！", ["今日は。", "元気です！"]),
    ],
)
def test_clauses(text: str, expected: list[str]) -> None:
    assert clauses(text) == expected


def test_a_clause_comes_as_soon_as_it_is_certain() -> None:
    splitter = ClauseSplitter()
    assert splitter.feed("As far as I know,") == []
    assert splitter.feed(" it") == ["As far as I know,"]
    assert splitter.feed(" rains. ") == ["it rains."]
    assert splitter.finish() == []


def test_a_sentence_without_end_is_cut_at_a_pause() -> None:
    text = "and so it went on, " * 100
    cut = clauses(text)
    assert max(len(clause) for clause in cut) <= LONGEST
    assert all(clause.endswith(",") for clause in cut)
    assert " ".join(cut) == text.strip()


def test_a_word_without_end_is_cut_too() -> None:
    assert "".join(clauses("a" * 1000)) == "a" * 1000


def test_a_splitter_begins_anew_after_finishing() -> None:
    splitter = ClauseSplitter()
    assert splitter.feed("One two") + splitter.finish() == ["One two"]
    assert splitter.feed("As far as I know, yes. ") == ["As far as I know,", "yes."]


WORDS = st.text(alphabet="abcXYZ .,!?;:'\"()[]`*-—\n019é", max_size=400)


@given(WORDS)
def test_clauses_cover_the_text(text: str) -> None:
    assert "".join(" ".join(clauses(text)).split()) == "".join(text.split())


@given(WORDS)
def test_no_clause_is_empty_or_padded(text: str) -> None:
    for clause in clauses(text):
        assert clause
        assert clause == clause.strip()


@given(WORDS, st.lists(st.integers(1, 12), min_size=1))
def test_the_clauses_do_not_depend_on_how_the_text_arrived(text: str, sizes: list[int]) -> None:
    pieces: list[str] = []
    place = 0
    while place < len(text):
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(text[place : place + size])
        place += size
    assert clauses(*pieces) == clauses(*text)


@pytest.mark.parametrize(
    ("share", "heard"),
    [(0.0, ""), (0.2, "One"), (0.5, "One two,"), (0.9, "One two, three four."), (1.0, "One two, three four.")],
)
def test_what_was_reached_of_a_text_is_whole_words_in_proportion(share: float, heard: str) -> None:
    assert reached("One two, three four.", share) == heard
