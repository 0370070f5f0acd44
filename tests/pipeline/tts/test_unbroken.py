"""A sentence is finished by another engine where the first one dies in the middle of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import numpy as np
import pytest

from pipeline.engine import EngineError
from pipeline.tts import Spoken, WordTime, unbroken
from pipeline.workers.place import WorkerDied

TEXT = "one two three four"
WORD = 100
"""Samples of each."""


class Mortal:
    """Speaks a word at a time, and dies before those words of which there is a list for each life."""

    def __init__(self, *deaths: int, words: bool = True, comes_back: bool = True) -> None:
        self.said: list[str] = []
        self._deaths = [*deaths]
        self._words = words
        self._back = asyncio.Event()
        if comes_back:
            self._back.set()

    async def speak(self, text: str) -> AsyncGenerator[Spoken, None]:
        self.said.append(text)
        dies = self._deaths.pop(0) if self._deaths else -1
        at = 0
        for number, word in enumerate(text.split()):
            if number == dies:
                raise WorkerDied("It died.")
            time = WordTime(at, at + len(word), number * WORD)
            yield Spoken(np.zeros(WORD, np.float32), (time,) if self._words else ())
            at += len(word) + 1

    async def ready(self) -> None:
        await self._back.wait()

    async def call(self, method: str, *args: object, **kwargs: object) -> Any:
        raise NotImplementedError

    def stream(self, method: str, *args: object, **kwargs: object) -> AsyncGenerator[Any, None]:
        raise NotImplementedError


async def said(engine: Mortal) -> list[Spoken]:
    return [sound async for sound in unbroken.unbroken(engine, TEXT, engine.speak)]


async def test_it_goes_on_with_the_word_that_had_begun() -> None:
    engine = Mortal(2)
    words = [word for sound in await said(engine) for word in sound.words]
    assert engine.said == [TEXT, "two three four"]
    assert [TEXT[word.start : word.end] for word in words] == TEXT.split(), "each is told once"
    assert [word.sample for word in words] == [0, 100, 300, 400], "“two” was said twice"


async def test_without_words_it_is_said_from_the_beginning() -> None:
    engine = Mortal(3, words=False)
    assert len(await said(engine)) == 3 + 4
    assert engine.said == [TEXT, TEXT]


async def test_two_deaths_are_survived_and_the_third_is_told() -> None:
    engine = Mortal(2, 1)
    await said(engine)
    assert engine.said == [TEXT, "two three four", "two three four"]
    with pytest.raises(WorkerDied, match="It died"):
        await said(Mortal(1, 1, 1))


async def test_an_engine_that_does_not_come_back_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unbroken, "PATIENCE_S", 0.0)
    with pytest.raises(EngineError, match="It died"):
        await said(Mortal(1, comes_back=False))
