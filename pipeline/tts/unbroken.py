"""A voice whose place dies in the middle of a sentence, and which finishes it all the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace

from pipeline.tts import Spoken, WordTime
from pipeline.workers.place import EngineCalls, WorkerDied

DEATHS = 2
"""That a sentence survives. One that kills whoever says it must not do so for ever."""

PATIENCE_S = 10.0
"""For a restart: whoever listens is told what happened after that."""


async def unbroken(
    place: EngineCalls, text: str, speak: Callable[[str], AsyncGenerator[Spoken, None]]
) -> AsyncGenerator[Spoken, None]:
    """The sound of a text, the rest of it said anew where the place has died meanwhile.

    It goes on with the word that had begun, or from the beginning where the engine tells no words: no word is lost.

    Args:
        speak: says a text there.

    Raises:
        EngineError, WorkerDied after too many deaths or where the place does not come back.
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
                        words = [word for word in words if word.start > last.start]  # a word is told once
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
