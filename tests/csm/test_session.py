"""Conversations: the voice stays, turns come and go, nothing is heard twice, and there is always room to speak."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from csm import Generator, Segment, Session
from csm.backends.eager import Engine
from csm.errors import ContextTooLong, InvalidAudio, InvalidText, NoSpeech, OutOfMemory
from csm.rows import sound_rows
from tests.csm.tiny import TINY, make_mimi, make_model, make_tokenizer, voice

FRAME = 1920
CONTEXT = TINY.backbone.context
GREEDY: dict[str, Any] = {"temperature": 0.0, "max_audio_length_ms": 400}
VOICE = Segment("This is my voice.", 0, voice(2.0))


@pytest.fixture(scope="module")
def generator() -> Generator:
    return Generator(make_model(), make_tokenizer(), make_mimi())


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many rows were newly heard, call by call."""
    rows: list[int] = []
    original = Engine.prefill

    def counted(self: Engine, prompts: list[Tensor]) -> None:
        prefill = self.model.prefill

        def count(new: Tensor, *rest: object) -> Tensor:
            rows.append(new.shape[1])
            return prefill(new, *rest)  # type: ignore[arg-type]

        monkeypatch.setattr(self.model, "prefill", count)
        original(self, prompts)
        monkeypatch.setattr(self.model, "prefill", prefill)

    monkeypatch.setattr(Engine, "prefill", counted)
    yield rows


def say(session: Session, text: str, **options: Any) -> Tensor:
    return torch.cat(list(session.speak(text, **{**GREEDY, **options})))


def turn_rows(session: Session) -> list[Tensor]:
    return [turn.rows for turn in session._turns]


def test_a_session_says_what_the_generator_says_with_the_same_context(generator: Generator) -> None:
    session = Session(generator, VOICE)
    user = Segment("How are you?", 1, voice(1.0, seed=1))
    session.add(user)
    first = say(session, "Well, thank you.")
    context = [VOICE, user]
    assert torch.equal(first, generator.generate("Well, thank you.", 0, context, **GREEDY))
    # The second sentence follows the first one's codes; encoding its sound again would give other ones.
    engine = generator.engine()
    prompt, _ = generator.prompt("Well, thank you.", 0, context, 400)
    engine.prefill([prompt])
    frames = torch.cat([engine.next_frame(0.0, 1).clone() for _ in range(5)])
    follow = torch.cat((prompt, sound_rows(frames), generator.prompter.text("And you?", 0)))
    engine.forget()
    engine.prefill([follow])
    codes = torch.stack([engine.next_frame(0.0, 1)[0].clone() for _ in range(5)], dim=1)
    torch.testing.assert_close(say(session, "And you?"), generator.codec.decode(codes[None])[0], atol=1e-5, rtol=0)


def test_only_what_is_new_is_heard(generator: Generator, heard: list[int]) -> None:
    session = Session(generator, VOICE)
    reference = session.rows
    assert heard == [reference]
    say(session, "Hello.")
    text = len(generator.prompter.text("Hello.", 0))
    assert heard[1:] == [text]
    say(session, "And more.")
    # The last frame was said but not yet listened to, and the row that ends the recording is new.
    assert heard[2:] == [1 + 1 + len(generator.prompter.text("And more.", 0))]
    before = session.rows
    session.add(Segment("I see.", 1, voice(0.5)))
    assert heard[3:] == [session.rows - before + 2]


def test_the_voice_is_heard_before_it_is_needed(generator: Generator, heard: list[int]) -> None:
    session = Session(generator, VOICE)
    del heard[:]
    stream = session.speak("Hello.", **GREEDY)
    next(stream)
    assert sum(heard) == len(generator.prompter.text("Hello.", 0))


def test_turns_of_both_speakers_are_kept_in_order(generator: Generator) -> None:
    session = Session(generator, VOICE)
    session.add(Segment("One.", 1, voice(0.4)))
    say(session, "Two.")
    session.add(Segment("Three.", 2))
    assert len(session.turns) == 3
    texts = [generator.prompter.text(text, speaker) for text, speaker in (("One.", 1), ("Two.", 0), ("Three.", 2))]
    for rows, text in zip(turn_rows(session), texts, strict=True):
        assert torch.equal(rows[: len(text)], text)
    assert torch.equal(turn_rows(session)[1][-1], sound_rows(torch.zeros(0, 8, dtype=torch.int64))[0])
    assert len(turn_rows(session)[1]) == len(texts[1]) + 5 + 1


def test_the_oldest_turns_go_and_the_voice_stays(generator: Generator) -> None:
    session = Session(generator, VOICE)
    voice_rows = session._voice[0].clone()
    newest: list[int] = []
    for number in range(30):
        session.add(Segment(f"Turn number {number}.", 1, voice(3.0, seed=number)))
        assert session.rows <= CONTEXT * 3 // 4
        assert len(say(session, f"Answer {number}.")) == 5 * FRAME
        newest.append(len(session.turns))
        held = session._talker.engine._rows[0]  # type: ignore[attr-defined]
        assert torch.equal(held[: len(voice_rows)], voice_rows)
    assert torch.equal(session._voice[0], voice_rows)
    assert max(newest) < 20
    assert torch.equal(
        turn_rows(session)[-1][: len(generator.prompter.text("Answer 29.", 0))],
        generator.prompter.text("Answer 29.", 0),
    )


def test_turns_go_several_at_once(generator: Generator) -> None:
    session = Session(generator, VOICE)
    fell: list[int] = []
    for number in range(24):
        before = len(session.turns)
        session.add(Segment("Once more.", 1, voice(2.0, seed=number)))
        if len(session.turns) <= before:
            fell.append(number)
    assert 1 <= len(fell) <= 8


def test_a_session_without_turns_in_mind_says_what_a_fresh_one_says(generator: Generator) -> None:
    """What fell out of mind leaves no trace in keys and values."""
    old = Session(generator, VOICE)
    for number in range(12):
        old.add(Segment("Something else.", 1, voice(3.0, seed=number)))
    fresh = Session(generator, VOICE)
    fresh.replace(old.turns)
    assert torch.equal(say(old, "Where were we?"), say(fresh, "Where were we?"))


def test_a_closed_utterance_keeps_what_was_said(generator: Generator) -> None:
    session = Session(generator, VOICE)
    stream = session.speak("A long story begins.", temperature=0.0)
    for _ in range(3):
        next(stream)
    session.stop()
    assert len(session.turns) == 1
    assert len(turn_rows(session)[0]) == len(generator.prompter.text("A long story begins.", 0)) + 3 + 1
    with pytest.raises(StopIteration):
        next(stream)
    assert len(say(session, "Yes?")) == 5 * FRAME


def test_a_new_utterance_closes_the_one_before(generator: Generator) -> None:
    session = Session(generator, VOICE)
    first = session.speak("One thing.", **GREEDY)
    next(first)
    assert len(say(session, "Another.")) == 5 * FRAME
    assert list(first) == []
    assert len(session.turns) == 2


def test_an_utterance_nobody_waited_for_leaves_nothing(generator: Generator) -> None:
    session = Session(generator, VOICE)
    session.speak("Never heard.")
    session.stop()
    assert len(session.turns) == 0


def test_only_what_was_heard_is_remembered(generator: Generator) -> None:
    session = Session(generator, VOICE)
    say(session, "Hello there, my friend.")
    session.heard(0.16, "Hello")
    text = generator.prompter.text("Hello", 0)
    assert len(turn_rows(session)[0]) == len(text) + 2 + 1
    assert torch.equal(turn_rows(session)[0][: len(text)], text)
    session.heard(0.0)
    assert len(session.turns) == 0
    session.add(Segment("Hm.", 1))
    session.heard(0.0)
    assert len(session.turns) == 1


def test_what_was_heard_is_of_the_last_utterance_only(generator: Generator) -> None:
    session = Session(generator, VOICE)
    say(session, "Hello.")
    session.speak("Cancelled before its first frame.")
    session.heard(0.0)
    assert len(session.turns) == 1


def test_words_become_codes_while_they_are_spoken(generator: Generator) -> None:
    sound = voice(1.5, 16_000)
    session = Session(generator, VOICE)
    listener = session.listen(1, 16_000)
    for block in torch.split(sound, 512):
        listener.hear(block)
    listener.done("How are you?")
    whole = Session(generator, VOICE)
    whole.add(Segment("How are you?", 1, sound, sample_rate=16_000))
    assert session.rows == whole.rows
    same = (turn_rows(session)[0] == turn_rows(whole)[0]).float().mean()
    assert same > 0.95, "the resampler's blocks may turn a code here and there"


def test_listening_at_the_codecs_rate_is_exact(generator: Generator) -> None:
    sound = voice(1.03)
    session = Session(generator, VOICE)
    listener = session.listen(1)
    for block in torch.split(sound, 480):
        listener.hear(block.numpy())
    listener.done("How are you?")
    whole = Session(generator, VOICE)
    whole.add(Segment("How are you?", 1, sound))
    assert torch.equal(turn_rows(session)[0], turn_rows(whole)[0])


def test_listening_to_nothing_keeps_the_words(generator: Generator) -> None:
    session = Session(generator, VOICE)
    session.listen(1).done("Hm.")
    assert torch.equal(turn_rows(session)[0], generator.prompter.text("Hm.", 1))
    with pytest.raises(InvalidAudio, match="NaN"):
        session.listen(1).hear(torch.full((5,), torch.nan))


def test_a_recording_counts_by_the_rate_it_has(generator: Generator) -> None:
    rows = []
    for rate in (8000, 16_000, 24_000, 48_000):
        session = Session(generator, VOICE)
        before = session.rows
        session.add(Segment("Hm.", 1, voice(1.0, rate), sample_rate=rate))
        rows.append(session.rows - before)
    assert len(set(rows)) == 1


def test_a_turn_too_long_is_kept_by_its_words(generator: Generator) -> None:
    session = Session(generator, VOICE)
    for seconds in (35.0, 100.0):
        session.add(Segment("A long speech.", 1, voice(seconds)))
        assert torch.equal(turn_rows(session)[-1], generator.prompter.text("A long speech.", 1))
    with pytest.raises(ContextTooLong, match="The turn's words take"):
        session.add(Segment("word " * 200, 1))
    assert len(session.turns) == 2
    assert len(say(session, "I see.")) == 5 * FRAME


def test_a_voice_too_long_is_refused(generator: Generator) -> None:
    with pytest.raises(ContextTooLong, match=r"The voice takes \d+ of the model's 512 rows, more than half"):
        Session(generator, Segment("A long voice.", 0, voice(25.0)))


def test_several_references_and_none(generator: Generator) -> None:
    both = Session(generator, [VOICE, Segment("Once more.", 3, voice(1.0, seed=4))])
    assert len(both._voice) == 2
    assert torch.equal(
        say(both, "Hello."),
        generator.generate("Hello.", 3, [VOICE, Segment("Once more.", 3, voice(1.0, seed=4))], **GREEDY),
    )
    none = Session(generator)
    assert none.rows == 0
    assert torch.equal(say(none, "Hello."), generator.generate("Hello.", 0, [], **GREEDY))


def test_a_text_too_long_for_the_room_is_refused(generator: Generator) -> None:
    session = Session(generator, VOICE)
    with pytest.raises(ContextTooLong, match="Say it sentence by sentence"):
        session.speak("This goes on. " * 40)
    with pytest.raises(ContextTooLong):
        session.speak("word " * 10_000)
    assert len(say(session, "Short.")) == 5 * FRAME


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"text": ""}, InvalidText),
        ({"text": "Hi.", "max_audio_length_ms": 0}, ValueError),
        ({"text": "Hi.", "temperature": -1}, ValueError),
        ({"text": "Hi.", "chunk_frames": 0}, ValueError),
    ],
)
def test_bad_requests_change_nothing(options: dict[str, Any], error: type[Exception], generator: Generator) -> None:
    session, fresh = Session(generator, VOICE), Session(generator, VOICE)
    with pytest.raises(error):
        session.speak(**options)
    with pytest.raises(InvalidAudio):
        session.add(Segment("A.", 1, torch.zeros(99)))
    assert len(session.turns) == 0
    assert torch.equal(say(session, "Hello."), say(fresh, "Hello."))


def test_silence_of_the_model_changes_nothing(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session(generator, VOICE)
    with monkeypatch.context() as patch:
        patch.setattr(Engine, "next_frame", lambda self, *_: torch.zeros(1, 8, dtype=torch.int64))
        with pytest.raises(NoSpeech):
            say(session, "Hello.", temperature=0.9)
    assert len(session.turns) == 0
    assert torch.equal(say(session, "Hello."), say(Session(generator, VOICE), "Hello."))


def test_out_of_memory_leaves_nothing_half_heard(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    session, fresh = Session(generator, VOICE), Session(generator, VOICE)
    for each in (session, fresh):
        each.add(Segment("One.", 1, voice(0.5, seed=3)))

    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError("out")

    with monkeypatch.context() as patch:
        # The first layer has written keys for another turn over those of this one; the second fails.
        patch.setattr(generator.csm.backbone.layers[1], "forward", fail)
        with pytest.raises(OutOfMemory):
            session.replace([Segment("Another turn in its place.", 2)])
    session.replace(fresh.turns)
    assert torch.equal(say(session, "Hello."), say(fresh, "Hello."))


def test_sessions_do_not_hear_each_other(generator: Generator) -> None:
    one, other = Session(generator, VOICE), Session(generator, VOICE)
    expected = say(Session(generator, VOICE), "Hello.")
    other.add(Segment("Noise.", 1, voice(1.0)))
    streams = [one.speak("Hello.", **GREEDY), other.speak("Good day.", **GREEDY)]
    mixed = list(zip(*streams, strict=True))
    assert torch.equal(torch.cat([chunk for chunk, _ in mixed]), expected)


# Turns in place of others.


def conversation(generator: Generator) -> Session:
    session = Session(generator, VOICE)
    session.add(Segment("Hello.", 1, voice(0.5)))
    say(session, "Good day.")
    session.add(Segment("And?", 1, voice(0.4, seed=1)))
    say(session, "Well, well.")
    return session


def test_what_stays_of_the_turns_is_not_heard_again(generator: Generator, heard: list[int]) -> None:
    session = conversation(generator)
    first, second, third, fourth = session.turns
    heard.clear()
    session.replace([first, second, third])
    before = session.rows
    assert heard == [1]  # the last row alone, for what follows from it
    heard.clear()
    session.replace([first, second, third, fourth, Segment("Oh.", 2)])
    assert heard == [session.rows - before]
    heard.clear()
    session.replace([first, Segment("No.", 2)])
    begun_alike = 2  # the beginning of a text and its bracket, as of the turn that stood there
    assert heard == [len(generator.prompter.text("No.", 2)) - begun_alike]


def test_replaced_turns_are_as_a_fresh_session_hears_them(
    generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = conversation(generator)
    first, second, third, fourth = session.turns
    assert second.codes is not None
    new = Segment("Listen.", 1, voice(0.3, seed=2))
    encoded: list[Segment] = []
    codes = generator.prompter.codes

    def noted(segment: Segment) -> Tensor:
        encoded.append(segment)
        return codes(segment)

    monkeypatch.setattr(generator.prompter, "codes", noted)
    cut = replace(second, text="Good", codes=second.codes[:3])
    turns = [third, cut, new, fourth, first]
    session.replace(turns)
    assert encoded == [cut, new], "the others are known, wherever they stand now"
    assert session.turns == tuple(turns)
    fresh = Session(generator, VOICE)
    for turn in turns:
        fresh.add(turn)
    assert torch.equal(say(session, "So."), say(fresh, "So."))


def test_an_utterance_at_the_end_can_still_be_cut(generator: Generator) -> None:
    session = conversation(generator)
    session.replace(session.turns[2:])
    session.heard(0.16, "Well")
    assert [turn.text for turn in session.turns] == ["And?", "Well"]
    session.replace(session.turns[:1])
    session.heard(0.0)
    assert [turn.text for turn in session.turns] == ["And?"]


def test_turns_that_cannot_be_heard_change_nothing(generator: Generator) -> None:
    session, fresh = conversation(generator), conversation(generator)
    before = session.turns
    for wrong in (
        Segment("Hm.", 1, torch.zeros(99)),
        Segment("…", 1),
        Segment("Hm.", 1, codes=torch.zeros(3, 2).long()),
    ):
        with pytest.raises((InvalidAudio, InvalidText)):
            session.replace([wrong, *before])
        assert session.turns == before
    assert torch.equal(say(session, "So."), say(fresh, "So."))


def test_of_too_many_turns_the_first_go(generator: Generator) -> None:
    session = Session(generator, VOICE)
    turns = [Segment(f"Turn {number}.", 1, voice(3.0, seed=number)) for number in range(12)]
    session.replace(turns)
    assert 2 < len(session.turns) < 12
    assert session.turns == tuple(turns[-len(session.turns) :])
    assert session.rows <= CONTEXT * 3 // 4
