"""A very small mind's guard, around a model that writes what the test says."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from pipeline.llm import Message, Prompt, Truncated, small
from pipeline.llm.openers import Openers
from pipeline.llm.saying import MOST_WORDS, Sentences, foreign
from pipeline.tts.clauses import ClauseSplitter

NOW = datetime(2026, 3, 4, 15, 30, tzinfo=UTC)


class Model:
    """Writes one of these for each attempt, token by token."""

    def __init__(self, *texts: str) -> None:
        self._texts = list(texts)
        self.asked: list[Prompt] = []
        self.closed = 0

    async def written(self, prompt: Prompt) -> AsyncGenerator[str, None]:
        self.asked.append(prompt)
        try:
            for word in self._texts.pop(0).split(" "):
                yield f"{word} "
        finally:
            self.closed += 1


def prompt(*texts: str) -> Prompt:
    roles = ("user", "assistant")
    history = [Message(roles[place % 2], text) for place, text in enumerate(texts)]  # type: ignore[arg-type]
    return Prompt("You are Parley, a companion.", tuple(history), None, NOW, 0.7, 300)


async def reply(model: Model, *texts: str) -> str:
    return "".join([str(piece) async for piece in small.reply(prompt(*texts), model.written, Openers())]).strip()


async def test_what_the_model_says_well_is_let_out_sentence_by_sentence() -> None:
    model = Model("The sea is wide. It is deep too. And it has many fish.")
    pieces = [piece async for piece in small.reply(prompt("So much water everywhere."), model.written, Openers())]
    assert pieces == ["The sea is wide. ", "It is deep too. "], "two sentences at most"
    assert model.closed == 1


async def test_who_asked_for_few_tokens_is_told_that_more_was_to_come() -> None:
    async def written(prompt: Prompt) -> AsyncGenerator[str | Truncated, None]:
        yield "The sea is wide. It is "
        yield Truncated()

    few = replace(prompt("So much water everywhere."), max_tokens=8)
    assert [piece async for piece in small.reply(few, written, Openers())][-1] == Truncated()
    many = prompt("So much water everywhere.")
    assert Truncated() not in [piece async for piece in small.reply(many, written, Openers())], "short is its own way"


async def test_the_first_sentence_is_out_before_the_second_is_written() -> None:
    model = Model("The sea is wide. It is deep too.")
    pieces = small.reply(prompt("So much water everywhere."), model.written, Openers())
    assert ClauseSplitter().feed(str(await anext(pieces))) == ["The sea is wide."], "and can be spoken"
    await pieces.aclose()
    assert model.closed == 1, "who goes away ends the writing"


async def test_an_opening_that_was_said_before_is_left_out_and_what_follows_it_is_said() -> None:
    history = ("I baked some bread.", "How lovely! What kind?", "Rye. And I went for a swim.")
    assert await reply(Model("How lovely! Was the water cold?"), *history) == "Was the water cold?"
    assert (
        await reply(Model("How lovely! Was the water cold?"), "The lake was calm.") == "How lovely! Was the water cold?"
    )
    assert await reply(Model("How lovely!", "Was it cold?"), *history) == "Was it cold?", "nothing followed it"


@pytest.mark.parametrize(
    "bad",
    [
        "The forest is quiet at night.",  # stood in an earlier reply
        "The forest is so quiet at night!",
        "Assistant: I like it.",
        "Answer: it is big.",
        "1. Go there. 2. Come back.",
        "- Go there.",
        "It is [big] and wide.",
        "It is **big** and wide.",
        "As an AI language model I like it.",
        "I went there with my wife.",
        "It is 3:45 and getting late.",
        "It costs $5 to get in.",
        "The weather is lovely in there.",
        "Your name is Bob.",
        "Forests look really nice in autumn.",  # the user's own words
        "It scatters blue light more than red.",  # an example of the prompt
        "very very very dark in there.",
        "Лес очень тихий.",
        "word " * (MOST_WORDS + 5) + "end.",
        "no end at all",
        "",
    ],
)
async def test_what_is_no_good_is_caught_and_asked_once_more(bad: str) -> None:
    history = ("Hello Parley, what a forest.", "The forest is quiet at night.", "Forests look really nice in autumn.")
    model = Model(bad, "The leaves are beautiful.")
    assert await reply(model, *history) == "The leaves are beautiful."
    first, second = model.asked
    assert second.temperature > first.temperature and model.closed == 2
    said = await reply(Model(bad, bad), *history)
    assert said in small.TO_A_STATEMENT


async def test_a_second_sentence_that_is_no_good_is_left_out() -> None:
    assert await reply(Model("Dogs are loyal. User: and cats?"), "Dogs are everywhere.") == "Dogs are loyal."


async def test_its_last_resorts_do_not_repeat_either() -> None:
    texts = ["Why do stones sing?"]
    for _ in small.TO_A_QUESTION:
        texts += [await reply(Model("", ""), *texts), "Why do stones sing?"]
    assert sorted(texts[1::2]) == sorted(small.TO_A_QUESTION)


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        ("What time is it?", "It is 3:30 p.m."),
        ("What day is it?", "Today is Wednesday, March 4, 2026."),
        ("What's today's date?", "Today is Wednesday, March 4, 2026."),
        ("What day will it be tomorrow?", "Tomorrow will be Thursday, March 5, 2026."),
        ("What? Say that again.", "I said: I will remember that."),
        ("What is my dog called?", "Your dog is called Rufus."),
        ("Who is Rufus?", "Your dog is called Rufus."),
        ("What is my cat called?", "You have not told me about your cat yet."),
        ("How many brothers do I have?", "told me"),
        ("What is the weather like in Paris?", "I cannot look at the weather in Paris."),
        ("How much does a train ticket cost?", "I cannot know that. Nothing from outside"),
        ("What am I holding?", "see"),
        ("Who will win the cup?", "I cannot see what will happen."),
        ("What did you eat last night?", "program"),
        ("Wie ist das Wetter heute?", "English"),
        ("Are you a robot?", "language model"),
    ],
)
async def test_what_the_rules_know_the_model_is_not_asked(asked: str, answer: str) -> None:
    model = Model()
    said = await reply(model, "My dog is called Rufus.", "I will remember that.", asked)
    assert answer in said or (answer == "program" and "computer" in said)
    assert "table of rules" not in said
    assert not model.asked


async def test_it_is_told_little_and_in_a_form_that_it_can_follow() -> None:
    model = Model("Fine words.")
    await reply(model, *(["Cheese everywhere.", "Cheese is good."] * 20), "Wine everywhere.")
    (asked,) = model.asked
    assert [message.text for message in asked.history[-3:]] == [
        "Cheese everywhere.",
        "Cheese is good.",
        "Wine everywhere.",
    ]
    assert len(asked.history) == 2 * len(small.EXAMPLES) + 3 and asked.bare
    assert asked.max_tokens == small.MOST_TOKENS


def test_english_is_not_taken_for_another_language() -> None:
    for text in ("I met Zoë at the café.", "The menu was in a pub.", "Die hard is a film.", "Hm?", "12 x 12"):
        assert not foreign(text), text
    for text in (
        "Wie geht es dir?",
        "Comment est la maison?",
        "今日はどう",
        "Hola, cómo estás?",
        "Come stai? Che tempo fa?",
    ):
        assert foreign(text), text


def test_sentences_come_when_they_are_whole() -> None:
    sentences = Sentences()
    assert sentences.feed("It is a nice") == [] and sentences.feed(" day. Is") == ["It is a nice day."]
    assert sentences.feed(" it?") == [] and sentences.finish() == "Is it?"
