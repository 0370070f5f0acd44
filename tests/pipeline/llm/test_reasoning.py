"""Reasoning is taken out of a stream, in every dress."""

from __future__ import annotations

import pytest

from pipeline.llm.reasoning import Reasoning, is_mark, open_mark


def said(pieces: list[str], inside: str | None = None) -> str:
    reasoning = Reasoning(inside)
    return "".join([*(reasoning.feed(piece) for piece in pieces), reasoning.finish()])


@pytest.mark.parametrize(
    ("text", "aloud"),
    [
        ("Hello.", "Hello."),
        ("<think>The user greets me.</think>Hello.", "Hello."),
        ("<thinking>Hm.</thinking>Yes. <reasoning>No?</reasoning>Indeed.", "Yes. Indeed."),
        ("Hm.<think>never closed", "Hm."),
        ("</think>Hello.", "Hello."),
        ("3 < 4 and <b>bold</b>", "3 < 4 and <b>bold</b>"),
        ("<think>a <think> b</think>c", "c"),
        ("ends with <thin", "ends with <thin"),
        ("[THINK]Hm. [a] b[/THINK]Yes [so].", "Yes [so]."),
        ("<seed:think>Hm.</seed:think>Yes.", "Yes."),
        ("<THINK>Hm.</Think>Yes.", "Yes."),
        ("◁think▷Hm.◁/think▷Yes.", "Yes."),
        ("<|START_THINKING|>Hm.<|END_THINKING|>Yes.", "Yes."),
        ("<|begin_of_thought|>Hm.<|end_of_thought|>Yes.", "Yes."),
        ("<unused94>thought\nHm.<unused95>Yes.", "Yes."),
        (
            "<|channel|>analysis<|message|>I greet back.<|end|><|start|>assistant<|channel|>final<|message|>Good day.",
            "Good day.",
        ),
        ("<|channel|>commentary to=f <|constrain|>json<|message|>{}<|call|><|channel|>final<|message|>So.", "So."),
        ("analysisThe user greets.assistantfinalHello.", "Hello."),
        ("analysis of this is hard", "analysis of this is hard"),
    ],
)
def test_reasoning_is_never_said_wherever_the_stream_is_cut(text: str, aloud: str) -> None:
    for size in range(1, len(text) + 1):
        assert said([text[at : at + size] for at in range(0, len(text), size)]) == aloud


@pytest.mark.parametrize(
    ("text", "aloud"), [("Hm.</think>Hello.", "Hello."), ("never closed", ""), ("</think>Yes.", "Yes.")]
)
def test_reasoning_that_the_prompt_has_opened_is_never_said(text: str, aloud: str) -> None:
    for size in range(1, len(text) + 1):
        assert said([text[at : at + size] for at in range(0, len(text), size)], "<think>") == aloud


@pytest.mark.parametrize(
    ("rendered", "mark"),
    [
        ("<|user|>Hi<|assistant|><think>\n", "<think>"),
        ("<|assistant|><think>\n\n</think>\n\n", None),
        ("<|user|>say <think><|assistant|>", None),
        ("", None),
    ],
)
def test_a_prompt_tells_whether_it_has_opened_the_reasoning(rendered: str, mark: str | None) -> None:
    assert open_mark(rendered) == mark


@pytest.mark.parametrize(
    ("token", "mark"),
    [("<think>", True), ("</think>", True), ("[THINK]", True), ("<|channel|>", True), ("<b>", False), ("word", False)],
)
def test_a_vocabulary_tells_its_marks(token: str, mark: bool) -> None:
    assert is_mark(token) is mark
