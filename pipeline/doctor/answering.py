"""Checks whether the mind answers, and how soon, and whether the memory does."""

from __future__ import annotations

from contextlib import aclosing
from datetime import datetime
from typing import cast

from pipeline.doctor.check import Patient, Tell
from pipeline.doctor.finding import Verdict
from pipeline.engines.trial import shortened
from pipeline.llm import LanguageModel, Message, Prompt

FIRST_WORD_GOOD_S = 1.0
"""Seconds that still pass as thinking in a conversation."""


async def answering(patient: Patient, tell: Tell) -> Verdict:
    began = patient.clock()
    first: float | None = None
    text = ""
    hello = (Message("user", "Hello. How are you?"),)
    own = patient.settings.mind
    prompt = Prompt(own.persona, hello, None, datetime.now().astimezone(), own.temperature, own.max_tokens)
    mind = cast(LanguageModel, patient.engines.running("mind"))
    async with aclosing(mind.reply(prompt)) as pieces:
        async for piece in pieces:
            text += piece if isinstance(piece, str) else ""
            if first is None and text.strip():
                first = patient.clock() - began
            tell(f"“{shortened(text)}”", passing=True)
    seconds = patient.clock() - began
    if first is None:
        return Verdict("bad", "The reply was empty: choose another model.", seconds)
    figures = {"first_word_seconds": round(first, 3)}
    told = f"First words after {first:.2f} s: “{shortened(text)}”"
    if first > FIRST_WORD_GOOD_S:
        return Verdict("fair", f"{told} A smaller model answers sooner.", seconds, figures)
    return Verdict("good", told, seconds, figures)


async def remembering(patient: Patient, tell: Tell) -> Verdict:
    """Only query the memory; nothing is written into it."""
    began = patient.clock()
    found = await patient.engines.memory().recall("What did we talk about?", budget_chars=500)
    count = len(found.items)
    told = {0: "It answers, but does not remember anything about that yet.", 1: "It answered with one memory."}
    return Verdict("good", told.get(count, f"{count} memories matched the question."), patient.clock() - began)
