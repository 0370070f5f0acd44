"""What is so now, found whatever words it was told in; a part of benchmarks/lives.py."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from benchmarks.lives import Life, Recalling, answers
from rag import Memory
from rag.asked import Asked, asked
from rag.claims import EXISTS
from rag.grammar import claims
from tests.rag.conftest import WordEmbedder

NOW = datetime(2026, 11, 21, 15, 5, tzinfo=UTC)


@pytest.mark.slow
@pytest.mark.parametrize("held_back", [False, True])
def test_the_newest_is_handed_over_and_the_past_is_said_to_be_past(tmp_path: Path, held_back: bool) -> None:
    embedder = Recalling()
    found = [answer for seed in range(4) for answer in answers(Life(seed, held_back), tmp_path / f"{seed}", embedder)]
    assert len(found) > 100
    assert sum(answer.right for answer in found) >= 0.95 * len(found) or held_back
    assert sum(answer.newest for answer in found) >= 0.9 * len(found)
    true = [said for answer in found for said in answer.true]
    assert sum(true) >= 0.98 * len(true)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A memory in which no question shares a word with its answer."""
    told = [
        ("user", "Call me Sasha."),
        ("assistant", "Fine."),
        ("user", "I became a widow, so I am single."),
        ("user", "We settled down in Turku."),
        ("user", "There's a dog in our house, Rufus."),
        ("user", "Rufus passed away on Sunday."),
        ("user", "From now on call me Robin."),
        *(("user", f"The weather of day {number} was mild.") for number in range(90)),
    ]
    folder = tmp_path_factory.mktemp("told")
    with Memory(folder, embedder=WordEmbedder()) as memory:
        for number, (speaker, text) in enumerate(told):
            at = NOW - timedelta(days=200 - number)
            memory.remember(speaker, text, at=at, conversation=str(number // 5))
        memory.settle()
    return folder


@pytest.fixture
def talk(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "memory"))


def texts(memory: Memory, question: str) -> list[str]:
    return [item.text for item in memory.recall(question, asker="user", now=NOW).items]


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Who am I?", "From now on call me Robin."),
        ("Am I married?", "I became a widow, so I am single."),
        ("Which city am I living in?", "We settled down in Turku."),
        ("Do I still have a dog?", "Rufus passed away on Sunday."),
    ],
)
def test_a_turn_is_found_by_what_it_claims(talk: Path, question: str, answer: str) -> None:
    with Memory(talk, embedder=WordEmbedder()) as memory:
        assert answer in texts(memory, question)


def test_of_two_claims_the_newer_stands_first_and_the_older_says_until_when(talk: Path) -> None:
    with Memory(talk, embedder=WordEmbedder()) as memory:
        recall = memory.recall("Who am I?", asker="user", now=NOW)
    assert recall.items[0].text == "From now on call me Robin."
    assert "user (until May 2026: name): Call me Sasha." in recall.text.splitlines()


def test_what_is_forgotten_or_corrected_is_claimed_no_more(talk: Path) -> None:
    with Memory(talk, embedder=WordEmbedder()) as memory:
        ids = {turn.text: turn.id for turn in memory.turns(limit=500)}
        memory.forget(id=ids["From now on call me Robin."])
        memory.correct(ids["We settled down in Turku."], "We settled down in Bergen.")
        memory.settle()
        assert texts(memory, "Who am I?")[0] == "Call me Sasha."
        assert texts(memory, "Where do I live?")[0] == "We settled down in Bergen."
    with closing(sqlite3.connect(talk / "default" / "turns.sqlite3")) as db:
        values = {value for (value,) in db.execute("SELECT value FROM claims")}
    assert {"sasha", "bergen"} <= values and not values & {"robin", "turku"}


def test_what_was_read_in_the_background_is_what_the_grammar_reads(talk: Path) -> None:
    with Memory(talk, embedder=WordEmbedder()) as memory:
        memory.settle()
        memory.correct(memory.turns(limit=500)[0].id, "Call me Kim.")
        memory.settle()
        rows = memory._turns.find()
        held = memory._turns.claims.of([row.seq for row in rows])
        assert {row.seq: tuple(claims(row.text)) for row in rows} == held
        memory.remember("user", "I live in Bergen.")
        memory.forget(id=rows[0].id)
        memory.settle()
        assert memory._turns.claims.of([rows[0].seq]) == {rows[0].seq: ()}, "forgotten"


def test_an_older_memory_is_read_for_its_claims(talk: Path) -> None:
    with closing(sqlite3.connect(talk / "default" / "turns.sqlite3")) as db:  # as the first schema had it
        db.executescript("""
            DROP TRIGGER claims_gone; DROP TRIGGER claims_changed; DROP TABLE claims; DROP TABLE stated;
            DROP TRIGGER stated_gone; DROP TRIGGER stated_changed;
            DELETE FROM about WHERE key = 'claims read'; PRAGMA user_version = 1;
        """)
    with Memory(talk, embedder=WordEmbedder()) as memory:
        memory.settle()
        assert texts(memory, "Who am I?")[0] == "From now on call me Robin."


@pytest.mark.parametrize(
    ("question", "wanted"),
    [
        ("Where do I live?", Asked(["home"], "")),
        ("Where does my sister Clara live now?", Asked(["home"], "sister clara")),
        ("What's my dog called?", Asked(["name", EXISTS], "dog")),
        ("What is my neighbour's job?", Asked(["work"], "neighbour")),
        ("When is my dentist appointment?", Asked(["time", EXISTS], "dentist appointment")),
        ("Which colour do I like best?", Asked(["favourite colour"], "")),
        ("What is my mobile number?", Asked(["phone number"], "")),
        ("What did I say about the garden?", None),
        ("When was the Eiffel Tower built?", None),
        ("", None),
    ],
)
def test_what_a_question_asks_for(question: str, wanted: Asked | None) -> None:
    assert asked(question) == wanted
