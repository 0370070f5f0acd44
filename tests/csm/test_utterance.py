"""When an utterance ends, told with scripted frames: an engine that plays what it is given."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from csm.backends.eager import Engine, fetch
from csm.errors import NoSpeech
from csm.utterance import (
    REPEATS,
    Ending,
    Noise,
    Sampling,
    Utterance,
    frames_at_most,
    frames_likely,
)
from tests.csm.tiny import TINY

END = [0] * 8


class ScriptedEngine:
    """Plays one list of frames after each `hear`; keeps how it was asked."""

    batch, config, device, ahead = 1, TINY, torch.device("cpu"), 0
    speak_frame = Engine.speak_frame

    def __init__(self, *takes: list[list[int]]) -> None:
        self.takes = list(takes)
        self.asked: list[tuple[float, int]] = []
        self.heard: list[Tensor] = []

    def prefill(self, prompts: list[Tensor]) -> None:
        self.heard += prompts
        self.frames = iter(self.takes.pop(0))

    def next_frame(self, temperature: float, topk: int, noise: Tensor | None) -> Tensor:
        self.asked.append((temperature, topk))
        return torch.tensor([next(self.frames)])


class NumberedSound:
    """A decoder whose samples are the first code of the frame, in a buffer it writes over."""

    def __init__(self) -> None:
        self.resets = 0
        self.buffer = torch.zeros(1, 4)

    def reset(self, slot: int | None = None) -> None:
        self.resets += 1

    def step(self, codes: Tensor, out: Tensor | None = None) -> Tensor:
        return self.buffer.fill_(float(codes[0, 0, 0]))


def frame(number: int) -> list[int]:
    return [number, 0, 0, 0, 0, 0, 0, 1]


def speak(engine: ScriptedEngine, most: int = 100, **options: object) -> tuple[list[int], Utterance]:
    utterance = Utterance(engine, NumberedSound(), torch.zeros(1, 9), most, Sampling(0.8, 40), **options)  # type: ignore[arg-type]
    return [int(sound[0]) for sound in utterance], utterance


def test_the_frame_of_zeros_ends_it_and_is_not_said() -> None:
    said, utterance = speak(ScriptedEngine([frame(1), frame(2), END, frame(3)]))
    assert said == [1, 2]
    assert torch.stack(utterance.frames).tolist() == [frame(1), frame(2)]


def test_a_frame_with_one_code_that_is_not_zero_is_no_end() -> None:
    """transformers looks at all codebooks but the last; the frame ends the utterance only when all are zero."""
    almost = [0, 0, 0, 0, 0, 0, 0, 5]
    said, _ = speak(ScriptedEngine([frame(1), almost, frame(2), END]))
    assert said == [1, 0, 2]


def test_it_ends_at_the_most_frames() -> None:
    engine = ScriptedEngine([frame(n) for n in range(1, 50)])
    assert speak(engine, most=3)[0] == [1, 2, 3]
    assert len(engine.asked) == 3


def test_it_ends_when_it_is_stuck() -> None:
    engine = ScriptedEngine([frame(1), *[frame(2)] * 99])
    assert speak(engine)[0] == [1] + [2] * REPEATS


def test_frames_that_come_back_are_not_stuck() -> None:
    engine = ScriptedEngine([frame(1 + n % 2) for n in range(60)] + [END])
    assert len(speak(engine)[0]) == 60


def test_an_empty_result_is_tried_once_more_cooler() -> None:
    engine = ScriptedEngine([END], [frame(7), END])
    said, utterance = speak(engine)
    assert said == [7]
    assert engine.asked[0] == (0.8, 40)
    assert engine.asked[1][0] < 0.8
    assert engine.asked[1][1] == 20
    assert len(engine.heard) == 2
    assert torch.equal(engine.heard[0], engine.heard[1])
    assert len(utterance.frames) == 1
    assert utterance.decoder.resets == 2  # type: ignore[attr-defined]


def test_twice_empty_is_an_error() -> None:
    with pytest.raises(NoSpeech, match="ended before the first sound"):
        speak(ScriptedEngine([END], [END]))


def test_the_likeliest_codes_are_not_tried_twice() -> None:
    engine = ScriptedEngine([END])
    with pytest.raises(NoSpeech):
        list(Utterance(engine, NumberedSound(), torch.zeros(1, 9), 9, Sampling(0.0)))  # type: ignore[arg-type]
    assert len(engine.heard) == 1


def test_it_is_cancelled_between_frames() -> None:
    engine = ScriptedEngine([frame(n) for n in range(1, 50)])
    said, utterance = speak(engine, cancelled=lambda: len(engine.asked) >= 4)
    assert said == [1, 2, 3, 4]
    assert len(utterance.frames) == 4


def test_cancelled_before_the_first_frame_is_no_error() -> None:
    engine = ScriptedEngine([frame(1)])
    assert speak(engine, cancelled=lambda: True)[0] == []
    assert engine.asked == []


def test_sound_is_the_listeners_own() -> None:
    engine: Any = ScriptedEngine([frame(1), frame(2), END])
    sounds = list(Utterance(engine, NumberedSound(), torch.zeros(1, 9), 9, Sampling()))
    assert [int(sound[0]) for sound in sounds] == [1, 2]


def test_an_ending_over_before_it_began() -> None:
    assert Ending(0).over


@pytest.mark.parametrize(
    "text", ["Hello.", "The past is just a story we tell ourselves.", "10 30", "你好，世界", "word " * 300]
)
def test_the_cap_leaves_room_for_the_slowest_speaker(text: str) -> None:
    """At 15 characters a second a text takes a time; three times that and two seconds is the cap."""
    assert frames_at_most(text) >= 3 * frames_likely(text) + 25
    assert frames_at_most(text) <= 3 * frames_likely(text) + 26
    assert frames_likely(text) >= len(text) / 15 * 12.5


def test_the_published_example_fits_its_cap() -> None:
    """Published with the real weights: 34 frames for this sentence."""
    sentence = "The past is just a story we tell ourselves."
    assert frames_likely(sentence) <= 40
    assert frames_at_most(sentence) > 2 * 34


@pytest.mark.parametrize("temperature", [-0.1, float("nan"), float("inf"), "hot"])
def test_a_temperature_that_is_none(temperature: float) -> None:
    with pytest.raises(ValueError, match="The temperature must be a number, 0 or higher"):
        Sampling(temperature)


@pytest.mark.parametrize("topk", [0, -1, 2.5])
def test_a_topk_that_is_none(topk: int) -> None:
    with pytest.raises(ValueError, match="topk must be a whole number, 1 or higher"):
        Sampling(0.9, topk)


def test_noise_is_the_seeds_and_differs_by_sequence() -> None:
    engine = SimpleNamespace(config=TINY, device=torch.device("cpu"), batch=2)
    noise, again = Noise(engine, Sampling(seed=4)), Noise(engine, Sampling(seed=5))
    first, second = noise.next(), again.next()
    assert first is not None
    assert second is not None
    assert first.shape == (2, 8, 64)
    assert not torch.equal(first[0], first[1])
    assert torch.equal(first[1], second[0])
    before = first.clone()
    noise.next()
    assert not torch.equal(first, before)
    assert Noise(engine, Sampling(0.0)).next() is None


def test_without_a_seed_every_utterance_is_another() -> None:
    draws = [torch.rand(1, generator=Sampling().generator(torch.device("cpu"))).item() for _ in range(4)]
    assert len(set(draws)) == 4


def test_what_is_fetched_is_a_copy() -> None:
    buffer = torch.ones(3)
    arrived = fetch(buffer)
    buffer.zero_()
    assert arrived().tolist() == [1, 1, 1]
