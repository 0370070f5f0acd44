"""What a reply begins with while a very small mind still writes, under a virtual clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from pipeline.engine import EngineError
from pipeline.llm import Message, Prompt, Truncated, small
from pipeline.llm.openers import AFTER_A_QUESTION, AFTER_A_STATEMENT, SOON_S, Openers, without_opener
from tests.support import virtual_time

NOW = datetime(2026, 3, 4, 15, 30, tzinfo=UTC)


def prompt(*texts: str) -> Prompt:
    roles = ("user", "assistant")
    history = [Message(roles[place % 2], text) for place, text in enumerate(texts)]  # type: ignore[arg-type]
    return Prompt("You are Parley, a companion.", tuple(history), None, NOW, aloud=True)


async def after(seconds: float, *pieces: str) -> AsyncGenerator[str | Truncated, None]:
    await asyncio.sleep(seconds)
    for piece in pieces:
        yield piece


async def said(prompt: Prompt, seconds: float, *pieces: str) -> list[str]:
    return [str(piece) async for piece in Openers().opened(prompt, after(seconds, *pieces))]


def test_only_a_reply_that_takes_longer_is_opened() -> None:
    asked = prompt("Why do stones sing?")
    assert virtual_time.run(said(asked, 0.9 * SOON_S, "They hum. ", "Softly.")) == ["They hum. ", "Softly."]
    assert virtual_time.run(said(asked, 1.1 * SOON_S, "They hum. ", "Softly.")) == [
        "Let me think. ",
        "They hum. ",
        "Softly.",
    ]


def test_a_model_that_was_late_opens_its_next_reply_at_once() -> None:
    async def scene() -> list[float]:
        openers, loop = Openers(), asyncio.get_running_loop()

        async def waited(seconds: float) -> float:
            began = loop.time()
            async with aclosing(openers.opened(prompt("Why do stones sing?"), after(seconds, "They hum."))) as pieces:
                begins = await anext(pieces)
                waited = loop.time() - began
                assert [begins, *[piece async for piece in pieces]][-1] == "They hum."
            return waited

        return [await waited(seconds) for seconds in (1.0, 1.0, 0.01, 0.01, 1.0)]

    assert virtual_time.run(scene()) == pytest.approx([SOON_S, 0, 0, 0.01, SOON_S])


def test_the_opener_suits_what_was_said_and_is_another_one_each_time() -> None:
    for words, phrases in (("Why do stones sing?", AFTER_A_QUESTION), ("The stones sang.", AFTER_A_STATEMENT)):
        texts = [words]
        for phrase in (*phrases, phrases[0]):
            reply = "".join(virtual_time.run(said(prompt(*texts), 1.0, "Do they.")))
            assert reply == f"{phrase} Do they."
            texts += [reply, words]


def test_it_comes_at_once_and_whoever_leaves_then_ends_the_writing() -> None:
    async def scene() -> None:
        ended = asyncio.Event()

        async def never() -> AsyncGenerator[str | Truncated, None]:
            try:
                await asyncio.Event().wait()
                yield ""
            finally:
                ended.set()

        pieces = Openers().opened(prompt("Why do stones sing?"), never())
        began = asyncio.get_running_loop().time()
        assert await anext(pieces) == "Let me think. "
        assert asyncio.get_running_loop().time() - began == pytest.approx(SOON_S)
        await pieces.aclose()
        assert ended.is_set()

    virtual_time.run(scene())


def broken() -> str:
    raise EngineError("It ended.")


def test_what_goes_wrong_after_it_is_told() -> None:
    async def scene() -> list[str]:
        async def fails() -> AsyncGenerator[str | Truncated, None]:
            await asyncio.sleep(1)
            yield broken()

        told = []
        with pytest.raises(EngineError, match="It ended"):
            async for piece in Openers().opened(prompt("Why do stones sing?"), fails()):
                told.append(str(piece))  # noqa: PERF401 - what came before the error counts
        return told

    assert virtual_time.run(scene()) == ["Let me think. "]


def test_the_model_does_not_see_the_openers_of_its_replies() -> None:
    asked = small.asked(prompt("The stones sang.", "I see. Which ones?", "I see. All of them."), 0.6)
    assert [message.text for message in asked.history[-3:]] == [
        "The stones sang.",
        "Which ones?",
        "I see. All of them.",
    ]
    assert without_opener(Message("assistant", "I see.")).text == "I see.", "that was all it said"


async def test_only_what_is_said_aloud_is_opened_and_what_a_rule_knows_never_is() -> None:
    goes_on = asyncio.Event()

    async def slowly(prompt: Prompt) -> AsyncGenerator[str | Truncated, None]:
        await goes_on.wait()
        yield "They hum."

    async def reply(prompt: Prompt) -> list[str]:
        said = []
        async for piece in small.reply(prompt, slowly, Openers()):
            said.append(str(piece))
            goes_on.set()
        return said

    spoken = prompt("Why do stones sing?")
    assert await reply(spoken) == ["Let me think. ", "They hum."]
    assert await reply(replace(spoken, aloud=False)) == ["They hum."]
    goes_on.clear()
    assert "".join(await reply(prompt("What time is it?"))) == "It is 3:30 p.m."
