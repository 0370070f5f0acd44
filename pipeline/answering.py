"""From what the user said to the text of a reply: the words, what is remembered of them, and the mind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from datetime import datetime

from pipeline.listening import UserTurn
from pipeline.llm import LanguageModel, Message, Prompt
from pipeline.recollection import Recollection
from rag import Recall


async def answer(
    mind: LanguageModel,
    recollection: Recollection,
    persona: str,
    history: tuple[Message, ...],
    now: Callable[[], datetime],
    *,
    turn: UserTurn | None = None,
    on_transcript: Callable[[], None],
    on_recall: Callable[[Recall], None],
) -> AsyncGenerator[str, None]:
    """Pieces of the reply. `turn` is the user's while its words are not history yet; nothing is said to no words.

    Raises EngineError (while iterating).
    """
    if turn is not None:
        said = turn.words((await asyncio.shield(turn.finish())).text)
        on_transcript()
        if not said:
            return
        history = (*history, Message("user", said))
    recalled = await recollection.recall(history[-1].text if history else "")
    if recalled is not None:
        on_recall(recalled)
    async with aclosing(mind.reply(Prompt(persona, history, recalled, now()))) as pieces:
        async for piece in pieces:
            yield piece


async def fixed(text: str) -> AsyncGenerator[str, None]:
    """A reply whose words are known."""
    yield text
