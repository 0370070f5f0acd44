"""Scenes of whose turn it is: pauses, speech that goes on, speculation, and turns that the client decides."""

from __future__ import annotations

import pytest

from config import Settings
from pipeline.conversation.events import ReplyAudio, ReplyStarted, SpeechStarted, SpeechStopped
from pipeline.conversation.request import Request
from tests.support.scene import Scene

STORY = "Once there was a fox who lived under a hill near the sea."


def quick(**changes: object) -> Scene:
    """Engines that take no time, so that only the deciding does."""
    return Scene(meaning=True, first_token=0.0, per_token=0.0, first_sample=0.0, **changes)  # type: ignore[arg-type]


def with_speculations(count: int) -> Settings:
    settings = Settings()
    settings.turns.speculations = count
    return settings


def test_an_answer_does_not_wait_for_more_than_a_fifth_of_a_second() -> None:
    scene = quick()
    scene.user(0.5, 1.5, "what time is it")
    told = scene.play(until=5.0)
    assert told.sound_begins() - 1.5 < 0.3


def test_the_mind_reads_what_was_said_so_far_before_it_is_asked() -> None:
    scene = quick(reading=0.4)
    scene.user(0.5, 1.5, "what time is it")
    scene.reply("It is noon.")
    scene.user(4.0, 5.0, "and tomorrow")
    told = scene.play(until=9.0)
    assert told.outcomes == ["completed", "completed"]
    assert told.sound_begins(4.0) - 5.0 < 0.3, "it was read while nobody waited"
    assert scene.read == [
        [],
        ["what time is it", "It is noon."],
        ["what time is it", "It is noon.", "and tomorrow", "It is noon."],
    ]


def test_a_reply_waits_for_its_own_beginning_to_be_read_and_for_no_other() -> None:
    scene = quick(reading=3.0)
    scene.user(0.5, 1.5, "what time is it")
    told = scene.play(until=2.9)
    assert not told.sounding, "nothing else would read it sooner"
    scene = quick(reading=3.0)
    scene.user(4.0, 5.0, "tell me a story")
    scene.reply(STORY)
    scene.user(6.5, 7.5, "stop and tell me another one please")
    told = scene.play(until=14.0)
    assert told.outcomes[0] == "interrupted"
    assert told.sound_begins(7.5) < 11.0, "3 s from the interruption on, and not after a reading of what came before"


def test_sound_begins_while_the_reply_is_still_being_written() -> None:
    scene = Scene(per_token=0.3)
    scene.user(0.5, 1.5, "tell me a story")
    scene.reply("It is long. " + " ".join(f"Word {number}." for number in range(40)))
    told = scene.play(until=40.0)
    assert told.sound_begins() < 4.0
    assert told.times(ReplyAudio)[-1] > 20.0
    assert told.outcomes == ["completed"]


@pytest.mark.parametrize("pause", [0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9, 1.1, 1.2])
def test_speech_that_goes_on_is_one_turn_whenever_it_does(pause: float) -> None:
    scene = Scene(meaning=True)
    scene.user(0.5, 1.5, "and so my fellow Americans")
    scene.user(1.5 + pause, 3.5 + pause, "ask not what your country can do")
    told = scene.play(until=10.0)
    assert told.said[-1] == "and so my fellow Americans ask not what your country can do"
    assert [line for line in told.history if line.startswith("user")] == [f"user: {told.said[-1]}"]
    assert told.outcomes[-1] == "completed"
    assert told.silent_between(1.5 + pause + 0.15, 3.5 + pause)
    assert scene.prompts[-1].history[-1].text == told.said[-1]


def test_the_voice_hears_each_part_of_a_turn_that_goes_on_once() -> None:
    scene = Scene(meaning=True, finished_at={2.75: 0.02, 3.6: 0.95})
    scene.user(0.5, 1.5, "and so my fellow Americans")
    scene.user(2.4, 2.75, "ask")
    scene.user(3.3, 3.6, "not")
    scene.play(until=8.0)
    assert [text for text, _ in scene.context] == ["and so my fellow Americans", "ask not"]
    first, rest = (seconds for _, seconds in scene.context)
    assert 1.0 <= first <= 2.0, "its words, 400 ms before them and the silence that ended it"
    assert 1.2 <= rest <= 2.2, "and nothing of the first part"


def test_a_single_word_after_a_reply_that_cut_in_is_the_turn_going_on_and_no_backchannel() -> None:
    scene = Scene(meaning=True, finished_at={2.75: 0.02, 3.6: 0.95})
    scene.user(0.5, 1.5, "and so my fellow Americans")
    scene.user(2.4, 2.75, "ask")
    scene.user(3.3, 3.6, "not")
    told = scene.play(until=8.0)
    assert told.outcomes == ["withdrawn", "completed"]
    assert told.said[-1] == "and so my fellow Americans ask not"
    assert told.silent_between(2.55, 3.6)


def test_speech_that_goes_on_before_the_first_part_was_understood_is_answered_together() -> None:
    scene = Scene(ears_delay=1.2)
    scene.user(0.5, 1.5, "what is the weather")
    scene.user(2.2, 3.0, "in Paris")
    told = scene.play(until=9.0)
    assert [line for line in told.history if line.startswith("user")] == ["user: what is the weather", "user: in Paris"]
    assert told.outcomes[-1] == "completed"
    assert len(told.of(ReplyStarted)) == 1
    assert [message.text for message in scene.prompts[-1].history] == ["what is the weather", "in Paris"]


def test_who_pauses_after_every_word_makes_no_more_work_than_allowed() -> None:
    scene = Scene(meaning=True)
    for number in range(8):
        scene.user(0.5 + number, 0.8 + number, f"word{number}")
        scene.finished_at[0.8 + number] = 0.5
    told = scene.play(until=16.0)
    allowed = scene.settings.turns.speculations
    assert len(scene.prompts) <= (allowed + 1) * len(told.of(SpeechStopped))
    assert all(record.speculations <= allowed for record in told.records)
    assert sum(record.wasted_tokens for record in told.records) > 0, "what was thrown away is counted"


@pytest.mark.parametrize("allowed", [0, 1, 3])
def test_speculation_is_bounded_by_the_setting(allowed: int) -> None:
    scene = Scene(settings=with_speculations(allowed))
    for number in range(6):
        scene.user(0.5 + 0.7 * number, 0.85 + 0.7 * number, f"word{number}")
    told = scene.play(until=12.0)
    assert told.said == ["word0 word1 word2 word3 word4 word5"]
    assert told.records[0].speculations == allowed
    assert len(scene.prompts) == allowed + 1 if allowed < 3 else len(scene.prompts) <= 4
    assert told.outcomes == ["completed"]


def test_a_word_that_goes_on_is_given_time() -> None:
    scene = quick(finished_at={1.5: 0.8})
    scene.user(0.5, 1.5, "I went there and")
    scene.user(2.0, 3.0, "came back")
    told = scene.play(until=7.0)
    assert told.said == ["I went there and came back"]
    assert told.silent_between(0, 3.1)


def test_who_was_cut_in_on_gets_more_time_the_next_time() -> None:
    scene = quick()
    scene.user(0.5, 1.5, "and so my fellow Americans")
    scene.user(1.9, 3.4, "ask not what your country can do")
    scene.user(12.0, 13.0, "what time is it")
    told = scene.play(until=18.0)
    assert told.outcomes[0] == "withdrawn"
    assert told.sound_begins(after=13.0) - 13.0 == pytest.approx(0.1 + 0.08, abs=0.03), "without it 0.13"


def test_a_slow_turn_model_holds_nobody_up_for_long() -> None:
    scene = quick(finished_delay=30.0)
    scene.user(0.5, 1.5, "what time is it")
    told = scene.play(until=8.0)
    assert told.sound_begins() == pytest.approx(1.5 + 1.6, abs=0.1)


def test_a_turn_model_that_fails_is_told_and_silence_decides() -> None:
    scene = quick(finished_fails=True)
    scene.user(0.5, 1.5, "what time is it")
    scene.user(6.0, 7.0, "and now")
    told = scene.play(until=11.0)
    assert len(told.notices) == 1
    assert "500 ms of silence end a turn" in told.notices[0]
    assert told.outcomes == ["completed", "completed"]


def test_speech_that_never_ends_is_answered_a_minute_at_a_time() -> None:
    scene = Scene()
    scene.user(0.5, 300.5, " ".join(f"word{number}" for number in range(600)))
    told = scene.play(until=310.0)
    assert len(told.said) == 5
    assert sum(len(said.split()) for said in told.said) == 600, "no word was lost at the cuts"


def test_silence_after_a_conversation_stays_silent() -> None:
    scene = Scene()
    scene.user(0.5, 1.5, "what time is it")
    told = scene.play(until=120.0)
    assert told.silent_between(5.0, 120.0)
    assert len(told.outcomes) == 1


def test_memory_is_asked_while_the_user_still_speaks() -> None:
    scene = quick(memory_delay=0.25)
    scene.user(0.5, 1.5, "what is my dog called")
    told = scene.play(until=5.0)
    assert told.sound_begins() - 1.5 < 0.35, "it cost no time after the end of speech"


def test_a_turn_that_is_only_detected_waits_to_be_answered() -> None:
    scene = Scene(mode="detect")
    scene.user(0.5, 1.5, "what time is it")
    told = scene.play(until=8.0)
    assert told.said == ["what time is it"]
    assert told.remembered == ["user: what time is it"]
    assert not scene.prompts
    assert told.outcomes == []


def test_a_detected_turn_is_answered_when_asked_even_before_it_is_understood() -> None:
    scene = Scene(mode="detect", ears_delay=1.0)
    scene.user(0.5, 1.5, "what time is it")
    scene.at(2.1, lambda conversation: conversation.respond())
    told = scene.play(until=8.0)
    assert told.history == ["user: what time is it", "assistant: That is good to hear."]


def test_a_detected_turn_interrupts_like_any_other() -> None:
    scene = Scene(mode="detect")
    scene.reply(STORY)
    scene.user(0.5, 1.5, "tell me a story")
    scene.at(2.5, lambda conversation: conversation.respond())
    scene.user(4.0, 5.0, "no tell me the time")
    told = scene.play(until=9.0)
    assert told.outcomes == ["interrupted"]
    assert told.history[-1] == "user: no tell me the time"


def test_manual_turns_are_not_interrupted_by_speech() -> None:
    scene = Scene(mode="manual")
    scene.reply(STORY)
    scene.user(0.5, 1.5, "tell me a story")
    scene.at(2.0, lambda conversation: conversation.commit())
    scene.at(2.01, lambda conversation: conversation.respond())
    scene.user(4.0, 5.0, "no tell me the time")
    told = scene.play(until=9.0)
    assert told.outcomes == ["completed"]


def test_what_is_cleared_was_never_said() -> None:
    scene = Scene(mode="manual")
    scene.user(0.5, 1.5, "this is a secret")
    scene.at(2.0, lambda conversation: conversation.clear())
    scene.user(3.0, 4.0, "what time is it")
    scene.at(5.0, lambda conversation: conversation.commit())
    told = scene.play(until=7.0)
    assert told.said == ["what time is it"]
    assert told.history == ["user: what time is it"]


def test_how_it_is_to_answer_is_asked_with_each_reply() -> None:
    scene = Scene()
    scene.settings.mind.temperature, scene.settings.mind.max_tokens = 0.2, 64
    scene.user(0.5, 1.5, "what time is it")
    scene.play(until=5.0)
    assert (scene.prompts[-1].temperature, scene.prompts[-1].max_tokens) == (0.2, 64)


def test_replying_again_needs_no_new_speech() -> None:
    scene = Scene()
    scene.user(0.5, 1.5, "what time is it")
    scene.at(6.0, lambda conversation: conversation.respond(Request(persona="You are a pirate.")))
    told = scene.play(until=10.0)
    assert told.outcomes == ["completed", "completed"]
    assert scene.prompts[-1].persona == "You are a pirate."
    assert sum(line.startswith("user") for line in told.history) == 1


def test_the_last_breath_after_a_committed_turn_is_no_turn() -> None:
    scene = Scene()
    scene.user(0.5, 1.5, "what time is it")
    scene.at(1.54, lambda conversation: conversation.commit())
    told = scene.play(until=6.0)
    assert len(told.of(SpeechStarted)) == 1
    assert told.outcomes == ["completed"]


def test_what_is_typed_while_one_speaks_talks_over_nobody() -> None:
    scene = Scene()
    scene.user(0.5, 4.5, "tell me a very long story about the sea")
    scene.at(1.0, lambda conversation: conversation.say("and make it short"))
    told = scene.play(until=12.0)
    assert told.silent_between(0.0, 4.5)
    assert sorted(line for line in told.history if line.startswith("user")) == [
        "user: and make it short",
        "user: tell me a very long story about the sea",
    ]
    assert told.outcomes[-1] == "completed"


def test_what_is_typed_during_a_cough_is_answered_after_it() -> None:
    scene = Scene()
    scene.noise(1.0, 1.2)
    scene.at(1.15, lambda conversation: conversation.say("what time is it"))
    told = scene.play(until=6.0)
    assert told.outcomes == ["completed"]
    assert told.history[0] == "user: what time is it"


def test_what_was_said_first_is_history_first_though_it_is_understood_later() -> None:
    scene = Scene(ears_delay=1.0)
    scene.user(0.5, 1.5, "tell me a story")
    scene.at(2.2, lambda conversation: conversation.say("a short one"))
    told = scene.play(until=8.0)
    assert told.history[:2] == ["user: tell me a story", "user: a short one"]
    assert [message.text for message in scene.prompts[-1].history] == ["tell me a story", "a short one"]
    assert told.outcomes[-1] == "completed"


def test_two_things_typed_at_once_are_both_kept_and_answered_once() -> None:
    scene = Scene()
    scene.at(0.5, lambda conversation: conversation.say("one"))
    scene.at(0.5, lambda conversation: conversation.say("two"))
    told = scene.play(until=5.0)
    assert told.history == ["user: one", "user: two", "assistant: That is good to hear."]
    assert told.outcomes == ["interrupted", "completed"]


def test_what_was_said_last_is_kept_when_the_conversation_is_closed() -> None:
    scene = Scene(ears_delay=1.0)
    scene.user(0.5, 1.5, "remember the milk")
    told = scene.play(until=2.2)
    assert told.history == ["user: remember the milk"]
    assert told.remembered == ["user: remember the milk"]


def test_a_part_that_stands_alone_again_keeps_its_place_before_what_was_typed() -> None:
    scene = Scene(
        ears_delay=0.0, first_token=1.5, first_sample=0.6, voice_factor=0.0, memory_delay=0.0, voice_fails=True
    )
    for start, end in [(1.3, 2.3), (3.3, 4.3), (5.3, 6.3), (9.3, 11.3), (13.3, 13.8)]:
        scene.user(start, end, "yes")
    scene.reply("Yes.")
    scene.at(14.0, lambda conversation: conversation.say("what time is it"))
    told = scene.play(until=22.0)
    users = [line for line in told.history if line.startswith("user")]
    assert users == ["user: yes yes yes", "user: yes", "user: what time is it"]
