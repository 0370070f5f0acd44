"""What a model sends is not what is said: control tokens, labels, tool calls, loops, half characters."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from pipeline.llm import Truncated
from pipeline.llm.cleaning import LONGEST, Cleaning, cleaned
from pipeline.tools.calls import ToolCall


def said(pieces: list[str]) -> str:
    cleaning = Cleaning()
    return "".join([*(cleaning.feed(piece) for piece in pieces), cleaning.finish()])


@pytest.mark.parametrize(
    ("sent", "aloud"),
    [
        ("Hello.", "Hello."),
        ("3 < 4, a [b] and {c}.", "3 < 4, a [b] and {c}."),
        ("<think>Hm.</think>\n\nHello.", "Hello."),
        # Control tokens end it, or stand before it
        ("I am fine.<|im_end|>\n<|im_start|>user\nAnd dinner?<|im_end|>", "I am fine."),
        ("<|im_start|>assistant\nI am fine.<|im_end|>", "I am fine."),
        ("<|start_header_id|>assistant<|end_header_id|>\n\nYes.<|eot_id|>No.", "Yes."),
        ("Yes.</s>[INST] And? [/INST]", "Yes."),
        ("Yes.<end_of_turn>\n<start_of_turn>user", "Yes."),
        ("Yes.<｜end▁of▁sentence｜>So", "Yes."),
        # Labels
        ("Assistant: I am fine.", "I am fine."),
        ("**Assistant:** I am fine.", "I am fine."),
        ("I am fine.\nUser: And dinner?\nAssistant: Soup.", "I am fine."),
        ("I am fine. User: And dinner?", "I am fine."),
        ("Users: many. As for AI, well.", "Users: many. As for AI, well."),
        # For machines
        ('<tool_call>{"name": "f", "arguments": {"a": "</b>"}}</tool_call>Done.', "Done."),
        ('So.<tool_call>{"name": "f"}', "So."),
        ('[TOOL_CALLS][{"name": "f"}]', ""),
        ('<function=f>{"a": 1}</function>', ""),
        ('{"name": "f", "arguments": {"a": "}"}}', ""),
        ('[{"name": "f"}]\nDone.', "Done."),
        # Loops
        ("I like it here. " * 40, "I like it here. I like it here. I like it here."),
        ("no " * 40, "no no no no no no no no"),
        ("ha ha ha, very very good, no no no.", "ha ha ha, very very good, no no no."),
        # Half characters
        ("a\ud83db", "a\ufffdb"),
        ("so \ud83d\ude00.", "so \U0001f600."),
    ],
)
def test_what_is_said_wherever_the_stream_is_cut(sent: str, aloud: str) -> None:
    for size in (1, 2, 3, 5, 8, 13, len(sent)):
        pieces = [sent[at : at + size] for at in range(0, len(sent), size)]
        assert said(pieces).strip() == aloud, size


def test_words_do_not_wait_for_what_cannot_be_a_mark() -> None:
    cleaning = Cleaning()
    coming = ("As", " far", " as", " I", " know,")
    assert [cleaning.feed(piece) for piece in coming] == ["", "As far", " as", " I", " know,"]


def test_a_sentence_is_out_with_the_blank_that_ends_it() -> None:
    """A guarded mind gives whole sentences: the first would else be said when the second is there."""
    cleaning = Cleaning()
    assert cleaning.feed("How lovely! ") == "How lovely! "
    assert cleaning.feed("Us") == "", "this may be a label"
    assert cleaning.feed("er: Thank you.") == "" and cleaning.over


def test_a_reply_has_a_greatest_length() -> None:
    cleaning = Cleaning()
    text = "".join(cleaning.feed(f"word{number} ") for number in range(LONGEST // 4))
    assert cleaning.over
    assert len(text) <= LONGEST
    endless = Cleaning()
    for _ in range(500):
        assert endless.feed("<think>" + "a b c d " * 200) == ""
    assert endless.over


async def test_the_model_is_stopped_where_its_reply_ends() -> None:
    stopped = False

    async def pieces() -> AsyncGenerator[str | ToolCall | Truncated, None]:
        nonlocal stopped
        try:
            while True:
                yield "Yes.<|im_end|>"
        finally:
            stopped = True

    assert [piece async for piece in cleaned(pieces())] == ["Yes."]
    assert stopped


async def test_calls_and_the_cut_come_last() -> None:
    call = ToolCall("1", "f", "{}")

    async def pieces() -> AsyncGenerator[str | ToolCall | Truncated, None]:
        yield "Yes, I"
        yield call
        yield " can"
        yield Truncated()

    assert [piece async for piece in cleaned(pieces())] == ["Yes, I", " can", call, Truncated()]
