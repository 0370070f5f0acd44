"""Words of other languages: found in another form than they were said in, and in Chinese, which has no spaces."""

from __future__ import annotations

import sqlite3
from datetime import date, datetime
from pathlib import Path

import numpy as np
import pytest

from rag import Memory
from rag.forms import Forms
from rag.languages import FRENCH, GERMAN, SPANISH, Language
from rag.lexical import paired, spaced, words
from rag.vocabulary import Vocabulary
from tests.rag.conftest import WordEmbedder

NOON = datetime(2026, 3, 2, 12).astimezone()


@pytest.mark.parametrize(
    ("language", "asked", "said", "others"),
    [
        (GERMAN, "apfelbaum", ["apfelbäume", "apfelbäumen"], ["apfel", "apfelsaft"]),
        (GERMAN, "rechnung", ["rechnungen"], ["rechner"]),
        (FRENCH, "contrôleur", ["contrôleurs"], ["contrat"]),
        (FRENCH, "planter", ["planté", "plantées"], ["planche"]),
        (SPANISH, "pastilla", ["pastillas"], ["pasta"]),
        (SPANISH, "reservar", ["reservamos", "reservé"], ["resina"]),
    ],
)
def test_a_word_has_its_forms(language: Language, asked: str, said: list[str], others: list[str]) -> None:
    vocabulary = Vocabulary()
    forms = Forms(vocabulary)
    assert language.stem is not None
    assert forms.of(asked, language.stem) == [asked]
    vocabulary.add(said + others, np.eye(len(said + others), dtype=np.float16))
    assert set(forms.of(asked, language.stem)) == {asked, *said}


def test_chinese_is_read_in_pairs_of_characters() -> None:
    assert words("我的iPhone手机") == ["我", "的", "我的", "iphone", "手", "机", "手机"]
    assert paired("苹果树, 坑").split() == ["苹果", "果树", ",", "坑"]
    assert spaced("Nothing of it.") == paired("Nothing of it.") == "Nothing of it."


def test_chinese_is_found_by_its_words(tmp_path: Path, words: WordEmbedder) -> None:
    with Memory(tmp_path, embedder=words) as memory:
        memory.remember("user", "昨天我们在果园里种了十二棵苹果树", at=NOON)
        memory.remember("user", "坑都是他们挖的", at=NOON)
        memory.remember("user", "猫现在每天早上都要吃药", at=NOON)
        memory.settle()
        assert memory.recall("苹果树是什么时候种的？", asker="user", budget_chars=40).text.endswith("十二棵苹果树")
        assert memory.recall("坑是谁挖的？", asker="user", budget_chars=40).text.endswith("坑都是他们挖的")
        assert [turn.text for turn in memory.search("苹果")] == ["昨天我们在果园里种了十二棵苹果树"]
        memory.forget(id=memory.search("苹果")[0].id)
        assert not memory.search("苹果")
        memory.correct(memory.search("吃药")[0].id, "狗现在每天早上都要吃药")
        assert [turn.text[0] for turn in memory.search("吃药")] == ["狗"]


def test_chinese_of_an_older_memory_is_indexed_anew(tmp_path: Path, words: WordEmbedder) -> None:
    with Memory(tmp_path, embedder=words) as memory:
        memory.remember("user", "昨天我们在果园里种了十二棵苹果树", at=NOON)
        memory.settle()
    with sqlite3.connect(tmp_path / "default" / "turns.sqlite3") as old:  # as version 2 had it
        old.executescript(
            "DROP VIEW indexed; CREATE VIEW indexed AS SELECT seq, text FROM turns WHERE repeats IS NULL;"
            "INSERT INTO words(words) VALUES ('rebuild'); PRAGMA user_version = 2;"
            "DROP TABLE stated; DROP TRIGGER stated_gone; DROP TRIGGER stated_changed;"
        )
    old.close()
    with Memory(tmp_path, embedder=words) as memory:
        assert memory.recall("苹果树是什么时候种的？", asker="user").items[0].why == "words"


@pytest.mark.parametrize(
    ("said", "asked"),
    [
        ("morgen fahre ich zum Zahnarzt, das habe ich gestern schon gesagt", "Was war am 1. März?"),
        ("hier je suis allée chez le dentiste avec ma sœur", "Qu'est-ce que j'ai fait avant-hier ?"),
        ("ayer fui al dentista con mi hermana", "¿Qué hice anteayer con mi hermana?"),
        ("昨天我去看了牙医", "我前天做了什么？"),
    ],
)
def test_a_turn_speaks_of_its_own_yesterday(tmp_path: Path, words: WordEmbedder, said: str, asked: str) -> None:
    from rag.ranking import Candidate
    from rag.store import Row

    turn = Candidate(Row("1", "user", said, NOON, "talk", 1), np.empty(0, np.intp))
    assert any(span.first == date(2026, 3, 1) for span in turn.told)
    assert turn.holds_time
    with Memory(tmp_path, embedder=words) as memory:
        memory.remember("user", said, at=NOON)
        memory.settle()
        found = memory.find(asked, now=datetime(2026, 3, 3, 12).astimezone(), asker="user")
        assert found.features["speaks_of_then"][0] == (1.0 if found.question.spans else 0.0)
