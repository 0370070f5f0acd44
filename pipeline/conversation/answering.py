"""Turns what the user said into the text of a reply: waits for the words, recalls memories, asks the language model."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Callable, Collection, Iterator
from contextlib import aclosing, suppress
from dataclasses import replace
from datetime import datetime
from typing import Any

from config.settings import MindSettings
from pipeline.conversation.recollection import Recollection
from pipeline.conversation.request import USUAL, Request
from pipeline.engine import EngineError
from pipeline.llm import USER, LanguageModel, Message, Prompt, ReadsAhead, Truncated
from pipeline.llm.cleaning import cleaned
from pipeline.tools.calls import Tool, ToolCall
from pipeline.tools.checked import BadCall, checked
from pipeline.tts.speakable import speakable
from pipeline.turns.listening import UserTurn
from rag import Recall

ATTEMPTS = 2
"""How often the language model is asked for a reply that has words."""


async def answer(
    mind: LanguageModel,
    recollection: Recollection | None,
    settings: MindSettings,
    history: Callable[[], tuple[Message, ...]],
    now: Callable[[], datetime],
    *,
    request: Request = USUAL,
    own: tuple[Tool, ...] = (),
    turn: UserTurn | None = None,
    after: Collection[asyncio.Task[Any]] = (),
    on_transcript: Callable[[], None] = lambda: None,
    on_recall: Callable[[Recall], None] = lambda _: None,
    speaker: Callable[[], str] = lambda: USER,
) -> AsyncGenerator[str | ToolCall | Truncated, None]:
    """Yield the pieces of the reply, then the tool calls that end it; Truncated follows the text if it was cut short.

    `own` are the owner's tools, in addition to those of the request. `turn` is the user's turn if its words are not in
    the history yet, and `speaker` is who said it; a turn without words gets no reply. `history` returns what was said
    before the turn; it is called once all of `after` is done. If the model returns neither words nor a call of a tool
    that exists, it is asked once more.

    Raises EngineError (while iterating), also if the second attempt returns nothing either.
    """
    said, spoken = "", False
    if turn is not None:
        said = turn.words((await asyncio.shield(turn.finish())).text)
        on_transcript()
        if not said:
            return
    if after:
        await asyncio.wait(after)
    messages = history() if request.history is None else request.history
    if said and request.history is None:
        messages = (*messages, Message("user", said, speaker=speaker()))
    asked = next((message.text for message in reversed(messages) if message.role == "user"), "")
    recalled = None if recollection is None else await recollection.recall(asked, speaker())
    if recalled is not None:
        on_recall(recalled)
    prompt = _prompt(settings, request, messages, recalled, now(), own, speaker())
    call: ToolCall | None = None
    for _ in range(ATTEMPTS):
        unspoken, good, refused = "", list[ToolCall](), list[tuple[ToolCall, BadCall]]()
        async with aclosing(cleaned(mind.reply(prompt), prompt.tools)) as pieces:
            async for piece in pieces:
                if isinstance(piece, ToolCall):
                    call = replace(piece, id=f"call_{uuid.uuid4().hex[:16]}")
                    try:
                        mended = checked(call, () if prompt.tool_choice == "none" else prompt.tools)
                    except BadCall as error:
                        refused.append((call, error))
                    else:
                        alike = any((mended.name, mended.arguments) == (each.name, each.arguments) for each in good)
                        good += [] if alike else [mended]
                elif isinstance(piece, Truncated):
                    yield piece
                elif spoken := spoken or not request.spoken or bool(speakable(unspoken + piece)):
                    yield unspoken + piece
                    unspoken = ""
                else:
                    unspoken += piece
        for each in good:
            yield each
        if spoken or good:
            return
        if prompt.tools:
            prompt = replace(prompt, history=(*prompt.history, *_corrected(refused)))
    if call is not None:
        raise EngineError(
            f"The language model asked for the tool “{call.name[:40]}”, which does not exist: ask in other words."
        )
    raise EngineError("The language model returned no words: ask again, or choose another model.")


def _corrected(refused: list[tuple[ToolCall, BadCall]]) -> Iterator[Message]:
    """Yield the messages that tell the language model what was wrong with its calls, for the next attempt."""
    for call, error in refused:
        yield Message("assistant", "", calls=(replace(call, arguments="{}"),))
        yield Message("tool", str(error), call_id=call.id)


def _prompt(
    settings: MindSettings,
    request: Request,
    messages: tuple[Message, ...],
    recalled: Recall | None,
    now: datetime,
    own: tuple[Tool, ...],
    speaker: str = USER,
) -> Prompt:
    return Prompt(
        settings.persona if request.persona is None else request.persona,
        messages,
        recalled,
        now,
        settings.temperature,
        settings.max_tokens if request.max_tokens is None else request.max_tokens,
        aloud=request.spoken,
        tools=(*request.tools, *own),
        speaker=speaker,
        tool_choice=request.tool_choice,
    )


async def read_ahead(
    mind: LanguageModel,
    settings: MindSettings,
    history: tuple[Message, ...],
    now: datetime,
    request: Request = USUAL,
    own: tuple[Tool, ...] = (),
) -> None:
    """Let the language model prefill the start of the next prompt while nobody waits, if it supports that."""
    if isinstance(mind, ReadsAhead):
        with suppress(EngineError):  # the reply will meet the same error and report it
            await mind.read_ahead(_prompt(settings, request, history, None, now, own))


async def fixed(text: str) -> AsyncGenerator[str | Truncated, None]:
    """Yield a reply whose words are already known."""
    yield text
