"""Speaks a sentence to its end even if the place of the voice dies in the middle."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace

from pipeline.tts import Spoken, WordTime
from pipeline.workers.place import EngineCalls, WorkerDied

DEATHS = 2
"""How many deaths of the place a sentence survives; one that kills it every time must not do so for ever."""

PATIENCE_S = 10.0
"""Seconds to wait for a restart; after that, the listener is told what happened."""


async def unbroken(
    place: EngineCalls, text: str, speak: Callable[[str], AsyncGenerator[Spoken, None]]
) -> AsyncGenerator[Spoken, None]:
    """Yield the sound of a text; if the place dies, the rest is synthesized again after its restart.

    It resumes with the word that had begun, or from the start if the engine reports no words, so that no word is lost.

    Args:
        speak: speaks a text in that place.

    Raises:
        EngineError, WorkerDied after too many deaths, or if the place does not come back.
    """
    begin, made = 0, 0
    last: WordTime | None = None
    for deaths in range(DEATHS + 1):
        start, before = begin, made
        try:
            async with aclosing(speak(text[start:])) as sounds:
                async for sound in sounds:
                    words = [
                        WordTime(word.start + start, word.end + start, word.sample + before) for word in sound.words
                    ]
                    if last is not None:
                        words = [word for word in words if word.start > last.start]  # report each word only once
                    last = words[-1] if words else last
                    made += len(sound.samples)
                    yield replace(sound, words=tuple(words))
            return
        except WorkerDied as died:
            if deaths == DEATHS:
                raise
            begin = 0 if last is None else last.start
            await _restarted(place, died)


async def _restarted(place: EngineCalls, died: WorkerDied) -> None:
    try:
        async with asyncio.timeout(PATIENCE_S):
            await place.ready()
    except TimeoutError:
        raise died from None
