"""Several people at one microphone: who said what, who asks, and whose words are not kept."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from pipeline.conversation.events import SpeakerTold
from pipeline.speakers.people import Heard, People
from tests.support.scene import Scene, Told, voice_direction

TODAY = date(2026, 11, 20)


@pytest.fixture
def people(tmp_path: Path) -> People:
    """Ben, whose memory it is, and Anna."""
    people = People(tmp_path)
    for name in ("Ben", "Anna"):
        people.learn(name, [Heard(voice_direction(name), 10.0)], TODAY)
    return people


def two_turns(scene: Scene, *voices: str) -> Told:
    scene.user(0.5, 3.0, "my dog is called rufus", voices[0])
    scene.user(7.0, 10.0, "what is my dog called", voices[-1])
    return scene.play(until=16.0)


def test_what_is_said_is_its_speakers_in_memory_and_in_what_the_mind_gets(people: People) -> None:
    scene = Scene()
    scene.tell_apart(people)
    told = two_turns(scene, "Ben", "Anna")
    assert told.remembered == [
        "user: my dog is called rufus",
        "assistant: That is good to hear.",
        "Anna: what is my dog called",
        "assistant: That is good to hear.",
    ]
    last = scene.prompts[-1]
    assert last.speaker == "Anna"
    assert [message.speaker for message in last.history if message.role == "user"] == ["user", "Anna"]
    assert scene.askers[-1] == "Anna"
    heard = [(event.turn, event.speaker) for _, event in told.events if isinstance(event, SpeakerTold)]
    assert heard == [(1, "user"), (2, "Anna")]


def test_nobody_known_yet_is_the_user(tmp_path: Path) -> None:
    scene = Scene()
    scene.tell_apart(People(tmp_path))
    assert two_turns(scene, "x", "y").remembered[::2] == ["user: my dog is called rufus", "user: what is my dog called"]


def test_a_guests_words_are_not_kept_nor_the_reply_that_may_repeat_them(people: People) -> None:
    scene = Scene()
    scene.tell_apart(people)
    told = two_turns(scene, "stranger", "Anna")
    assert told.remembered == ["Anna: what is my dog called", "assistant: That is good to hear."]
    assert any("does not know this voice" in notice for notice in told.notices)
    assert told.history[0] == "user: my dog is called rufus", "the talk itself goes on as with anybody"
    assert scene.prompts[0].speaker == "guest"


def test_a_guests_words_are_kept_where_that_is_wanted(people: People) -> None:
    scene = Scene()
    scene.settings.memory.guests = True
    scene.tell_apart(people)
    assert two_turns(scene, "stranger", "Ben").remembered[0] == "guest: my dog is called rufus"


def test_a_voice_that_is_told_late_delays_no_reply_and_what_was_said_is_its_speakers_all_the_same(
    people: People,
) -> None:
    quick, slow = Scene(), Scene()
    quick.tell_apart(people)
    slow.tell_apart(people).delay = 2.0
    replies = [two_turns(scene, "Ben", "Anna") for scene in (quick, slow)]
    assert [round(told.sound_begins(3.0), 3) for told in replies] == [round(replies[0].sound_begins(3.0), 3)] * 2
    assert replies[1].remembered == replies[0].remembered


def test_what_cannot_be_told_is_not_kept_as_somebody_elses(people: People) -> None:
    scene = Scene()
    scene.tell_apart(people).fails = True
    told = two_turns(scene, "Ben", "Anna")
    assert told.remembered == []
    assert any("cannot tell whose voice" in notice for notice in told.notices)


def test_typed_words_are_the_users(people: People) -> None:
    scene = Scene()
    scene.tell_apart(people)
    scene.user(0.5, 3.0, "hello there", "Anna")
    scene.at(8.0, lambda conversation: conversation.say("I live in Oslo."))
    assert scene.play(until=12.0).remembered[2] == "user: I live in Oslo."


def test_a_voice_is_learnt_from_what_its_owner_says_and_asks_for(people: People) -> None:
    scene = Scene()
    scene.tell_apart(people)
    scene.user(0.5, 4.0, "Good evening everybody.", "Carla")
    scene.user(8.0, 10.0, "I'm Carla, please remember my voice.", "Carla")
    scene.user(16.0, 19.0, "I came by train today.", "Carla")
    scene.user(24.0, 27.0, "I have a cat.", "Carla")
    told = scene.play(until=32.0)
    assert [person.name for person in people.all()] == ["Ben", "Anna", "Carla"]
    assert people.all()[-1].speaker == "Carla"
    assert told.remembered == ["Carla: I have a cat.", "assistant: That is good to hear."]
    assert [line for line in told.history if "voice" in line] == [], "neither mind nor memory has a part in it"


def test_the_first_voice_is_the_owners(tmp_path: Path) -> None:
    people = People(tmp_path)
    scene = Scene()
    scene.tell_apart(people)
    scene.user(0.5, 8.0, "my name is ben remember my voice", "Ben")
    scene.play(until=14.0)
    (ben,) = people.all()
    assert (ben.name, ben.speaker) == ("Ben", "user")


def test_who_says_their_name_is_told_how_to_be_known(people: People) -> None:
    scene = Scene()
    scene.tell_apart(people)
    scene.user(0.5, 3.0, "Hello, this is Carla.", "Carla")
    scene.user(12.0, 19.0, "Remember my voice.", "Carla")
    scene.play(until=26.0)
    assert people.all()[-1].name == "Carla"


@pytest.mark.parametrize("said", ["This is great.", "This is Carla.", "I am tired."])
def test_what_names_nobody_and_who_is_known_is_left_to_the_mind(people: People, said: str) -> None:
    scene = Scene()
    scene.tell_apart(people)
    scene.user(0.5, 3.5, said, "Ben")  # he introduces Carla, perhaps
    told = scene.play(until=9.0)
    assert told.remembered[0] == f"user: {said}"
    assert len(people.all()) == 2


def test_a_name_that_another_voice_has_is_not_given_twice(people: People) -> None:
    scene = Scene()
    scene.tell_apart(people)
    scene.user(0.5, 8.0, "This is anna, remember my voice.", "another Anna")
    scene.play(until=14.0)
    assert [person.name for person in people.all()] == ["Ben", "Anna"]
    assert (people.all()[1].direction == voice_direction("Anna")).all()


def test_a_voice_is_forgotten_by_asking(people: People) -> None:
    scene = Scene()
    scene.tell_apart(people)
    scene.user(0.5, 3.0, "Please forget my voice.", "Anna")
    scene.play(until=9.0)
    assert [person.name for person in people.all()] == ["Ben"]
