"""Scenes of speech during a reply: interruptions, commands, coughs, doors, "mm-hmm"."""

from __future__ import annotations

import asyncio

import pytest

from pipeline.conversation.conversation import Conversation
from pipeline.conversation.events import ReplyAudio, ReplyDone, ReplyPaused, ReplyResumed, ReplyStarted
from tests.support.scene import Scene

STORY = "Once there was a fox who lived under a hill near the sea and the sea was as blue as the sky above the hill."


def storyteller(**changes: object) -> Scene:
    """Speaking from 2.0 to 9.2 s, 0.3 s a word."""
    scene = Scene(**changes)  # type: ignore[arg-type]
    scene.user(0.5, 1.5, "tell me a story")
    scene.reply(STORY, to="tell me a story")
    return scene


@pytest.mark.parametrize("at", [1.7, 1.9, 2.02, 2.1, 2.3, 2.6, 3.0, 4.0, 6.0, 8.0, 8.9, 9.05, 9.15, 9.25, 10.0])
def test_whenever_the_user_speaks_it_falls_silent_and_answers_that(at: float) -> None:
    scene = storyteller()
    scene.user(at, at + 1.5, "no what is the weather like")
    told = scene.play(until=at + 7)
    assert told.silent_between(at + 0.15, at + 1.5), "it did not talk over the user"
    assert told.outcomes[-1] == "completed"
    assert told.history[-2].endswith("no what is the weather like")
    assert told.history[-1] == "assistant: That is good to hear."
    assert all(line in told.remembered for line in told.history)


@pytest.mark.parametrize("words", ["stop", "wait", "okay wait", "Parley stop", "be quiet"])
def test_a_command_works_at_once(words: str) -> None:
    scene = storyteller()
    scene.user(4.0, 4.4, words)
    told = scene.play(until=9.0)
    assert told.silent_between(4.15, 4.85)
    assert told.outcomes[0] == "interrupted"
    assert told.of(ReplyDone)[0][0] < 4.5, "without waiting for the end of what was said"
    assert "said" in told.records[0].why


@pytest.mark.parametrize("words", ["don't stop", "fair enough", "I can't wait"])
def test_assent_that_contains_a_command_is_none(words: str) -> None:
    scene = storyteller()
    scene.user(4.0, 4.4, words)
    assert scene.play(until=14.0).outcomes == ["completed"]


@pytest.mark.parametrize("length", [0.07, 0.1, 0.15, 0.25, 0.4])
def test_a_cough_or_a_door_is_talked_over(length: float) -> None:
    scene = storyteller()
    scene.noise(4.0, 4.0 + length)
    told = scene.play(until=14.0)
    assert told.outcomes == ["completed"]
    assert told.history[1] == f"assistant: {STORY}"
    assert told.silent_between(4.15, 4.2)
    assert len(told.times(ReplyResumed)) == len(told.times(ReplyPaused)) == 1


def test_a_fit_of_coughing_pauses_and_resumes_each_time() -> None:
    scene = storyteller()
    for number in range(4):
        scene.noise(3.0 + 1.2 * number, 3.2 + 1.2 * number)
    told = scene.play(until=16.0)
    assert told.outcomes == ["completed"]
    assert len(told.times(ReplyResumed)) == 4


@pytest.mark.parametrize("words", ["uh huh", "mm-hmm", "yeah", "I see", "got it", "oh really"])
def test_a_backchannel_is_talked_over(words: str) -> None:
    scene = storyteller()
    scene.user(4.0, 4.45, words)
    told = scene.play(until=14.0)
    assert told.outcomes == ["completed"]
    assert told.said == ["tell me a story"], "it is no turn"
    assert any("talked on" in note for note in told.records[0].notes)


def test_a_cough_before_the_first_sound_delays_it_and_no_more() -> None:
    scene = storyteller(first_token=1.0)
    scene.noise(2.2, 2.4)
    told = scene.play(until=14.0)
    assert told.outcomes == ["completed"]
    assert told.history[1] == f"assistant: {STORY}"


def test_a_door_while_words_are_still_being_understood_loses_nothing() -> None:
    scene = storyteller(ears_delay=0.8)
    scene.noise(2.2, 2.4)
    told = scene.play(until=16.0)
    assert told.outcomes == ["completed"]
    assert told.history == ["user: tell me a story", f"assistant: {STORY}"]


def test_one_word_of_objection_takes_the_turn_when_it_is_over() -> None:
    scene = storyteller()
    scene.user(4.0, 4.35, "no")
    told = scene.play(until=10.0)
    assert told.outcomes[0] == "interrupted"
    assert "objection" in told.records[0].why


def test_talking_over_it_for_ten_seconds_is_one_interruption() -> None:
    scene = storyteller()
    scene.user(4.0, 14.0, " ".join(f"word{number}" for number in range(20)))
    told = scene.play(until=20.0)
    assert told.outcomes == ["interrupted", "completed"]
    assert told.silent_between(4.15, 14.0)
    assert len(told.said[-1].split()) == 20


def test_nothing_of_an_interrupted_reply_comes_later() -> None:
    scene = storyteller(voice_factor=0.9)
    scene.user(4.0, 5.0, "no tell me the time")
    told = scene.play(until=10.0)
    done = told.of(ReplyDone)[0]
    assert not [at for at, event in told.of(ReplyAudio) if at > done[0] and event.turn == done[1].turn]
    assert not [begun for begun, _, turn in told.sounding if begun > 4.1 and turn == done[1].turn]


def test_an_interrupted_mind_stops_writing() -> None:
    scene = storyteller(per_token=0.6)
    scene.reply("Once. There. Was. A. Fox. Who. Lived. Under. A. Hill.", to="tell me a story")
    running: list[int] = []
    scene.user(5.0, 6.0, "no tell me the time")
    scene.at(4.9, lambda conversation: running.append(scene.minds_running))
    scene.at(5.95, lambda conversation: running.append(scene.minds_running))
    scene.play(until=10.0)
    assert running == [1, 0]
    assert scene.prompts[-1].history[-1].text == "no tell me the time"


def test_the_mind_is_told_after_which_word_it_was_interrupted() -> None:
    scene = storyteller()
    scene.user(4.0, 5.0, "no tell me the time")
    told = scene.play(until=9.0)
    before = scene.prompts[-1].history[1]
    assert before.interrupted
    heard = sum(until - begun for begun, until, turn in told.sounding if turn == 1)
    assert len(before.text.split()) == pytest.approx(heard / 0.3, abs=1.0)
    assert STORY.startswith(before.text)


def test_an_unheard_reply_is_no_history() -> None:
    scene = storyteller(first_token=3.0)
    scene.user(4.6, 5.6, "no tell me the time")
    told = scene.play(until=12.0)
    assert told.history[-1] == "assistant: That is good to hear."
    assert sum(line.startswith("assistant") for line in told.history) == 1


def test_a_reply_asked_for_while_another_is_spoken_takes_its_place_and_is_heard() -> None:
    scene = storyteller()
    scene.at(4.0, lambda conversation: conversation.say("what time is it"))
    scene.reply("It is noon.", to="what time is it")
    told = scene.play(until=9.0)
    assert told.outcomes == ["interrupted", "completed"]
    assert told.history[-1] == "assistant: It is noon."


def test_three_hundred_interruptions_in_a_minute() -> None:
    scene = Scene()
    for number in range(300):
        scene.user(0.5 + 0.2 * number, 0.6 + 0.2 * number, "stop" if number % 3 else "what now")
    tasks: list[int] = []
    scene.at(60.0, lambda conversation: tasks.append(len(asyncio.all_tasks())))
    told = scene.play(until=70.0)
    assert tasks[0] < 20, "nothing piles up"
    assert len(told.records) == len({record.turn for record in told.records})


def test_three_hundred_interruptions_by_the_client() -> None:
    scene = Scene()
    for number in range(300):
        scene.at(0.2 * number, lambda conversation: conversation.say("go on"))
        scene.at(0.2 * number + 0.15, lambda conversation: conversation.cancel("the client said so"))
    told = scene.play(until=65.0)
    assert len(told.outcomes) == 300
    assert [line for line in told.history if line.startswith("user")] == ["user: go on"] * 300


def test_cancelling_while_it_thinks_brings_no_reply() -> None:
    scene = storyteller(ears_delay=0.8)
    scene.at(2.3, lambda conversation: conversation.cancel("the client said so"))
    told = scene.play(until=8.0)
    assert not told.of(ReplyStarted)
    assert told.history == ["user: tell me a story"]
    assert told.records[0].outcome == "interrupted"


def test_cancelling_while_the_user_speaks_does_not_lose_the_turn() -> None:
    scene = storyteller()
    scene.at(1.8, lambda conversation: conversation.cancel("the client said so"))
    told = scene.play(until=12.0)
    assert told.outcomes == ["completed"]
    assert len(told.records) == 1


def test_cancelling_nothing_is_nothing() -> None:
    scene = Scene()
    scene.at(0.5, lambda conversation: conversation.cancel("the client said so"))
    told = scene.play(until=2.0)
    assert told.outcomes == []
    assert told.records == []


def test_clearing_speech_over_a_held_reply_lets_it_out() -> None:
    scene = storyteller(ears_delay=0.6)
    scene.user(2.3, 2.9, "hmm let me")
    scene.at(2.75, Conversation.clear)
    told = scene.play(until=14.0)
    assert told.outcomes[-1] == "completed"
