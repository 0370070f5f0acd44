"""What turns claim, which claims later ones end, and how recall shows that."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag import Memory
from rag.claims import Claim
from rag.grammar import claims
from rag.renewal import ended
from tests.rag.conftest import WordEmbedder


@pytest.mark.parametrize(
    ("text", "claimed"),
    [
        ("I don't live in Oslo any more, I live in Turku.", ["not home Oslo", "home Turku"]),
        ("My name isn't Karin but Petra.", ["not name Karin", "name Petra"]),
        ("people call me sasha from now on", ["name sasha"]),
        ("I used to live in Oslo.", ["not home Oslo"]),
        ("My sister Clara moved from Oslo to Turku.", ["sister clara: home Turku"]),
        ("My sister has a cat. She lives in Oslo.", []),
        ("I have a sister. She lives in Oslo.", ["sister: exists", "sister: home Oslo"]),
        ("I got rid of my old car", ["not car: exists"]),
        ("My cat ran away last week.", ["not cat: exists"]),
        ("I quit smoking.", ["not habit smoking"]),
        ("I quit my job at Shell, I'm a nurse now.", ["not work at Shell", "work as a nurse"]),
        (
            "The dentist is on Friday now, not on Thursday.",
            ["dentist: time on Friday", "not dentist: time on Thursday"],
        ),
        ("Our meeting is at five. No wait, at six.", ["meeting: time at five", "meeting: time at six"]),
        ("I've been living with my parents in Graz.", ["home Graz"]),
        ("I'm not Alex any more, people know me as Sasha.", ["not alex: exists", "name Sasha"]),
        ("I have a cat, Luna, who sleeps.", ["cat: exists", "cat: name Luna"]),
        ("We had to give Rufus away.", ["not rufus: exists"]),
        ("I've gone off olives.", ["not olives: exists"]),
        ("They moved the dentist, it's on Friday now.", ["dentist: time on Friday"]),
        ("My sister quit and became a nurse.", ["not sister: work", "sister: work as a nurse"]),
        ("My neighbour's dog is called Momo.", ["neighbour's dog: name Momo"]),
        ("I'd rather be called Sasha than Alex.", ["name Sasha", "not name Alex"]),
        ("Where do I live?", []),
        ("is my name anna", []),
        ("If I live in Rome next year, I will paint.", []),
        ("I wish I lived in Paris.", []),
        ("I live in a small flat.", []),
        ("We had a lovely time.", ["lovely: exists"]),
        ("", []),
    ],
)
def test_what_a_turn_claims(text: str, claimed: list[str]) -> None:
    found = [claim for claim in claims(text) if claim.attribute]
    assert [_written(claim) for claim in found] == claimed


def _written(claim: Claim) -> str:
    subject = f"{claim.subject}: " if claim.subject else ""
    return f"{'' if claim.holds else 'not '}{subject}{claim.attribute} {claim.value}".rstrip()


@pytest.mark.parametrize(
    ("older", "newer", "past"),
    [
        ("I live in Oslo.", "I moved to Turku.", "home"),
        ("I live in Oslo.", "I live in Oslo, near the harbour.", None),
        ("I live in Oslo.", "My sister lives in Turku.", None),
        ("My sister lives in Oslo.", "I moved to Turku.", None),
        ("My sister Clara lives in Oslo.", "My sister Eva lives in Turku.", None),
        ("My sister Clara lives in Oslo.", "My sister moved to Turku.", "sister clara's home"),
        ("I like olives and cheese.", "I don't like olives any more.", "olives and cheese"),
        ("I like olives.", "I like cheese.", None),
        ("I smoke a pipe.", "I stopped smoking.", "smoke a pipe"),
        ("I drink tea.", "I stopped drinking coffee.", None),
        ("I work as a nurse.", "I work at Haukeland.", None),
        ("I work as a nurse.", "I got a new job at Haukeland.", "work"),
        ("My wife is called Anna.", "I got divorced.", "wife's name"),
        ("My mum lives in Oslo.", "My mother moved to Turku.", "mother's home"),
        ("My phone number is 555 0101.", "My mobile number is 555 0199.", "phone number"),
        ("I have a dog.", "I don't have a cat.", None),
        ("I have a dog called Rufus.", "Rufus died.", "dog"),
        ("I have a dog called Rufus.", "My neighbour's dog died.", None),
        ("My dog died.", "We got a new dog.", "no dog"),
        ("I'm learning Spanish.", "I'm learning Greek now instead of Spanish.", "spanish"),
        ("I drive a Volvo.", "I traded the Volvo in for a Fiat.", "car"),
        ("I work for Nordlys Bank.", "I switched from Nordlys Bank to the museum.", "work"),
        ("My brother Tom lives in Leeds.", "Tom moved to Cork.", "brother tom's home"),
    ],
)
def test_what_ends_what(older: str, newer: str, past: str | None) -> None:
    found = ended([("Ann", "c", 1, claims(older)), ("Ann", "c", 9, claims(newer))])
    assert {end.claim.label for end in found} >= ({past} if past else set()) and bool(found) == bool(past)
    assert not ended([("Ann", "c", 1, claims(older)), ("Ben", "c", 9, claims(newer))])  # another's are another's


def test_a_correction_is_of_what_was_just_said() -> None:
    told, corrected = claims("I live in Oslo."), claims("Actually it's Turku.")
    assert [end.claim.value for end in ended([("Ann", "c", 1, told), ("Ann", "c", 3, corrected)])] == ["Oslo"]
    assert not ended([("Ann", "c", 1, told), ("Ann", "c", 30, corrected)])
    assert not ended([("Ann", "c", 1, told), ("Ann", "d", 3, corrected)])
    assert not ended([("Ann", "c", 1, told), ("Ann", "c", 3, claims("Actually it's raining."))])


def test_recall_shows_what_is_past(tmp_path: Path) -> None:
    now = datetime(2026, 11, 21, 15, 5, tzinfo=UTC)
    talk = [
        ("user", "I live in Oslo and my dog is called Rufus."),
        ("assistant", "You live in Oslo. What is it like there?"),
        ("user", "It is green where I live."),
        ("user", "We moved to Turku, so I live there now."),
    ]
    with Memory(tmp_path, embedder=WordEmbedder()) as memory:
        for number, (speaker, text) in enumerate(talk):
            memory.remember(speaker, text, at=now - timedelta(days=9 - number), conversation=str(number))
        memory.settle()
        recall = memory.recall("Where do I live?", asker="user", now=now)
    lines = recall.text.splitlines()
    assert "user (until Nov 2026: home): I live in Oslo and my dog is called Rufus." in lines
    assert "assistant (until Nov 2026: home): You live in Oslo. What is it like there?" in lines
    assert "user: We moved to Turku, so I live there now." in lines
    order = [item.text for item in recall.items]
    assert order.index(talk[3][1]) < order.index(talk[0][1])
    assert all("until Nov 2026: home" in item.why for item in recall.items if "Oslo" in item.text)


WORDS = st.sampled_from(
    "My my dog Ann Ann's name It it It's it's is isn't was actually not no longer called lives live in any more now "
    "Not She he's I I'm I've we moved used to the , . - ' has been are really kind of died".split()
)


@settings(max_examples=300)
@given(st.lists(WORDS, max_size=12).map(" ".join) | st.text(max_size=40))
def test_whatever_is_said_can_be_read(text: str) -> None:
    claims(text)


@pytest.mark.parametrize("text", ["Not really.", "Actually", "Really?"])
def test_a_reply_without_a_predicate_claims_nothing(text: str) -> None:
    assert claims(text) == []
