"""What a client is told of the conversation's events, without a socket."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.conversation import events
from web.realtime import events as wire
from web.realtime.narrator import CANCELLED, Narrator, milliseconds, samples_in

SOUND = np.full(2400, 0.5, np.float32)


def told(narrator: Narrator, *happened: events.Event) -> list[wire.ServerEvent]:
    return [each for event in happened for each in narrator.tell(event)]


def names(messages: list[wire.ServerEvent]) -> list[str]:
    return [str(getattr(message, "type", "")) for message in messages]


def turn(number: int, text: str, continues: int | None = None) -> tuple[events.Event, ...]:
    return (
        events.SpeechStarted(number, 0, 16_000 * number),
        events.SpeechStopped(number, 0, 16_000 * number + 8000, "silence"),
        events.UserSaid(number, 0, text, continues=continues),
    )


def reply(number: int) -> tuple[events.Event, ...]:
    return (
        events.ReplyStarted(number, 0),
        events.ReplyText(number, 0, "One two."),
        events.ReplyAudio(number, 0, SOUND, 0),
        events.ReplyText(number, 0, "Three four."),
        events.ReplyAudio(number, 0, SOUND, 2400),
    )


def test_only_words_that_stay_become_deltas() -> None:
    narrator = Narrator("c")
    messages = told(
        narrator,
        events.SpeechStarted(1, 0, 0),
        events.PartialTranscript(1, 0, "what is", 0),
        events.PartialTranscript(1, 0, "what is the", 8),
        events.PartialTranscript(1, 0, "what is a whether", 8),
        events.SpeechStopped(1, 0, 16_000, "silence"),
        events.UserSaid(1, 0, "what is the weather"),
    )
    deltas = [message.delta for message in messages if isinstance(message, wire.TranscriptionDelta)]
    assert deltas == ["what is ", "the weather"]
    completed = messages[-1]
    assert isinstance(completed, wire.TranscriptionCompleted)
    assert (completed.transcript, completed.usage.seconds) == ("what is the weather", 1.0)


def test_a_final_transcript_that_differs_comes_whole_and_not_as_a_delta() -> None:
    narrator = Narrator("c")
    told(narrator, events.SpeechStarted(1, 0, 0), events.PartialTranscript(1, 0, "wet", 3))
    messages = told(narrator, events.SpeechStopped(1, 0, 16_000, "silence"), events.UserSaid(1, 0, "what"))
    assert "conversation.item.input_audio_transcription.delta" not in names(messages)


def test_a_turn_that_is_dropped_leaves_no_item() -> None:
    narrator = Narrator("c")
    messages = told(narrator, events.SpeechStarted(1, 0, 0), events.SpeechStopped(1, 0, 900, "dropped"))
    assert names(messages) == ["input_audio_buffer.speech_started", "input_audio_buffer.speech_stopped"]
    assert not narrator.items.ids


def test_a_turn_that_goes_on_takes_back_its_shorter_self_and_the_reply_to_it() -> None:
    narrator = Narrator("c", parley=True)
    told(narrator, *turn(1, "I was thinking"), *reply(1))
    messages = told(narrator, events.ReplyDone(1, 0, "withdrawn", "One two.", "", "the user went on"))
    assert names(messages)[-3:] == ["response.done", "conversation.item.deleted", "parley.reply"]
    messages = told(narrator, *turn(2, "I was thinking of Paris", continues=1))
    deleted = [message.item_id for message in messages if isinstance(message, wire.ConversationItemDeleted)]
    assert deleted == ["item_user_1"]
    assert narrator.items.ids == ["item_user_2"]


@pytest.mark.parametrize(
    ("outcome", "why", "status", "reason"),
    [
        ("interrupted", "the user interrupted", "cancelled", "turn_detected"),
        ("interrupted", CANCELLED, "cancelled", "client_cancelled"),
        ("failed", "The mind has gone.", "failed", None),
    ],
)
def test_how_a_reply_ended(outcome: events.Outcome, why: str, status: str, reason: str | None) -> None:
    narrator = Narrator("c")
    messages = told(narrator, *reply(1), events.ReplyDone(1, 0, outcome, "", "One", why))
    (done,) = [message for message in messages if isinstance(message, wire.ResponseDone)]
    assert done.response.status == status
    assert done.response.status_details is not None
    assert done.response.status_details.reason == reason
    assert done.response.output[0].status == "incomplete"
    if status == "failed":
        assert done.response.status_details.error is not None
        assert done.response.status_details.error.message == why


def test_a_reply_that_an_engine_broke_off_is_not_called_complete() -> None:
    narrator = Narrator("c")
    messages = told(narrator, *reply(1), events.ReplyMade(1, 0, 4800, "The voice has gone."))
    done = messages[-1]
    assert isinstance(done, wire.ResponseDone)
    assert done.response.status == "failed"
    assert not told(narrator, events.ReplyDone(1, 0, "failed", "", "", "The voice has gone."))  # it was said already


def test_what_belongs_to_another_reply_is_not_told() -> None:
    narrator = Narrator("c")
    told(narrator, events.ReplyStarted(2, 0))
    assert not told(narrator, events.ReplyAudio(1, 0, SOUND, 0), events.ReplyDone(1, 0, "completed", "", "", ""))


def test_at_the_sound_card_the_page_gets_everything_but_the_sound() -> None:
    narrator = Narrator("c", parley=True)
    narrator.sounding = False
    messages = names(told(narrator, *reply(1), events.ReplyMade(1, 0, 4800)))
    assert "response.output_audio.delta" not in messages
    assert "response.output_audio_transcript.delta" in messages
    assert messages[-1] == "response.done"


def test_how_much_of_the_text_was_heard() -> None:
    narrator = Narrator("c")
    told(narrator, *reply(1))
    answer = narrator.answer
    assert answer is not None
    assert [answer.heard(samples) for samples in (0, 1200, 2400, 3600, 4800)] == [
        "",
        "One",
        "One two.",
        "One two. Three",
        "One two. Three four.",
    ]


def test_a_notice_reaches_every_page_and_only_errors_reach_other_clients() -> None:
    assert names(Narrator("c", parley=True).notice("info", "x")) == ["parley.notice"]
    assert names(Narrator("c").notice("warning", "x")) == []
    assert names(Narrator("c").notice("error", "x")) == ["error"]


def test_milliseconds() -> None:
    assert (milliseconds(24_000), samples_in(1000)) == (1000, 24_000)


def test_whose_voice_it_was_is_told_to_our_page_alone() -> None:
    for parley in (True, False):
        narrator = Narrator("c")
        narrator.parley = parley
        messages = told(narrator, *turn(1, "hello"), events.SpeakerTold(1, 0, "Anna"))
        told_of = [(each.item_id, each.speaker) for each in messages if isinstance(each, wire.ParleySpeaker)]
        assert told_of == ([("item_user_1", "Anna")] if parley else [])
