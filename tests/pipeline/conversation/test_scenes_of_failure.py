"""Scenes in which something fails, lies or sleeps: engines, the end of the sound, the clocks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from pipeline.conversation.conversation import Conversation
from pipeline.conversation.events import ReplyStarted
from tests.support.scene import Scene
from tests.support.virtual_time import VirtualClockLoop

STORY = "Once there was a fox. It lived under a hill. The hill was near the sea."


def storyteller(**changes: object) -> Scene:
    scene = Scene(**changes)  # type: ignore[arg-type]
    scene.user(0.5, 1.5, "tell me a story")
    scene.reply(STORY, to="tell me a story")
    return scene


def fails(scene: Scene, what: str, at: float, until: float) -> None:
    scene.at(at, lambda conversation: setattr(scene, what, True))
    scene.at(until, lambda conversation: setattr(scene, what, False))


@pytest.mark.parametrize("what", ["ears_fail", "voice_fails", "memory_fails", "recall_fails"])
@pytest.mark.parametrize("at", [0.0, 1.0, 1.6, 1.9, 2.05, 3.0, 5.0])
def test_whatever_fails_whenever_is_told_and_the_next_turn_is_answered(what: str, at: float) -> None:
    scene = storyteller(voice_factor=0.9, seconds_per_word=0.2)
    fails(scene, what, at, at + 3.0)
    scene.user(14.0, 15.0, "are you there")
    told = scene.play(until=20.0)
    assert told.outcomes[-1] == "completed"
    assert told.history[-2:] == ["user: are you there", "assistant: That is good to hear."]
    assert all(record.outcome for record in told.records)
    if "failed" in told.outcomes:
        assert told.notices


@pytest.mark.parametrize("words", ["CRASH", "Well CRASH", "Once there was. A fox CRASH", "One. Two. Three. CRASH four"])
def test_a_mind_that_fails_says_so_aloud_wherever_it_was(words: str) -> None:
    scene = Scene()
    scene.user(0.5, 1.5, "tell me a story")
    scene.reply(words)
    told = scene.play(until=16.0)
    assert told.outcomes == ["failed"]
    assert told.history[-1].endswith("is being restarted.")
    assert len([notice for notice in told.notices if "restarted" in notice]) == 1


@pytest.mark.parametrize("words", ["It is CALL sunny.", "CALL It is sunny."])
def test_a_tool_call_is_not_said_beside_text(words: str) -> None:
    scene = Scene()
    scene.user(0.5, 1.5, "how is the weather")
    scene.reply(words)
    told = scene.play(until=8.0)
    assert (told.outcomes, told.notices) == (["completed"], [])
    assert told.history == ["user: how is the weather", "assistant: It is sunny."]


def test_a_reply_that_is_only_a_tool_call_fails_in_a_sentence() -> None:
    scene = Scene()
    scene.user(0.5, 1.5, "how is the weather")
    scene.reply("CALL")
    told = scene.play(until=16.0)
    assert told.outcomes == ["failed"]
    assert told.notices == [
        "The language model asked for the tool “weather”, which does not exist: ask in other words."
    ]


def test_a_bug_in_an_engine_ends_the_turn_with_a_sentence() -> None:
    scene = Scene()
    scene.user(0.5, 1.5, "tell me a story")
    scene.reply("Once there was BUG", to="tell me a story")
    scene.user(6.0, 7.0, "are you there")
    told = scene.play(until=12.0)
    assert told.outcomes == ["failed", "completed"]
    assert told.notices == ["Something went wrong inside Parley; its log has the details. Please say it again."]


def test_a_bug_in_the_ears_is_said_aloud_and_the_next_turn_is_heard() -> None:
    scene = storyteller()
    fails(scene, "ears_bug", 0.0, 3.0)
    scene.user(8.0, 9.0, "are you there")
    told = scene.play(until=16.0)
    assert told.history[0] == "assistant: Sorry, I didn't catch that. Could you say it again?"
    assert told.history[1:] == ["user: are you there", "assistant: That is good to hear."]
    assert told.notices == ["Something went wrong inside Parley; its log has the details. Please say it again."]


def test_a_mind_that_fails_at_a_reply_nobody_wants_is_not_told() -> None:
    scene = Scene()
    scene.user(0.5, 1.5, "tell me")
    scene.reply("CRASH", to="tell me")
    scene.user(1.95, 2.6, "the time")
    told = scene.play(until=7.0)
    assert told.said == ["tell me the time"]
    assert told.outcomes == ["completed"]


def test_ears_that_fail_during_an_interruption_leave_the_reply_alone() -> None:
    scene = storyteller()
    fails(scene, "ears_fail", 3.0, 6.0)
    scene.user(4.0, 4.5, "uh huh")
    told = scene.play(until=12.0)
    assert told.outcomes == ["completed"]


def test_ears_that_fail_cannot_hide_a_long_interruption() -> None:
    scene = storyteller()
    fails(scene, "ears_fail", 3.0, 6.0)
    scene.user(3.5, 5.0, "no tell me the time")
    told = scene.play(until=12.0)
    assert told.outcomes[0] == "interrupted"
    assert told.silent_between(3.65, 5.0)


def test_a_memory_that_takes_three_seconds_only_makes_it_late() -> None:
    told = storyteller(memory_delay=3.0).play(until=20.0)
    assert told.outcomes == ["completed"]
    assert told.remembered == told.history


def test_a_memory_that_cannot_recall_is_told_and_the_reply_comes_without_it() -> None:
    told = storyteller(recall_fails=True).play(until=12.0)
    assert told.outcomes == ["completed"]
    assert any("Nothing could be recalled" in notice for notice in told.notices)


def test_a_bug_in_memory_costs_one_turn_and_is_told() -> None:
    scene = Scene()
    scene.user(0.5, 1.5, "there is a bug on the wall")
    scene.user(7.0, 8.0, "are you there")
    told = scene.play(until=14.0)
    assert told.outcomes == ["completed", "completed"]
    assert [turn for turn in told.history if turn not in told.remembered] == ["user: there is a bug on the wall"]
    assert told.notices == [
        "This turn will not be remembered: something went wrong inside Parley; the log has the details."
    ]


def test_what_memory_has_to_say_is_told_once() -> None:
    notice = "This memory was damaged, and the damaged file is kept: 12 turns were rescued."
    scene = storyteller(memory_notices=(notice,))
    scene.user(10.0, 11.0, "are you there")
    told = scene.play(until=20.0)
    assert told.outcomes == ["completed", "completed"]
    assert told.notices.count(notice) == 1


def test_it_is_the_user_who_asks_memory() -> None:
    scene = storyteller()
    told = scene.play(until=12.0)
    assert scene.askers and set(scene.askers) == {"user"}
    assert told.remembered[0].startswith("user: ")


def test_a_voice_slower_than_speech_is_still_heard_to_the_end() -> None:
    told = storyteller(voice_factor=2.0).play(until=25.0)
    assert told.outcomes == ["completed"]
    assert told.history[-1] == f"assistant: {STORY}"


def test_a_mind_slower_than_speech_is_still_heard_to_the_end() -> None:
    told = storyteller(per_token=0.8).play(until=25.0)
    assert told.outcomes == ["completed"]
    assert told.history[-1] == f"assistant: {STORY}"


@pytest.mark.parametrize("words", ["", "😀", "<think>Hm.</think>", "..."])
def test_a_reply_without_words_is_asked_for_once_more_and_then_said_to_fail(words: str) -> None:
    scene = Scene()
    scene.user(0.5, 1.5, "say nothing")
    scene.reply(words)
    told = scene.play(until=16.0)
    assert told.outcomes == ["failed"]
    assert told.notices == ["The language model returned no words: ask again, or choose another model."]
    assert len(scene.prompts) == 2


def test_a_reply_that_is_cut_off_ends_with_its_last_whole_sentence() -> None:
    scene = Scene()
    scene.user(0.5, 1.5, "tell me a story")
    scene.reply("Once there was a king. He had a big CUT")
    told = scene.play(until=12.0)
    assert told.history == ["user: tell me a story", "assistant: Once there was a king."]


@pytest.mark.parametrize("report", [-1, -(10**12), 0])
def test_a_report_below_what_is_possible_changes_nothing(report: int) -> None:
    scene = storyteller()
    for number in range(20):
        scene.at(2.1 + 0.1 * number, lambda conversation: conversation.played(report))
    told = scene.play(until=12.0)
    assert told.outcomes == ["completed"]
    assert told.history[-1] == f"assistant: {STORY}"


def test_a_report_beyond_what_was_sent_is_all_of_it() -> None:
    scene = storyteller(voice_factor=0.9)
    scene.at(3.0, lambda conversation: conversation.played(10**15))
    scene.at(3.1, lambda conversation: conversation.cancel("the client said so"))
    told = scene.play(until=6.0)
    assert STORY.startswith(told.history[-1].removeprefix("assistant: ")), "no more than was sent can have been heard"
    assert told.outcomes == ["interrupted"]


def test_reports_that_go_back_do_not_unhear() -> None:
    scene = storyteller()
    scene.at(5.0, lambda conversation: conversation.played(100))
    scene.at(5.001, lambda conversation: conversation.cancel("the client said so"))
    told = scene.play(until=7.0)
    assert len(told.history[-1].split()) > 8


def test_a_report_without_a_reply_is_nothing() -> None:
    scene = Scene()
    scene.at(0.5, lambda conversation: conversation.played(24_000))
    assert scene.play(until=2.0).events[-1:] == scene.play(until=2.0).events[-1:]
    scene.user(3.0, 4.0, "what time is it")
    assert scene.play(until=8.0).outcomes == ["completed"]


def test_a_report_of_a_reply_that_is_held_back_does_not_finish_it() -> None:
    scene = storyteller()
    scene.at(1.9, lambda conversation: conversation.played(10**9))
    told = scene.play(until=12.0)
    assert told.outcomes == ["completed"]
    assert told.sound_begins() > 1.95


def test_a_tab_that_sleeps_for_a_moment_goes_on() -> None:
    told = storyteller(deaf_after=3.0, deaf_until=8.0).play(until=20.0)
    assert told.outcomes == ["completed"]
    assert told.history[-1] == f"assistant: {STORY}"


def test_a_tab_that_sleeps_can_be_talked_to_when_it_wakes() -> None:
    scene = storyteller(deaf_after=2.5, deaf_until=30.0)
    scene.user(31.0, 32.0, "are you there")
    told = scene.play(until=37.0)
    assert told.outcomes == ["interrupted", "completed"]
    assert "no more playback" in told.records[0].why


def test_a_wall_clock_that_goes_backwards_disturbs_nothing() -> None:
    def backwards() -> Iterator[datetime]:
        now = datetime(2026, 11, 20, 12, tzinfo=UTC)
        while True:
            yield now
            now -= timedelta(hours=7)

    clock = backwards()
    scene = storyteller(now=lambda: next(clock))
    scene.user(10.0, 11.0, "are you there")
    told = scene.play(until=15.0)
    assert told.outcomes == ["completed", "completed"]
    assert told.remembered == told.history


@pytest.mark.parametrize("at", [1.0, 1.6, 2.02, 4.0])
def test_a_machine_that_was_asleep_for_half_a_minute_goes_on(at: float) -> None:
    def sleep(_: Conversation) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualClockLoop)
        loop.jump(30.0)

    scene = storyteller()
    scene.at(at, sleep)
    scene.user(45.0, 46.0, "are you there")
    told = scene.play(until=52.0)
    assert told.outcomes[-1] == "completed"
    assert told.history[-2:] == ["user: are you there", "assistant: That is good to hear."]


def test_another_voice_takes_over_with_the_next_reply() -> None:
    scene = storyteller()
    scene.at(3.0, lambda conversation: conversation.configure(scene.settings))
    scene.user(9.0, 10.0, "are you there")
    told = scene.play(until=14.0)
    assert told.outcomes == ["completed", "completed"]


def test_closing_while_a_reply_is_prepared_ends_in_good_order() -> None:
    told = storyteller(first_token=5.0).play(until=2.5)
    assert not [event for _, event in told.events if isinstance(event, ReplyStarted)] or told.outcomes
    assert told.history == ["user: tell me a story"]
    assert told.remembered == ["user: tell me a story"]
