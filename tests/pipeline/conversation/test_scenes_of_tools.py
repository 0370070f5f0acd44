"""What happens around a call of a tool: silence, interruptions, questions, and tools that never answer."""

from __future__ import annotations

import pytest

from pipeline.conversation.conversation import Conversation
from pipeline.conversation.errands import ANSWER_S, CALLED_OFF, CLIENT_S, DECLINED, LATE, LEFT, RUN_S, UNANSWERED
from pipeline.conversation.events import CallGivenUp, ReplyText, ToolUsed
from pipeline.conversation.own_accord import FILLERS
from pipeline.conversation.request import Request
from pipeline.tools.calls import Tool
from tests.support.scene import Scene, ScriptedTools, Told

CALLED = ["user: weather", "assistant: ", "tool: sunny", "assistant: It is sunny."]
QUESTION = "May I use the tool “weather”?"


def scene(**tools: object) -> Scene:
    """Somebody asks for the weather, and stops at 1.5 s."""
    made = Scene(tools=ScriptedTools(**tools))  # type: ignore[arg-type]
    made.user(0.5, 1.5, "weather")
    made.reply("CALL", to="weather")
    made.reply("It is sunny.", to="sunny")
    return made


def spoken(told: Told) -> list[str]:
    return [event.text for _, event in told.of(ReplyText) if isinstance(event, ReplyText)]


def states(told: Told) -> list[str]:
    return [event.state for _, event in told.of(ToolUsed) if isinstance(event, ToolUsed)]


def test_a_tool_that_answers_at_once_is_answered_with_and_no_silence_is_filled() -> None:
    told = scene().play(until=8)
    assert told.history == CALLED
    assert spoken(told) == ["It is sunny."]
    assert states(told) == ["running", "done"]
    assert told.remembered == ["user: weather", "assistant: It is sunny."]


def test_a_long_silence_is_filled_once_and_the_filler_is_not_what_was_said() -> None:
    told = scene(takes=12.0).play(until=25)
    assert spoken(told) == [FILLERS[0], "It is sunny."]
    assert told.history == CALLED
    assert told.remembered == ["user: weather", "assistant: It is sunny."]


def test_a_result_that_comes_during_the_filler_waits_for_its_end() -> None:
    told = scene(takes=2.6).play(until=12)
    assert spoken(told) == [FILLERS[0], "It is sunny."]
    assert told.outcomes[-2:] == ["completed", "completed"]


def test_no_silence_is_filled_where_the_call_was_announced() -> None:
    script = scene(takes=12.0)
    script.reply("I will look. CALL", to="weather")
    assert spoken(script.play(until=25)) == ["I will look.", "It is sunny."]


def test_what_is_said_during_a_call_is_answered_and_its_result_is_told_afterwards_once() -> None:
    script = scene(takes=5.0)
    script.user(3.0, 5.0, "are you there")
    script.reply("Yes, I am still waiting for the weather service.", to="are you there")
    told = script.play(until=20)
    assert spoken(told)[-2:] == ["Yes, I am still waiting for the weather service.", "It is sunny."]
    assert [line for line in told.history if line.startswith("tool")] == ["tool: sunny"]
    assert told.history[-3:] == ["assistant: ", "tool: sunny", "assistant: It is sunny."]  # as news, at the end


def test_a_result_is_not_spoken_over_the_user() -> None:
    script = scene(takes=3.0)
    script.user(4.0, 8.0, "and another thing that takes long")
    script.reply("Noted, and it is sunny.", to="and another thing that takes long")
    told = script.play(until=20)
    assert told.silent_between(4.2, 8.0)
    assert spoken(told)[-1] == "Noted, and it is sunny."  # which was made from the result: nothing more is owed
    assert [line for line in told.history if line.startswith("tool")] == ["tool: sunny"]


@pytest.mark.parametrize(
    ("result", "says"),
    [("FAIL", "The weather station is closed."), ("BUG", "It failed; Parley's log has the reason.")],
)
def test_the_model_hears_why_a_tool_failed(result: str, says: str) -> None:
    script = scene(result=result)
    script.reply("That did not work.", to=says)
    told = script.play(until=8)
    assert told.history[-2:] == [f"tool: {says}", "assistant: That did not work."]
    assert states(told) == ["running", "failed"]


def test_a_tool_that_never_answers_is_given_up() -> None:
    script = scene(takes=1e6)
    told = script.play(until=RUN_S + 12)
    assert told.history[-2] == f"tool: {LATE.format(RUN_S)}"
    assert spoken(told)[-1] == script.usual_reply


def test_a_clients_tool_that_never_answers_is_given_up_and_that_is_told() -> None:
    script = scene()
    script.tools = None
    script.at(0.1, lambda talk: talk.configure(script.settings, usual=Request(tools=(Tool("weather"),))))
    told = script.play(until=CLIENT_S + 12)
    assert told.history[-2:] == [f"tool: {LATE.format(CLIENT_S)}", f"assistant: {script.usual_reply}"]
    assert len(told.of(CallGivenUp)) == 1


def test_ten_megabytes_are_cut() -> None:
    script = scene(result="x" * 10_000_000)
    told = script.play(until=8)
    (result,) = [line for line in told.history if line.startswith("tool")]
    assert len(result) < 20_000
    assert result.endswith("there were 10,000,000 characters.)")


def test_a_conversation_that_ends_during_a_call_leaves_no_call_without_a_result() -> None:
    told = scene(takes=30.0).play(until=3)
    assert told.history == ["user: weather", "assistant: ", f"tool: {LEFT}"]


def test_what_the_user_calls_off_is_not_told_of() -> None:
    script = scene(takes=30.0)
    script.at(3.0, lambda talk: talk.call_off())
    told = script.play(until=15)
    assert told.history[-1] == f"tool: {CALLED_OFF}"
    assert spoken(told) == []
    assert states(told) == ["running", "refused"]


def test_a_model_that_calls_without_end_is_stopped() -> None:
    script = scene()
    script.reply("CALL", to="sunny")
    assert script.tools is not None
    told = script.play(until=20)
    assert script.tools.called == 5
    assert any("which does not exist" in notice for notice in told.notices)


# -- asked first -------------------------------------------------------------------------------------------------------


def asking(answer: str = "", at: float = 5.0) -> Scene:
    script = scene(asking=True)
    if answer:
        script.user(at, at + 1.0, answer)
    return script


@pytest.mark.parametrize("answer", ["yes", "Yes, please.", "okay go ahead"])
@pytest.mark.parametrize("at", [2.5, 6.0])  # over the question, and after it
def test_a_yes_lets_the_tool_run_and_is_nothing_that_was_said(answer: str, at: float) -> None:
    told = asking(answer, at).play(until=15)
    assert spoken(told) == [QUESTION, "It is sunny."]
    assert states(told) == ["asking", "running", "done"]
    assert told.history == CALLED
    assert told.said[-1] == answer


@pytest.mark.parametrize("answer", ["no", "no don't do that", "never mind"])
def test_a_no_is_told_to_the_model(answer: str) -> None:
    script = asking(answer)
    told = script.play(until=15)
    assert script.tools is not None
    assert script.tools.called == 0
    assert told.history[2:] == [f"tool: {DECLINED}", f"assistant: {script.usual_reply}"]


def test_what_is_neither_is_answered_and_the_question_stays() -> None:
    script = asking("what for")
    script.user(11.0, 12.0, "yes")
    script.reply("To look at the sky.", to="what for")
    told = script.play(until=20)
    assert spoken(told) == [QUESTION, "To look at the sky.", "It is sunny."]
    assert states(told) == ["asking", "running", "done"]


def test_a_yeah_over_another_reply_allows_nothing() -> None:
    script = asking("what for")
    script.reply("To look at the sky, which is large, and blue on most days of the year.", to="what for")
    script.user(8.0, 8.5, "yeah")
    told = script.play(until=15)
    assert script.tools is not None
    assert script.tools.called == 0
    assert told.outcomes[-1] == "completed"


def test_whoever_says_nothing_has_not_said_yes() -> None:
    script = asking()
    told = script.play(until=ANSWER_S + 15)
    assert script.tools is not None
    assert script.tools.called == 0
    assert f"tool: {UNANSWERED}" in told.history


def test_a_card_may_answer_and_only_once() -> None:
    script, heard = asking(), list[bool]()
    script.at(4.0, lambda talk: heard.append(talk.allow("nobody's", allowed=True)))

    def call(talk: Conversation) -> str:
        return next(entry.calls[0].id for entry in talk.history.entries if entry.calls)

    script.at(4.1, lambda talk: heard.append(talk.allow(call(talk), allowed=True)))
    script.at(4.2, lambda talk: heard.append(talk.allow(call(talk), allowed=False)))
    told = script.play(until=12)
    assert heard == [False, True, False]
    assert told.history == CALLED


def test_a_typed_yes_counts() -> None:
    script = asking()
    script.at(5.0, lambda talk: talk.say("Yes."))
    assert script.play(until=12).history == CALLED


# -- of its own accord -------------------------------------------------------------------------------------------------


def test_an_announcement_waits_until_nobody_speaks() -> None:
    script = Scene()
    script.user(0.5, 3.0, "let me tell you something")
    script.at(1.0, lambda talk: talk.announce("Your timer has ended."))
    told = script.play(until=12)
    assert spoken(told) == [script.usual_reply, "Your timer has ended."]
    assert told.silent_between(0.0, 3.0)
    assert told.history[-1] == "assistant: Your timer has ended."
