"""Facts that replace each other in German, French, Spanish and Chinese."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from rag import Memory
from rag.stated import in_english
from tests.rag.conftest import WordEmbedder

START = datetime(2026, 3, 1, 18, tzinfo=UTC)
CHANGES = [
    ("Ich wohne in Oslo.", "Ich bin letzte Woche nach Turku gezogen.", "Wo wohne ich?", "home"),
    ("Ich heiße Alexander.", "Nennt mich ab jetzt bitte Sascha.", "Wie heiße ich?", "name"),
    ("Ich arbeite als Bäcker.", "Ich habe meine Stelle gekündigt.", "Wo arbeite ich?", "work"),
    ("Mein Hund heißt Rufus.", "Mein Hund Rufus ist leider gestorben.", "Wie heißt mein Hund?", "hund's name"),
    ("J'habite à Lyon.", "J'ai déménagé à Nantes le mois dernier.", "Où est-ce que j'habite ?", "home"),
    ("Je m'appelle Alexandre.", "Appelez-moi désormais Sacha.", "Comment je m'appelle ?", "name"),
    ("Je travaille chez Renault.", "Maintenant je travaille comme boulanger.", "Quel est mon métier ?", "work"),
    ("Mon chien s'appelle Filou.", "Mon chien est mort hier.", "Comment s'appelle mon chien ?", "chien's name"),
    ("Vivo en Madrid.", "Me he mudado a Sevilla.", "¿Dónde vivo?", "home"),
    ("Me llamo Alejandro.", "Llámame ahora Sasha.", "¿Cómo me llamo?", "name"),
    ("Trabajo como enfermera.", "Ahora trabajo en un banco.", "¿Dónde trabajo?", "work"),
    ("Mi perro se llama Toby.", "Mi perro ha muerto.", "¿Cómo se llama mi perro?", "perro's name"),
    ("我住在北京。", "我上个月搬到上海了。", "我现在住在哪里？", "home"),
    ("我叫小明。", "以后叫我阿明吧。", "我叫什么名字？", "name"),
    ("我在银行工作。", "我辞职了。", "我在哪里工作？", "work"),
    ("我的狗叫旺财。", "我的狗死了。", "我的狗叫什么名字？", "狗's name"),
]


@pytest.mark.parametrize(("old", "new", "question", "label"), CHANGES)
def test_what_is_new_ends_what_was_so(
    tmp_path: Path, words: WordEmbedder, old: str, new: str, question: str, label: str
) -> None:
    with Memory(tmp_path, embedder=words) as memory:
        for month, text in enumerate((old, new)):
            memory.remember("user", text, at=START + timedelta(days=31 * month), conversation=str(month))
        memory.settle()
        text = memory.recall(question, asker="user", now=START + timedelta(days=90)).text
    assert f"user (until Apr 2026: {label}): {old}" in text
    assert f"user: {new}" in text


@pytest.mark.parametrize(
    "text",
    [
        "Meine Freundin sagt, dass Oslo schön ist.",
        "Wenn ich in Oslo wohne, brauche ich ein Boot.",
        "Ich wohne nicht in Oslo.",
        "Si vivo en Madrid, necesito un coche.",
        "Je n'habite pas à Lyon.",
        "如果我住在北京，我就需要一辆车。",
        "I live in Oslo and I moved to Turku.",
    ],
)
def test_what_is_no_fact_in_another_language_claims_nothing(text: str) -> None:
    assert in_english(text) == ""


def test_what_belongs_to_others_leaves_the_speaker_alone(tmp_path: Path, words: WordEmbedder) -> None:
    with Memory(tmp_path, embedder=words) as memory:
        memory.remember("user", "Ich wohne in Oslo.", at=START, conversation="one")
        memory.remember("user", "Meine Schwester wohnt in Turku.", at=START + timedelta(days=31), conversation="two")
        memory.settle()
        text = memory.recall("Wo wohne ich?", asker="user", now=START + timedelta(days=90)).text
    assert "user: Ich wohne in Oslo." in text
