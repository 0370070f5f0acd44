"""Several talkers on one engine: each says what it would say with one of its own, whatever the others do."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor

from csm import Generator, Segment, Session
from csm.backends.eager import SlotEngine
from csm.errors import CsmError, NoSpeech, OutOfMemory
from csm.model import Csm
from csm.scheduler import Scheduler
from tests.csm.tiny import make_mimi, make_model, make_tokenizer, voice

VOICE = Segment("This is my voice.", 0, voice(1.0))
TEXTS = ["Good evening to you.", "And you?", "Not a word more, please.", "So be it, then."]


@pytest.fixture(scope="module")
def generator() -> Generator:
    return Generator(make_model(), make_tokenizer(), make_mimi())


@pytest.fixture
def scheduler(generator: Generator) -> Iterator[Scheduler]:
    scheduler = Scheduler(generator, 3)
    yield scheduler
    scheduler.close()


def talk(session: Session, number: int) -> list[Tensor]:
    """Two utterances and what was said to them; all of it is another for every number."""
    options: dict[str, Any] = {"topk": 5 + 20 * number, "temperature": 0.5 * number, "max_audio_length_ms": 1000}
    session.add(Segment("Hello, hello.", 1, voice(0.5, seed=number)))
    first = torch.cat(list(session.speak(TEXTS[number], seed=number, **options)))
    session.add(Segment("And then?", 1, voice(0.3, seed=10 + number)))
    return [first, torch.cat(list(session.speak("Nothing.", seed=50 + number, **options)))]


@pytest.fixture(scope="module")
def alone(generator: Generator) -> list[list[Tensor]]:
    return [talk(Session(generator, VOICE), number) for number in range(4)]


def same(found: list[Tensor], expected: list[Tensor]) -> None:
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


def test_talkers_at_once_say_what_each_says_alone_though_there_are_more_of_them_than_slots(
    generator: Generator, scheduler: Scheduler, alone: list[list[Tensor]]
) -> None:
    def conversation(number: int) -> list[Tensor]:
        return talk(Session(generator, VOICE, scheduler.talker()), number)

    with ThreadPoolExecutor(4) as threads:
        for found, expected in zip(threads.map(conversation, range(4)), alone, strict=True):
            same(found, expected)


def test_who_joins_and_leaves_in_the_middle_disturbs_nobody(
    generator: Generator, scheduler: Scheduler, alone: list[list[Tensor]]
) -> None:
    staying, leaving = (Session(generator, VOICE, scheduler.talker()) for _ in range(2))
    leaving.add(Segment("Hello.", 1, voice(0.5)))
    stream = leaving.speak("a long story " * 10, seed=9)
    made = [next(stream) for _ in range(3)]

    def leave() -> None:
        made.extend(next(stream) for _ in range(3))
        leaving.stop()

    with ThreadPoolExecutor(1) as threads:
        gone = threads.submit(leave)
        same(talk(staying, 2), alone[2])
        gone.result()
    assert leaving.turns[-1].codes is not None
    assert len(leaving.turns[-1].codes) == len(made) == 6, "what was made ahead, but not taken, was not said"
    solo = Session(generator, VOICE)
    solo.replace(leaving.turns)
    same(*([*session.speak("And on.", seed=3, max_audio_length_ms=800)] for session in (leaving, solo)))


def test_a_frame_not_taken_is_not_made(
    generator: Generator, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session(generator, VOICE, scheduler.talker())
    made, step = threading.Semaphore(0), SlotEngine.step

    def counted(self: SlotEngine, *arguments: Any) -> Any:
        made.release()
        return step(self, *arguments)

    monkeypatch.setattr(SlotEngine, "step", counted)
    stream = session.speak("a long story " * 10, seed=9)
    next(stream)
    for _ in range(3):  # the one that was taken, and two ahead
        assert made.acquire(timeout=60)
    Session(generator, VOICE, scheduler.talker()).add(Segment("Hm.", 1))  # the thread has gone round since
    assert not made.acquire(blocking=False)
    next(stream)
    assert made.acquire(timeout=60)
    session.stop()


def test_cancelled_between_frames(generator: Generator, scheduler: Scheduler) -> None:
    session, frames = Session(generator, VOICE, scheduler.talker()), 0

    def enough() -> bool:
        return frames >= 4

    for _ in session.speak("a long story " * 10, seed=9, cancelled=enough):
        frames += 1
    assert frames == 4
    codes = session.turns[-1].codes
    assert codes is not None and len(codes) == 4


def test_a_voice_that_one_has_heard_is_not_computed_for_the_next(
    generator: Generator, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[int] = []
    prefill = Csm.prefill

    def counted(self: Csm, new: Tensor, *rest: Any) -> Tensor:
        rows.append(new.shape[1])
        return prefill(self, new, *rest)

    monkeypatch.setattr(Csm, "prefill", counted)
    sessions = [Session(generator, VOICE, scheduler.talker()) for _ in range(3)]
    assert rows == [sessions[0].rows, 1, 1]
    sessions[0].close()
    Session(generator, VOICE, scheduler.talker())
    assert rows[3:] == [1]


def test_an_error_of_one_is_not_that_of_another(
    generator: Generator, scheduler: Scheduler, alone: list[list[Tensor]], monkeypatch: pytest.MonkeyPatch
) -> None:
    prefill = SlotEngine.prefill
    poison = generator.prompter.text("Poison.", 1)

    def failing(self: SlotEngine, slot: int, held: Tensor, prompt: Tensor) -> None:
        if len(prompt) >= len(poison) and torch.equal(prompt[-len(poison) :], poison):
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")
        prefill(self, slot, held, prompt)

    monkeypatch.setattr(SlotEngine, "prefill", failing)
    one, other = (Session(generator, VOICE, scheduler.talker()) for _ in range(2))

    def fail() -> None:
        for _ in range(3):
            with pytest.raises(OutOfMemory, match="The memory of cpu is used up"):
                one.add(Segment("Poison.", 1))
            one.replace(one.turns[:-1])

    with ThreadPoolExecutor(1) as threads:
        failed = threads.submit(fail)
        same(talk(other, 1), alone[1])
        failed.result()
    same(talk(one, 3), alone[3])


def test_a_step_that_fails_is_told_to_all_who_spoke_and_they_can_speak_again(
    generator: Generator, scheduler: Scheduler, alone: list[list[Tensor]], monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session(generator, VOICE, scheduler.talker())
    with monkeypatch.context() as patch:
        patch.setattr(SlotEngine, "step", lambda *_: (_ for _ in ()).throw(ValueError("a fault")))
        with pytest.raises(ValueError, match="a fault"):
            list(session.speak("Hello."))
    same(talk(session, 2), alone[2])


def test_an_empty_utterance_is_tried_once_more_cooler(
    generator: Generator, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, chosen = Session(generator, VOICE, scheduler.talker()), []
    begin = SlotEngine.begin

    def noted(self: SlotEngine, slot: int, temperature: float, topk: int) -> None:
        chosen.append((temperature, topk))
        begin(self, slot, temperature, topk)

    monkeypatch.setattr(SlotEngine, "begin", noted)
    nothing = (torch.zeros(1, 8, dtype=torch.int64), torch.zeros(1, 1920))
    monkeypatch.setattr(SlotEngine, "step", lambda *_: nothing)
    with pytest.raises(NoSpeech):
        list(session.speak("Hello.", temperature=1.0, topk=40))
    assert chosen == [(1.0, 40), (0.75, 20)]
    assert session.turns == ()


def test_whoever_speaks_when_it_is_closed_is_told_so(generator: Generator) -> None:
    scheduler = Scheduler(generator, 1)
    session = Session(generator, VOICE, scheduler.talker())
    stream = session.speak("a long story " * 10)
    next(stream)
    scheduler.close()
    with pytest.raises(CsmError, match="closed"):
        list(stream)
    with pytest.raises(CsmError, match="closed"):
        session.add(Segment("Hello.", 1))
