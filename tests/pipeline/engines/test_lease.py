"""What an engine does just now, as it is measured."""

from __future__ import annotations

from contextlib import aclosing
from datetime import datetime

from pipeline.engines.lease import LeasedEars, LeasedMind, LeasedVoice
from pipeline.llm import Message, Prompt
from tests.web.scripted import ScriptedEars, ScriptedMind, ScriptedVoice


async def test_ears_are_busy_while_somebody_is_heard() -> None:
    ears = LeasedEars(ScriptedEars())
    one, other = ears.listen(), ears.listen()
    assert ears.busy == 2
    await one.close()
    await other.close()
    assert ears.busy == 0


async def test_a_mind_is_busy_while_it_writes() -> None:
    mind = LeasedMind(ScriptedMind())
    prompt = Prompt("", (Message("user", "Hello"),), None, datetime(2026, 3, 4, 15, 30))
    async with aclosing(mind.reply(prompt)) as pieces:
        await anext(pieces)
        assert mind.busy == 1
    assert mind.busy == 0


async def test_a_voice_is_busy_with_sentences_and_not_with_conversations() -> None:
    voice = LeasedVoice(ScriptedVoice())
    speaker, reader = voice.speaker(), voice.reader(lambda engine: engine.speaker())
    assert voice.busy == 0 and not voice.idle
    async with aclosing(speaker.speak("Hello.")) as sounds:
        await anext(sounds)
        assert voice.busy == 1
    async with aclosing(reader.speak("A book.")) as sounds:
        await anext(sounds)
        assert voice.busy == 1
    assert voice.busy == 0
    await speaker.close()
    await reader.close()
