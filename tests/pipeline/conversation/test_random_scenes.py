"""What must hold in any conversation: random scenes, many of them absurd, under a virtual clock."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.conversation.answering import ATTEMPTS
from pipeline.conversation.events import ReplyAudio, ReplyDone, ReplyStarted, SpeechStarted, SpeechStopped, UserSaid
from tests.support.scene import Scene, Told

WORDS = [
    "yes",
    "uh huh",
    "stop",
    "what time is it",
    "tell me a story about the sea",
    "no that is wrong",
    "and then the",
    "",
]
REPLIES = [
    "Yes.",
    "It is noon, I think.",
    "Once there was a fox. It lived by the sea. It liked to swim.",
    "",
    "Well CRASH",
]


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    scene = Scene(
        meaning=draw(st.booleans()),
        ears_delay=draw(st.sampled_from([0.0, 0.03, 0.4])),
        first_token=draw(st.sampled_from([0.0, 0.1, 1.5])),
        first_sample=draw(st.sampled_from([0.0, 0.05, 0.6])),
        voice_factor=draw(st.sampled_from([0.0, 0.3, 0.9])),
        memory_delay=draw(st.sampled_from([0.0, 0.01, 0.3])),
        ears_fail=draw(st.integers(0, 9)) == 0,
        voice_fails=draw(st.integers(0, 9)) == 0,
        memory_fails=draw(st.integers(0, 9)) == 0,
    )
    at = 0.3
    for _ in range(draw(st.integers(0, 7))):
        at += draw(st.floats(0.1, 3.0))
        lasts = draw(st.floats(0.06, 2.5))
        scene.user(at, at + lasts, draw(st.sampled_from(WORDS)))
        scene.finished_at[at + lasts] = draw(st.sampled_from([0.02, 0.3, 0.6, 0.97]))
        at += lasts
    for words in WORDS:
        scene.reply(draw(st.sampled_from(REPLIES)), to=words)
    for _ in range(draw(st.integers(0, 3))):
        when = draw(st.floats(0.0, at + 2))
        act = draw(st.integers(0, 4))
        if act == 0:
            scene.at(when, lambda conversation: conversation.say("what time is it"))
        elif act == 1:
            scene.at(when, lambda conversation: conversation.cancel("the client said so"))
        elif act == 2:
            scene.at(when, lambda conversation: conversation.commit())
        elif act == 3:
            scene.at(when, lambda conversation: conversation.played(10**9))
        else:
            scene.at(when, lambda conversation: conversation.clear())
    return scene


def check_one_voice(told: Told) -> None:
    speaking: tuple[int, int] | None = None
    for _, event in told.events:
        match event:
            case ReplyStarted():
                assert speaking is None, "a reply began while another was going on"
                speaking = (event.turn, event.revision)
            case ReplyAudio():
                assert speaking == (event.turn, event.revision), "sound of a reply that had not begun, or was over"
            case ReplyDone():
                assert speaking in (None, (event.turn, event.revision))
                speaking = None
            case _:
                pass
    assert speaking is None, "a reply never ended"


def check_turns_end(told: Told) -> None:
    begun = {event.turn for _, event in told.events if isinstance(event, SpeechStarted)}
    ended = {event.turn for _, event in told.events if isinstance(event, SpeechStopped)}
    assert begun == ended


def check_only_what_was_heard_is_history(told: Told) -> None:
    heard = [
        f"assistant: {event.heard}"
        for _, event in told.events
        if isinstance(event, ReplyDone) and event.heard and event.outcome != "withdrawn"
    ]
    assert [line for line in told.history if line.startswith("assistant")] == heard


def check_users_words_are_kept(told: Told) -> None:
    taken_up = {event.continues for _, event in told.events if isinstance(event, UserSaid)}
    said = [
        f"user: {event.text}"
        for _, event in told.events
        if isinstance(event, UserSaid) and event.text and event.turn not in taken_up
    ]
    assert [line for line in told.history if line.startswith("user")] == said


def check_every_turn_has_one_record(told: Told) -> None:
    closed = [record.turn for record in told.records]
    assert len(closed) == len(set(closed)), "a turn was finished twice"
    said = {event.turn for _, event in told.events if isinstance(event, UserSaid)}
    assert said <= set(closed), "a turn that was said has no record"
    assert all(record.outcome for record in told.records)


def check_speculation_is_bounded(scene: Scene, told: Told) -> None:
    allowed = scene.settings.turns.speculations
    assert all(record.speculations <= allowed for record in told.records)
    answers = (allowed + 1) * len(told.of(SpeechStarted)) + len(scene.acts)
    assert len(scene.prompts) <= ATTEMPTS * answers  # a reply without words is asked for once more


@settings(max_examples=50)
@given(scenes())
def test_any_conversation(scene: Scene) -> None:
    told = scene.play(until=max([12.0, *(utterance.end + 8 for utterance in scene.utterances)]))
    check_one_voice(told)
    check_turns_end(told)
    check_only_what_was_heard_is_history(told)
    check_users_words_are_kept(told)
    check_every_turn_has_one_record(told)
    check_speculation_is_bounded(scene, told)
    assert "Something went wrong" not in " ".join(told.notices)
    if not scene.memory_fails:
        assert sorted(told.remembered) == sorted(told.history)
