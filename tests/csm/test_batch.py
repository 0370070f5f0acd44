"""Several conversations at once say what each would say alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from csm.backends.eager import Engine
from csm.batch import Slots, SlotsFull
from csm.codec.mimi import Mimi
from csm.errors import ContextTooLong, NoSpeech
from csm.model import Csm
from csm.utterance import Sampling, Utterance
from tests.csm.backends.test_cuda_graph import prompt
from tests.csm.tiny import make_mimi, make_model


@pytest.fixture(scope="module")
def model() -> Csm:
    return make_model()


@pytest.fixture(scope="module")
def mimi() -> Mimi:
    return make_mimi()


def alone(model: Csm, mimi: Mimi, rows: Tensor, most: int, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """Sound and codes of an utterance by itself."""
    utterance = Utterance(Engine(model), mimi.decoder(), rows, most, sampling)
    sound = torch.cat(list(utterance))
    return sound, torch.stack(utterance.frames)


class Listener:
    """Collects what the slots say."""

    def __init__(self, slots: Slots) -> None:
        self.slots = slots
        self.heard: dict[int, list[Tensor]] = {}
        self.done: set[int] = set()

    def step(self) -> None:
        for sound in self.slots.step():
            self.heard.setdefault(sound.slot, []).append(sound.samples)
            if sound.last:
                self.done.add(sound.slot)

    def take(self, slot: int) -> Tensor:
        self.done.discard(slot)
        return torch.cat(self.heard.pop(slot))


def test_conversations_that_join_and_leave_between_frames_say_what_each_would_say_alone(model: Csm, mimi: Mimi) -> None:
    slots = Slots(model, mimi, 3)
    listener = Listener(slots)
    requests = [(prompt(9 + 5 * index, index), 4 + index, Sampling(0.9, 20, index)) for index in range(5)]
    expected = [alone(model, mimi, *request)[0] for request in requests]
    where: dict[int, int] = {}  # request → slot

    def begin(request: int) -> None:
        where[request] = slots.join()
        slots.say(where[request], *requests[request])

    def end(request: int) -> None:
        while where[request] not in listener.done:
            listener.step()
        found = listener.take(where[request])
        torch.testing.assert_close(found, expected[request], rtol=0, atol=1e-5)
        slots.leave(where[request])

    begin(0)
    listener.step()
    begin(1)
    listener.step()
    begin(2)
    end(0)
    begin(3)  # in the place of the first, while two others speak
    end(2)
    begin(4)
    for request in (1, 3, 4):
        end(request)
    assert slots.free == 3


def test_a_conversation_goes_on_in_its_slot_and_hears_only_what_is_new(
    model: Csm, mimi: Mimi, monkeypatch: pytest.MonkeyPatch
) -> None:
    slots = Slots(model, mimi, 2)
    listener, slot, sampling = Listener(slots), slots.join(), Sampling(0.9, 20, 7)
    first = prompt(30, 0)
    _, spoken = alone(model, mimi, first, 5, sampling)
    second = torch.cat((first, torch.nn.functional.pad(spoken, (0, 1), value=-1), prompt(8, 1)))
    expected, _ = alone(model, mimi, second, 6, sampling)

    slots.prefill(slot, first[:20])
    slots.say(slot, first, 5, sampling)
    while slot not in listener.done:
        listener.step()
    listener.take(slot)
    heard: list[int] = []
    prefill = model.prefill

    def counted(rows: Tensor, *rest: Any) -> Tensor:
        heard.append(rows.shape[1])
        return prefill(rows, *rest)

    monkeypatch.setattr(model, "prefill", counted)
    slots.say(slot, second, 6, sampling)
    while slot not in listener.done:
        listener.step()
    torch.testing.assert_close(listener.take(slot), expected, rtol=0, atol=1e-5)
    assert heard == [9]  # the newest frame, which nothing followed yet, and the eight rows that are new


def test_greedy_and_drawn_utterances_share_a_step(model: Csm, mimi: Mimi) -> None:
    slots = Slots(model, mimi, 2)
    requests = [(prompt(9, 0), 5, Sampling(0.0)), (prompt(15, 1), 5, Sampling(1.2, 20, 3))]
    listener = Listener(slots)
    for request in requests:
        slots.say(slots.join(), *request)
    while len(listener.done) < 2:
        listener.step()
    for slot, request in enumerate(requests):
        torch.testing.assert_close(listener.take(slot), alone(model, mimi, *request)[0], rtol=0, atol=1e-5)


def test_leaving_in_the_middle_leaves_the_others_as_they_are(model: Csm, mimi: Mimi) -> None:
    slots = Slots(model, mimi, 2)
    listener, request = Listener(slots), (prompt(15, 1), 6, Sampling(0.9, 20, 3))
    leaving, staying = slots.join(), slots.join()
    slots.say(leaving, prompt(9, 0), 20, Sampling(0.9, 20, 1))
    slots.say(staying, *request)
    listener.step()
    slots.leave(leaving)
    while staying not in listener.done:
        listener.step()
    torch.testing.assert_close(listener.take(staying), alone(model, mimi, *request)[0], rtol=0, atol=1e-5)
    assert len(listener.heard[leaving]) == 1


def test_an_utterance_that_ends_before_its_first_sound_says_so(mimi: Mimi) -> None:
    model = make_model()
    model.codebook0_head.weight.zero_()
    model.audio_head.zero_()  # all codes are alike: the first, 0, is taken, and a frame of zeros is the end
    with pytest.raises(NoSpeech):
        alone(model, mimi, prompt(9, 0), 5, Sampling(0.0))
    slots = Slots(model, mimi, 1)
    slots.say(slots.join(), prompt(9, 0), 5, Sampling(0.0))
    (sound,) = slots.step()
    assert sound.last and len(sound.samples) == 0
    assert slots.step() == []


def test_one_too_many_is_told_to_wait_and_disturbs_nobody(model: Csm, mimi: Mimi) -> None:
    slots = Slots(model, mimi, 1, length=40)
    slot = slots.join()
    with pytest.raises(SlotsFull, match="All 1 slots"):
        slots.join()
    with pytest.raises(ContextTooLong):
        slots.say(slot, prompt(30, 0), 11)
    slots.say(slot, prompt(30, 0), 5, Sampling(0.9, 20, 1))
    assert len(slots.step()) == 1
    slots.leave(slot)
    with pytest.raises(ValueError, match="Nobody has joined"):
        slots.prefill(slot, prompt(9, 0))
    assert slots.join() == slot
