"""A text read aloud: in order, without clicks at its seams, and stopped when nobody listens."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

import numpy as np

from pipeline.audio import MOUTH_RATE, Samples
from pipeline.tts import Spoken
from pipeline.tts.reading import EDGE, clauses, read_aloud


class Tone:
    """A voice that ends in the middle of a wave, as a model's does."""

    def __init__(self, block: int = 700) -> None:
        self.said: list[str] = []
        self.stopped = 0
        self.block = block

    async def speak(self, text: str) -> AsyncGenerator[Spoken, None]:
        self.said.append(text)
        try:
            for _ in range(3):
                yield Spoken(np.full(self.block, 0.5, np.float32))
        finally:
            self.stopped += 1

    async def user_said(self, text: str, samples: Samples) -> None:
        pass

    async def close(self) -> None:
        pass


async def read(text: str, voice: Tone) -> Samples:
    return np.concatenate([sound async for sound in read_aloud(voice, clauses(text))])


async def test_it_is_said_in_order_and_in_words() -> None:
    voice = Tone()
    await read("It costs $5, as **everyone** knows. Does it? 😀 Yes!", voice)
    assert voice.said == ["It costs five dollars", "as everyone knows.", "Does it?", "Yes!"]


async def test_every_sample_comes_and_none_jumps() -> None:
    sound = await read("One of them is here. Two of them are there. Three are lost.", Tone())
    assert len(sound) == 3 * 3 * 700
    assert abs(sound[0]) < 0.01 and abs(sound[-1]) < 0.01
    assert np.abs(np.diff(sound)).max() < 2 * 0.5 / EDGE


async def test_blocks_shorter_than_an_edge_are_joined() -> None:
    sound = await read("Hello there.", Tone(block=EDGE // 4))
    assert len(sound) == 3 * (EDGE // 4)


async def test_who_leaves_stops_the_voice() -> None:
    voice = Tone()
    async with aclosing(read_aloud(voice, clauses("One of them is here. Two of them are there."))) as sounds:
        await anext(sounds)
    assert voice.stopped == 1 and len(voice.said) == 1


def test_what_cannot_be_said_is_nothing() -> None:
    assert clauses(" … 😀 *** ") == []
    assert clauses("<speak>Hello <break time='1s'/> <emphasis>you</emphasis>.</speak>") == ["Hello you."]


def test_ten_thousand_characters_are_cut_small() -> None:
    assert max(map(len, clauses("word " * 2000))) < 400
    assert MOUTH_RATE == 24_000
