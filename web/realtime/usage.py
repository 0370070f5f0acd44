"""The tokens that a reply used. Nothing is billed by them: clients show them, and some enforce a budget."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.audio import MOUTH_RATE
from pipeline.llm.chat import tokens
from web.realtime import parts
from web.realtime.answer import Answer
from web.realtime.items import Items

HEARD, SPOKEN = 10, 20
"""Tokens per second of sound, for the user and for the reply: as OpenAI's realtime models count."""


def usage(instructions: str, items: Items, seconds: Mapping[str, float], answer: Answer) -> parts.Usage:
    """Count the tokens of a reply: text by its bytes, since not every engine counts tokens; sound by its length.

    Args:
        seconds: the length of the user's spoken items, by item id.
    """
    before = [item for item in items.all if item.id != answer.item_id]
    read = tokens(instructions) + sum(tokens(_text(item)) for item in before)
    heard = round(HEARD * sum(seconds.get(item.id or "", 0.0) for item in before))
    written = tokens(answer.transcript) if answer.transcript else 0
    spoken = round(SPOKEN * answer.samples / MOUTH_RATE)
    return parts.Usage(
        total_tokens=read + heard + written + spoken,
        input_tokens=read + heard,
        output_tokens=written + spoken,
        input_token_details=parts.TokenDetails(text_tokens=read, audio_tokens=heard, cached_tokens=0),
        output_token_details=parts.TokenDetails(text_tokens=written, audio_tokens=spoken),
    )


def _text(item: parts.Item) -> str:
    match item:
        case parts.Message():
            return item.text
        case parts.FunctionCall():
            return f"{item.name} {item.arguments}"
        case parts.FunctionCallOutput():
            return item.output
