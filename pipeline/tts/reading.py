"""Reads a whole text aloud: split into clauses, made speakable, and spoken one after another without gaps."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import numpy as np

from pipeline.audio import MOUTH_RATE, Samples
from pipeline.tts import Speaker
from pipeline.tts.clauses import ClauseSplitter
from pipeline.tts.speakable import speakable

EDGE = MOUTH_RATE * 5 // 1000
"""Samples over which a clause is faded in and out; if it began or ended in the middle of a wave, it would click."""


def clauses(text: str) -> list[str]:
    """Return the speakable clauses of a text, in order; none if nothing can be said. Odd texts take up to a second."""
    splitter = ClauseSplitter()
    return [said for clause in [*splitter.feed(text), *splitter.finish()] if (said := speakable(clause))]


async def read_aloud(speaker: Speaker, clauses: Sequence[str]) -> AsyncGenerator[Samples, None]:
    """Yield 24 kHz sound as it is made. Closing the generator stops the work. Raises EngineError."""
    for clause in clauses:
        async with aclosing(_spoken(speaker, clause)) as sounds:
            async for sound in sounds:
                yield sound


async def _spoken(speaker: Speaker, clause: str) -> AsyncGenerator[Samples, None]:
    held: Samples = np.zeros(0, np.float32)
    begun = False
    async with aclosing(speaker.speak(clause)) as sounds:
        async for spoken in sounds:
            if not len(spoken.samples):
                continue
            held = np.concatenate([held, spoken.samples])
            if not begun:
                held[:EDGE] *= np.linspace(0, 1, EDGE, dtype=np.float32)[: len(held)]
                begun = True
            if len(held) > EDGE:
                yield held[:-EDGE]
                held = held[-EDGE:]
    if begun:
        yield held * np.linspace(1, 0, len(held), dtype=np.float32)
