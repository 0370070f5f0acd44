"""Shortens a tool's result so that a language model can read it."""

from __future__ import annotations

LONGEST = 16_000
"""Characters of a result that are kept; a prompt may hold fewer (pipeline/llm/chat.py)."""


def bounded(text: str, most: int = LONGEST) -> str:
    """Cut a text that is longer, with a sentence that says so."""
    if len(text) <= most:
        return text
    return f"{text[:most]}… (Only the beginning is shown: there were {len(text):,} characters.)"
