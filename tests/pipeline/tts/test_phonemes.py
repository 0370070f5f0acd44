"""Text cut into stretches and written as phonemes, by the real espeak-ng in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from config.places import ROOT
from pipeline.tts.phonemes import SpokenWord, Stretch

SCRIPT = """
import json, sys
from dataclasses import asdict
from pipeline.tts.phonemes import Phonemizer
made = [Phonemizer("en-us").stretches(text, early) for text, early in json.load(sys.stdin)]
print(json.dumps([[asdict(each) for each in stretches] for stretches in made]))
"""


def stretches(*texts: tuple[str, bool]) -> list[list[Stretch]]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=ROOT, input=json.dumps(texts), capture_output=True, text=True, check=True
    )
    return [
        [Stretch(each["phonemes"], each["mark"], tuple(SpokenWord(**word) for word in each["words"])) for each in made]
        for made in json.loads(done.stdout)
    ]


@pytest.fixture(scope="module")
def made() -> dict[str, list[Stretch]]:
    texts = {
        "marks": ("Well, I see; “really?” he said – yes!", False),
        "early": ("In the morning, we go to the station with all of our luggage, and then we wait.", True),
        "later": ("In the morning, we go to the station with all of our luggage, and then we wait.", False),
        "opener": ("You should ask your doctor about that before you travel again.", True),
        "nothing": (" … – !", False),
        "said": ("Hm. Mm-hmm. OK!", False),
        "foreign": ("The rendezvous in Versailles.", False),
        "unspeakable": ("\ud800 \0 hello", False),
    }
    return dict(zip(texts, stretches(*texts.values()), strict=True))


def test_marks_are_kept_where_they_stood(made: dict[str, list[Stretch]]) -> None:
    (stretch,) = made["marks"]
    assert [symbol for symbol in stretch.phonemes if symbol in ",;.?!"] == [",", ";", "?", ",", "!"]
    assert stretch.mark == "!"


def test_a_reply_begins_with_a_short_stretch(made: dict[str, list[Stretch]]) -> None:
    assert [len(stretch.words) for stretch in made["early"]] == [3, 10, 4]
    assert [len(stretch.words) for stretch in made["later"]] == [13, 4]
    assert [stretch.mark for stretch in made["early"]] == [",", ",", "."]
    assert [len(stretch.words) for stretch in made["opener"]] == [5, 6]
    assert made["opener"][0].mark == "", "and goes on without a pause"


def test_words_have_their_characters_and_a_weight(made: dict[str, list[Stretch]]) -> None:
    text = "In the morning, we go to the station with all of our luggage, and then we wait."
    words = [word for stretch in made["early"] for word in stretch.words]
    assert [text[word.start : word.end] for word in words] == text.split()
    assert all(word.weight > 0 for word in words)
    weights = {text[word.start : word.end]: word.weight for word in words}
    assert weights["station"] > weights["go"]


def test_what_cannot_be_said_is_nothing(made: dict[str, list[Stretch]]) -> None:
    assert made["nothing"] == []
    assert made["unspeakable"][0].phonemes.endswith("həlˈoʊ")


def test_hesitations_are_not_spelt(made: dict[str, list[Stretch]]) -> None:
    assert "ɛm" not in "".join(stretch.phonemes for stretch in made["said"])


def test_no_name_of_a_language_is_spoken(made: dict[str, list[Stretch]]) -> None:
    assert "(" not in made["foreign"][0].phonemes
