"""What a tool gave back, in so few words that a language model can read them."""

from __future__ import annotations

LONGEST = 16_000
"""Characters that are kept of a result; a prompt may hold fewer (pipeline/llm/chat.py)."""


def bounded(text: str, most: int = LONGEST) -> str:
    """Its beginning, and a sentence that says so, where it is longer."""
    if len(text) <= most:
        return text
    return f"{text[:most]}… (Only the beginning is shown: there were {len(text):,} characters.)"
