"""The newest fact holds: scripted exchanges with the built-in mind, told on other days or told just now."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from config.settings import DEFAULT_PERSONA
from pipeline.llm import Message, Prompt
from pipeline.llm.builtin.rules import answer
from rag import Memory, Recall, Recalled, SentenceEmbedder

NOW = datetime(2026, 11, 21, 15, 5, tzinfo=UTC)

EXCHANGES = [
    # told, one turn after another; asked; what the answer holds; what it must not hold
    ("My name is Anna. | Please call me Sasha from now on.", "What is my name?", "Sasha", "Anna"),
    ("My name is Anna. | People call me Max.", "What's my name?", "Max", "Anna"),
    ("My name is Anna. | I go by Ann these days.", "Who am I?", "Ann.", "Anna"),
    ("My name is Anna. | Don't call me Anna, call me Sasha.", "What is my name?", "Sasha", "Anna"),
    ("My name is Karin. | My name is not Karin, my name is Petra.", "What is my name?", "Petra", "Karin"),
    ("My name is Karin. | It's Petra, not Karin.", "What is my name?", "Petra", "Karin"),
    ("I live in Oslo. | I do not live in Oslo any more, I live in Turku.", "Where do I live?", "Turku", "Oslo"),
    ("i live in oslo | i do not live in oslo any more i live in turku", "where do i live", "Turku", "Oslo"),
    ("I live in Oslo. | I moved to Bergen last year, but now I live in Turku.", "Where do I live?", "Turku", "Bergen"),
    ("I moved to Bergen last year, but now I live in Turku.", "Where do I live?", "Turku", "Bergen"),
    ("I live in Oslo. | We've just moved from Oslo to Turku.", "Which city do I live in?", "Turku", "Oslo"),
    ("I live in Oslo. | Actually it's Turku.", "Where do I live?", "Turku", "Oslo"),
    ("I live in Oslo. | Sorry, I meant Turku.", "Where do I live?", "Turku", "Oslo"),
    ("I live in Oslo. | We settled down in Turku.", "Where do I live?", "Turku", "Oslo"),
    ("I live in Oslo. | I no longer live in Oslo.", "Where do I live?", "changed", "Oslo"),
    ("I live in Turku. | My sister lives in Oslo.", "Where do I live?", "Turku", "Oslo"),
    ("My sister lives in Oslo.", "Where do I live?", "not told", "Oslo"),
    ("My sister lives in Oslo. | I moved to Turku.", "Where does my sister live?", "Oslo", "Turku"),
    ("My sister Clara lives in Oslo. | My sister has moved to Turku.", "Where does my sister live?", "Turku", "Oslo"),
    ("I have a dog called Rufus. | I no longer have a dog.", "What is my dog called?", "no longer", "Rufus"),
    ("My dog is called Rufus. | My dog died.", "What is my dog called?", "died", "Rufus"),
    ("My dog is called Rufus. | My dog died. | My new dog is called Max.", "What is my dog called?", "Max", "Rufus"),
    ("I like olives. | I like chess. | I don't like olives any more.", "What do I like?", "chess", "olives"),
    ("I hate olives. | I love olives now.", "What do I like to eat?", "olives", "not like"),
    ("I work at Shell. | I quit my job at Shell, I'm a nurse now.", "Where do I work?", "nurse", "Shell"),
    ("I work as a nurse. | I retired last year.", "What is my job?", "retired", "nurse"),
    ("I work as a nurse. | I have lost my job.", "What is my job?", "changed", "nurse"),
    ("I am married. | I got divorced.", "Am I married?", "divorced", "you are married"),
    ("My wife is called Anna. | We got divorced.", "What is my wife called?", "", "Anna"),
    ("I'm forty two years old. | I just turned forty three.", "How old am I?", "forty three", "two"),
    ("I am a vegetarian. | I eat meat again.", "Am I a vegetarian?", "meat", "vegetarian"),
    ("My phone number is 555 0101. | My mobile number is 555 0199 now.", "What is my phone number?", "0199", "0101"),
    ("My favourite colour is blue. | My favorite color is green now.", "What is my favourite colour?", "green", "blue"),
    ("I drive a Volvo. | I drive a Tesla now.", "What car do I drive?", "Tesla", "Volvo"),
    ("The dentist is on Thursday. | The dentist is on Friday now, not on Thursday.", "When is the dentist?", "Friday",
     "Thursday"),
    ("My dentist appointment is on Monday. | No, I meant Tuesday.", "When is my dentist appointment?", "Tuesday",
     "Monday"),
    ("The meeting is at five. | The meeting was moved to six.", "When is the meeting?", "six", "five"),
    ("I live in Oslo. | Actually it's raining.", "Where do I live?", "Oslo", "raining"),
    ("I live in Oslo. | I wish I lived in Paris. | If I live in Rome next year I will paint.", "Where do I live?",
     "Oslo",
     "Paris"),
]  # fmt: skip


@pytest.fixture(scope="module")
def model() -> SentenceEmbedder:
    """The real all-MiniLM-L6-v2."""
    return SentenceEmbedder()


def _recalled(told: Sequence[str], asked: str) -> Prompt:
    items = [
        Recalled(str(n), "user", text, NOW - timedelta(days=9, minutes=-n), "earlier", 0.5, "words")
        for n, text in enumerate(told)
    ]
    return Prompt(DEFAULT_PERSONA, (Message("user", asked),), Recall("", tuple(items)), NOW)


def _remembered(folder: Path, model: SentenceEmbedder, told: Sequence[str], asked: str) -> Prompt:
    with Memory(folder, embedder=model) as memory:
        for number, text in enumerate(told):
            at = NOW - timedelta(days=9) + timedelta(minutes=number)
            memory.remember("user", text, at=at, conversation="earlier")
        memory.settle()
        recalled = memory.recall(asked, asker="user", now=NOW)
    return Prompt(DEFAULT_PERSONA, (Message("user", asked),), recalled, NOW)


def _just_told(told: Sequence[str], asked: str) -> Prompt:
    history: list[Message] = []
    for text in told:
        history.append(Message("user", text))
        history.append(Message("assistant", answer(Prompt(DEFAULT_PERSONA, tuple(history), None, NOW))))
    return Prompt(DEFAULT_PERSONA, (*history, Message("user", asked)), None, NOW)


@pytest.mark.parametrize("prompted", [_recalled, _just_told], ids=["recalled", "just told"])
@pytest.mark.parametrize(("told", "asked", "holds", "not_holds"), EXCHANGES)
def test_the_newest_fact_holds(
    prompted: Callable[[Sequence[str], str], Prompt], told: str, asked: str, holds: str, not_holds: str
) -> None:
    answered = answer(prompted(told.split(" | "), asked))
    assert holds in answered and not_holds not in answered


@pytest.mark.parametrize(("told", "asked", "holds", "not_holds"), EXCHANGES[::6])
def test_by_way_of_a_real_memory(
    tmp_path: Path, model: SentenceEmbedder, told: str, asked: str, holds: str, not_holds: str
) -> None:
    answered = answer(_remembered(tmp_path, model, told.split(" | "), asked))
    assert holds in answered and not_holds not in answered


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        ("What time is it in Tokyo?", "In Tokyo it is 12:05 a.m."),
        ("what's the time in new york", "In New York it is 10:05 a.m."),
        ("What time is it in Norway now?", "In Norway it is 4:05 p.m."),
        ("What time is it in Atlantis?", "I do not know what time it is in Atlantis."),
        ("What time is it in America?", "I do not know what time it is in America."),
        ("What time is it here?", "It is 3:05 p.m."),
    ],
)
def test_the_time_elsewhere(asked: str, answered: str) -> None:
    assert answer(Prompt(DEFAULT_PERSONA, (Message("user", asked),), None, NOW)).startswith(answered.rstrip("."))
