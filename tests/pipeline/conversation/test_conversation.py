"""Scenes of a conversation under a virtual clock."""

from __future__ import annotations

import pytest

from pipeline.conversation.events import ReplyPaused, ReplyResumed, SpeechStopped
from tests.support.scene import Scene


def test_a_question_is_answered() -> None:
    scene = Scene()
    scene.user(0.5, 1.5, "what time is it")
    scene.reply("It is noon.")
    told = scene.play(until=5.0)
    assert told.history == ["user: what time is it", "assistant: It is noon."]
    assert told.outcomes == ["completed"]
    assert told.times(SpeechStopped) == [pytest.approx(2.0, abs=0.05)]
    assert told.began("thinking") == pytest.approx(2.0, abs=0.05)
    assert told.sound_begins() == pytest.approx(2.0, abs=0.06), "the reply was ready when the turn was decided"
    assert told.remembered == ["user: what time is it", "assistant: It is noon."]


def test_a_slow_reply_comes_when_it_is_made() -> None:
    scene = Scene(first_token=1.0)
    scene.user(0.5, 1.5, "what time is it")
    told = scene.play(until=6.0)
    assert told.sound_begins() == pytest.approx(1.7 + 0.03 + 0.01 + 1.0 + 0.08 + 0.05, abs=0.1)
    assert told.outcomes == ["completed"]


def test_a_pause_to_think_continues_the_turn() -> None:
    scene = Scene()
    scene.user(0.5, 1.5, "what is the weather")
    scene.user(1.9, 2.5, "in Paris")
    told = scene.play(until=6.0)
    assert told.said == ["what is the weather in Paris"]
    assert told.silent_between(0.0, 2.9)
    assert len(scene.prompts) == 2, "a reply was prepared at the pause, and thrown away"
    assert told.records[0].revision == 1
    assert told.records[0].speculations == 2


def test_a_cough_during_a_reply_resumes_it() -> None:
    scene = Scene()
    scene.user(0.5, 1.5, "tell me a story")
    scene.reply("Once there was a fox who lived under a hill near the sea.")
    scene.noise(3.0, 3.15)
    told = scene.play(until=10.0)
    assert told.outcomes == ["completed"]
    assert told.history[1] == "assistant: Once there was a fox who lived under a hill near the sea."
    assert told.times(ReplyPaused) == [pytest.approx(3.08, abs=0.05)]
    assert told.times(ReplyResumed)[0] < 3.6
    assert told.silent_between(3.15, 3.3)


def test_a_backchannel_does_not_take_the_turn() -> None:
    scene = Scene()
    scene.user(0.5, 1.5, "tell me a story")
    scene.reply("Once there was a fox who lived under a hill near the sea.")
    scene.user(3.0, 3.4, "uh huh")
    told = scene.play(until=10.0)
    assert told.outcomes == ["completed"]
    assert told.said == ["tell me a story"]


def test_an_interruption_stops_the_reply_and_is_answered() -> None:
    scene = Scene()
    scene.user(0.5, 1.5, "tell me a story")
    scene.reply("Once there was a fox who lived under a hill near the sea.", to="tell me a story")
    scene.user(3.0, 4.0, "no tell me the time")
    scene.reply("It is noon.", to="no tell me the time")
    told = scene.play(until=8.0)
    assert told.outcomes == ["interrupted", "completed"]
    assert told.history[0] == "user: tell me a story"
    assert told.history[1].startswith("assistant: Once there was")
    assert len(told.history[1]) < 40, "only what was heard"
    assert told.history[2:] == ["user: no tell me the time", "assistant: It is noon."]
    assert told.silent_between(3.1, 4.4)
    assert scene.prompts[-1].history[1].interrupted


def test_speech_without_words_is_asked_about_once() -> None:
    scene = Scene()
    scene.noise(0.5, 1.5)
    scene.noise(7.0, 8.0)
    told = scene.play(until=14.0)
    assert told.history == ["assistant: Sorry, I didn't catch that. Could you say it again?"]
    assert len(told.notices) == 1


def test_a_failing_mind_says_so_and_the_conversation_goes_on() -> None:
    scene = Scene()
    scene.user(0.5, 1.5, "tell me a story")
    scene.reply("Once there was CRASH", to="tell me a story")
    scene.user(9.0, 10.0, "are you there")
    told = scene.play(until=16.0)
    assert told.outcomes == ["failed", "completed"]
    assert "restarted" in told.notices[0]
    assert "restarted" in told.history[1], "it was said aloud"


def test_a_failing_transcriber_says_so_and_is_asked_about_once() -> None:
    scene = Scene(ears_fail=True)
    scene.user(0.5, 1.5, "tell me a story")
    scene.user(8.0, 9.0, "tell me a story")
    told = scene.play(until=14.0)
    assert sum("restarted" in notice for notice in told.notices) == 2
    assert told.history == ["assistant: Sorry, I didn't catch that. Could you say it again?"]
    assert [record.outcome for record in told.records] == ["completed", "not understood"]


def test_a_failing_voice_says_so() -> None:
    scene = Scene(voice_fails=True)
    scene.user(0.5, 1.5, "tell me a story")
    told = scene.play(until=6.0)
    assert told.outcomes == ["failed"]
    assert any("The voice stopped" in notice for notice in told.notices)


def test_a_full_disk_stops_remembering_and_not_the_conversation() -> None:
    scene = Scene(memory_fails=True)
    scene.user(0.5, 1.5, "tell me a story")
    told = scene.play(until=6.0)
    assert told.outcomes == ["completed"]
    assert any("free some space" in notice for notice in told.notices)


def test_typing_is_a_turn() -> None:
    scene = Scene()
    scene.at(0.5, lambda conversation: conversation.say("what time is it"))
    scene.reply("It is noon.")
    told = scene.play(until=4.0)
    assert told.history == ["user: what time is it", "assistant: It is noon."]


def test_typing_interrupts() -> None:
    scene = Scene()
    scene.user(0.5, 1.5, "tell me a story")
    scene.reply("Once there was a fox who lived under a hill near the sea.", to="tell me a story")
    scene.at(3.0, lambda conversation: conversation.say("stop it"))
    told = scene.play(until=8.0)
    assert told.outcomes == ["interrupted", "completed"]


def test_manual_turns() -> None:
    scene = Scene(mode="manual")
    scene.user(0.5, 1.5, "what time is it")
    scene.at(4.0, lambda conversation: conversation.commit())
    scene.at(4.01, lambda conversation: conversation.respond())
    scene.reply("It is noon.")
    told = scene.play(until=8.0)
    assert told.history == ["user: what time is it", "assistant: It is noon."]
    assert told.silent_between(0, 4.0)


def test_silence_leaves_no_trace() -> None:
    told = Scene().play(until=60.0)
    assert told.history == []
    assert told.notices == []


def test_two_minutes_without_a_pause_are_answered_in_parts() -> None:
    scene = Scene()
    scene.user(0.5, 120.5, " ".join(f"word{number}" for number in range(240)))
    told = scene.play(until=130.0)
    assert [len(said.split()) for said in told.said] == [120, 120]
    assert told.said[0].startswith("word0 ")


def test_closing_in_mid_reply_keeps_what_was_heard() -> None:
    scene = Scene()
    scene.user(0.5, 1.5, "tell me a story")
    scene.reply("Once there was a fox who lived under a hill near the sea.")
    told = scene.play(until=3.5)
    assert told.outcomes == ["interrupted"]
    assert told.remembered[1].startswith("assistant: Once there was")


def test_finished_speech_is_answered_after_a_short_silence() -> None:
    scene = Scene(meaning=True, first_token=0.0, per_token=0.0, first_sample=0.0)
    scene.user(0.5, 1.5, "what time is it")
    told = scene.play(until=5.0)
    assert told.sound_begins() == pytest.approx(1.5 + 0.15, abs=0.07)
    assert "finished with probability 0.95" in told.records[0].end_of_turn


def test_unfinished_speech_is_waited_for() -> None:
    scene = Scene(meaning=True, finished_at={1.5: 0.05})
    scene.user(0.5, 1.5, "my favourite colour")
    scene.user(2.6, 3.2, "is blue")
    told = scene.play(until=7.0)
    assert told.said == ["my favourite colour is blue"]
    assert told.silent_between(0.0, 3.3)


def test_an_unfinished_sentence_is_answered_in_the_end() -> None:
    scene = Scene(meaning=True, finished_at={1.5: 0.05})
    scene.user(0.5, 1.5, "my favourite colour")
    told = scene.play(until=8.0)
    assert told.outcomes == ["completed"]
    assert told.sound_begins() == pytest.approx(3.0, abs=0.15)


def test_a_reply_that_cut_in_is_withdrawn_and_the_turn_goes_on_as_one() -> None:
    scene = Scene(meaning=True)
    scene.reply("My fellow citizens have a lot to say about that.")
    scene.user(0.5, 1.5, "and so my fellow Americans")
    scene.user(2.6, 4.0, "ask not what your country can do")
    told = scene.play(until=10.0)
    assert told.outcomes == ["withdrawn", "completed"]
    assert told.said[-1] == "and so my fellow Americans ask not what your country can do"
    assert told.history == [f"user: {told.said[-1]}", "assistant: My fellow citizens have a lot to say about that."]
    assert told.remembered == told.history, "what was withdrawn is not remembered either"
    assert told.silent_between(2.6 + 0.15, 4.2), "it fell silent at once"


def test_an_end_that_stops_reporting_does_not_keep_the_turn_open() -> None:
    scene = Scene(deaf_after=2.5)
    scene.user(0.5, 1.5, "tell me a story")
    scene.reply("Once there was a fox who lived under a hill near the sea.")
    told = scene.play(until=30.0)
    assert told.outcomes == ["interrupted"]
    assert "no more playback" in told.records[0].why
