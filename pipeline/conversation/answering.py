"""From what the user said to the text of a reply: the words, what is remembered of them, and the mind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from datetime import datetime
from typing import Any

from config.settings import MindSettings
from pipeline.conversation.recollection import Recollection
from pipeline.engine import EngineError
from pipeline.llm import LanguageModel, Message, Prompt
from pipeline.tools.calls import ToolCall
from pipeline.turns.listening import UserTurn
from rag import Recall


async def answer(
    mind: LanguageModel,
    recollection: Recollection,
    settings: MindSettings,
    history: Callable[[], tuple[Message, ...]],
    now: Callable[[], datetime],
    *,
    turn: UserTurn | None = None,
    after: asyncio.Task[Any] | None = None,
    on_transcript: Callable[[], None],
    on_recall: Callable[[Recall], None],
) -> AsyncGenerator[str, None]:
    """Pieces of the reply. `turn` is the user's while its words are not history yet; nothing is said to no words.

    `history` gives what was said before it, once `after` is done. There are no tools yet: a call is not said.
    Raises EngineError (while iterating), also for a reply that is nothing but a call.
    """
    said, spoken = "", False
    if turn is not None:
        said = turn.words((await asyncio.shield(turn.finish())).text)
        on_transcript()
        if not said:
            return
    if after is not None:
        await asyncio.wait([after])
    messages = (*history(), Message("user", said)) if said else history()
    recalled = await recollection.recall(messages[-1].text if messages else "")
    if recalled is not None:
        on_recall(recalled)
    prompt = Prompt(settings.persona, messages, recalled, now(), settings.temperature, settings.max_tokens)
    unanswered: ToolCall | None = None
    async with aclosing(mind.reply(prompt)) as pieces:
        async for piece in pieces:
            if isinstance(piece, ToolCall):
                unanswered = unanswered or piece
            else:
                spoken = spoken or bool(piece.strip())
                yield piece
    if unanswered is not None and not spoken:
        tool = unanswered.name[:40]
        raise EngineError(
            f"The language model asked for the tool “{tool}”, which it does not have: ask in other words."
        )


async def fixed(text: str) -> AsyncGenerator[str, None]:
    """A reply whose words are known."""
    yield text
