"""Text that is long and odd, from a model or a client: none of what reads it is worse than linear.

Where something is, its test does not end within its time.
"""

from __future__ import annotations

from datetime import date

import pytest

from pipeline.llm.cleaning import LONGEST, Cleaning
from pipeline.llm.reasoning import AT_ONCE, Reasoning
from pipeline.llm.saying import Sentences
from pipeline.tools.builtin.timers import _seconds
from pipeline.tools.consent import consent
from pipeline.tools.toolbox import ToolFailed
from pipeline.tools.written import written_calls
from pipeline.tts.clauses import ClauseSplitter
from pipeline.tts.speakable import speakable
from rag.when import phrases

pytestmark = pytest.mark.timeout(30)

ODD = [
    *("…" * 60_000, "a. " * 20_000, "[a" * 20_000, "```" + "x" * 60_000, " \n" * 30_000, "1," * 30_000, "." * 60_000),
    *("<" * 60_000, "<tool_call>" * 5_000, "<think>" * 8_000, "\n{" * 20_000, '"' * 60_000, "so " * 20_000),
    "\\" * 60_000,
]  # fmt: skip


def named(text: str) -> str:
    return repr(text[:12])


@pytest.mark.parametrize("text", ODD, ids=named)
def test_a_text_is_cut_into_clauses(text: str) -> None:
    splitter = ClauseSplitter()
    assert "".join("".join([*splitter.feed(text), *splitter.finish()]).split()) == "".join(text.split())


@pytest.mark.parametrize("text", ODD, ids=named)
def test_a_reply_that_comes_piece_by_piece(text: str) -> None:
    cleaned, splitter, sentences = Cleaning(), ClauseSplitter(), Sentences()
    for at in range(0, len(text), 500):
        for clause in splitter.feed(cleaned.feed(text[at : at + 500])):
            speakable(clause)
        if at < 10_000:  # what a very small model may write
            sentences.feed(text[at : at + 500])
    splitter.feed(cleaned.finish())
    splitter.finish()


@pytest.mark.parametrize(
    "unit", ["<think>a</think>", "\nAI:", "<s>", '\n{"a": 1}', "<invoke></invoke>", '\n{"'], ids=named
)
def test_a_reply_that_comes_in_one_piece(unit: str) -> None:
    cleaned = Cleaning()
    cleaned.feed(unit * (390_000 // len(unit)))
    cleaned.finish()


@pytest.mark.parametrize("unit", ["<think>a</think>", "</think>", "<|channel|>final<|message|>"], ids=named)
def test_reasoning_that_comes_in_one_piece(unit: str) -> None:
    """A server's model is relieved of its reasoning before its reply is cleaned (openai.py)."""
    reasoning = Reasoning()
    reasoning.feed(unit * (390_000 // len(unit)))
    reasoning.finish()


def test_what_was_left_out_of_one_piece_is_limited() -> None:
    cleaned = Cleaning()
    cleaned.feed("<function=x>" + "<parameter=a>" * 25_000)
    cleaned.finish()
    assert [len(passage) <= LONGEST + AT_ONCE for passage in cleaned.left_out] == [True]


@pytest.mark.parametrize(
    "text",
    ["(" * 5000, "*" * 5000, "[a](" * 2000, "1," * 5000, "a@" * 3000, "`" * 4999, "- " * 4000, "…" * 8000, "a." * 5000],
    ids=named,
)
def test_what_is_to_be_said(text: str) -> None:
    speakable(text)


@pytest.mark.parametrize("text", [*ODD, "{" * 60_000, '{"name": "' * 6_000], ids=named)
def test_what_may_be_a_call_of_a_tool(text: str) -> None:
    written_calls(text[:60_000])


def test_parameters_that_never_end() -> None:
    assert written_calls("<function=x>" + "<parameter=a>" * 40_000) == []


@pytest.mark.parametrize("word", ["please ", "yes ", "do not do it ", "may", "I do "])
def test_a_long_answer_to_whether_a_tool_may_be_used(word: str) -> None:
    assert consent(word * (190_000 // len(word)) + "?x") is None


def test_the_duration_of_a_timer() -> None:
    with pytest.raises(ToolFailed):
        _seconds("1" * 1_000_000)


@pytest.mark.parametrize("word", ["yesterday ", "monday ", "since ", "two weeks before the "])
def test_a_turn_that_names_many_days(word: str) -> None:
    phrases(word * (150_000 // len(word)) + "1 May 2026", date(2026, 3, 2))
