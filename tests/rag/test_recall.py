"""What recall finds, by the real model."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from rag import Memory, SentenceEmbedder

TALKS: list[tuple[datetime, list[tuple[str, str]]]] = [
    (
        datetime(2024, 3, 4, 18, tzinfo=UTC),
        [
            ("Ann", "I bought a new automobile yesterday, a green Volvo."),
            ("Parley", "Congratulations! Is it electric?"),
            ("Ann", "It is. My sister Clara works for the company that makes the batteries."),
            ("Parley", "How interesting. Where does she live?"),
            ("Ann", "In Gothenburg, near the harbour."),
        ],
    ),
    (
        datetime(2024, 5, 14, 9, tzinfo=UTC),
        [
            ("Ann", "Good morning! Last Tuesday I went to the dentist, it was awful."),
            ("Ben", "I never mind the dentist. My favourite food is ravioli with sage."),
            ("Ann", "Mine is sushi."),
            ("Ann", "My phone number is 555 0101."),
        ],
    ),
    (
        datetime(2024, 6, 2, 20, tzinfo=UTC),
        [
            ("Ann", "My phone number is 555 0199 now."),
            ("Ann", "The neighbour's dog has eaten our tomatoes again."),
            ("Parley", "Oh no, not the tomatoes!"),
        ],
    ),
]


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory, model: SentenceEmbedder) -> Iterator[Memory]:
    with Memory(tmp_path_factory.mktemp("recall"), embedder=model) as memory:
        for number, (start, turns) in enumerate(TALKS):
            for offset, (speaker, text) in enumerate(turns):
                memory.remember(speaker, text, at=start + timedelta(seconds=20 * offset), conversation=f"talk {number}")
        memory.settle()
        yield memory


def texts(memory: Memory, question: str, **options: object) -> list[str]:
    return [item.text for item in memory.recall(question, **options).items]  # type: ignore[arg-type]


def test_by_meaning_where_no_word_is_the_same(memory: Memory) -> None:
    assert "automobile" in texts(memory, "Which vehicle did she purchase?")[0]


def test_an_answer_that_only_its_question_makes_clear(memory: Memory) -> None:
    assert "In Gothenburg, near the harbour." in texts(memory, "Where does Clara live?")[:3]


def test_who_said_it(memory: Memory) -> None:
    assert "ravioli" in texts(memory, "What is Ben's favourite food?")[0]
    assert texts(memory, "What is Ann's favourite food?").index("Mine is sushi.") < 2
    assert texts(memory, "What is my favourite food?", asker="Ben")[0].startswith("I never mind")


def test_someone_who_has_said_nothing_yet_may_ask_for_their_own(memory: Memory) -> None:
    assert memory.recall("What is my phone number?", asker="a stranger").items


def test_when_it_was(memory: Memory) -> None:
    now = datetime(2024, 6, 10, tzinfo=UTC)
    assert "dentist" in texts(memory, "What happened to Ann on 7 May 2024?", now=now)[0]
    assert texts(memory, "What did we talk about on June 2nd?", now=now)
    last_week = memory.recall("What did Ann say last week?", now=datetime(2024, 6, 5, tzinfo=UTC)).items
    assert {(item.speaker, item.at.month) for item in last_week[:2]} == {("Ann", 6)}


def test_the_newer_word_counts(memory: Memory) -> None:
    found = memory.recall("What is Ann's phone number?").items
    numbers = [item.text for item in found if "phone" in item.text]
    assert numbers[0] == "My phone number is 555 0199 now."
    assert "newer than what was said on 2024-05-14" in found[0].why
    text = memory.recall("What is Ann's phone number?").text
    assert text.index("[14 May 2024]") < text.index("[2 Jun 2024]")


def test_another_language_is_asked_without_harm(memory: Memory) -> None:
    assert any("Volvo" in text for text in texts(memory, "Welches Auto hat Ann gekauft, einen Volvo?"))
    memory.recall("アンさんの電話番号は何ですか")


@pytest.mark.parametrize("question", ["How do I boil an egg?", "What's the capital of France?", "…?!"])
def test_nothing_when_nothing_fits(memory: Memory, question: str) -> None:
    recall = memory.recall(question)
    assert not recall and recall.text == ""


def test_what_is_ones_own_need_not_be_asked_for_in_its_words(tmp_path: Path, model: SentenceEmbedder) -> None:
    """The general question is as near to what was said."""
    with Memory(tmp_path, embedder=model) as memory:
        memory.remember("Ann", "I've decided, I'm going to hand the shop over to Margit in the autumn")
        memory.remember("Ann", "the pump has had it, three hundred and eighty euros with fitting")
        memory.settle()
        assert memory.recall("Who will take over my business?", asker="Ann").items
        assert not memory.recall("Who takes over a business?", asker="Ann").items


def test_a_longer_budget_only_adds(memory: Memory) -> None:
    short = memory.recall("Tell me about Clara and the car", budget_chars=120)
    long = memory.recall("Tell me about Clara and the car", budget_chars=1200)
    assert len(short.text) <= 120 < len(long.text)
    assert len(short.items) < len(long.items)


def test_a_long_turn_is_cut_to_what_was_asked_about(tmp_path: Path, model: SentenceEmbedder) -> None:
    with Memory(tmp_path, embedder=model) as memory:
        memory.remember("Ann", "The weather was mild. " * 300 + "Clara's cello is from 1790. " + "We had tea. " * 300)
        memory.settle()
        recall = memory.recall("How old is Clara's cello?", budget_chars=600)
        assert "Clara's cello is from 1790." in recall.text and len(recall.text) <= 600


@pytest.mark.parametrize("question", ["where do i live", "Where do I live?"])
def test_a_memory_of_four_turns_answers_too(tmp_path: Path, model: SentenceEmbedder, question: str) -> None:
    with Memory(tmp_path, embedder=model) as memory:
        for speaker, text in [
            ("user", "hello there"),
            ("user", "i live in bergen"),
            ("assistant", "that sounds lovely"),
            ("user", "i had a great time at the party"),
        ]:
            memory.remember(speaker, text)
        assert texts(memory, question, asker="user")[0] == "i live in bergen"  # by its words, before it has a vector
        memory.settle()
        assert texts(memory, question, asker="user")[0] == "i live in bergen"
        assert texts(memory, "What time is it?", asker="user") == []
