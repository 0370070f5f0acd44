"""Guards a mind of less than a billion parameters, so that it does not make a fool of itself.

Such a model can chat but knows next to nothing: asked for the weather, it invents some, and in a long conversation it
says one sentence again and again. So the built-in rules answer what they know (the time, sums, what the user told, and
what cannot be known here). The model is asked the rest, with a short prompt of examples and only the last words. Each
sentence is checked before it is said (saying.py). If the first one is no good, the model is asked once more; if that
fails too, a sentence that is always true replaces it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace

from pipeline.llm import USER, Message, Prompt, Truncated
from pipeline.llm.builtin.facts import is_question
from pipeline.llm.builtin.rules import known, to_go_on
from pipeline.llm.builtin.turn import Turn
from pipeline.llm.openers import Openers, without_opener
from pipeline.llm.saying import MOST_WORDS, Saying, Sentences, foreign
from pipeline.tools.calls import ToolCall

SMALL = 1_000_000_000
"""A model with fewer parameters is assumed to know next to nothing."""

EXAMPLES = (
    ("I went for a long walk.", "How lovely! Where did you go?"),
    ("Why is the sky blue?", "Because of the air. It scatters blue light more than red."),
    ("Tell me something nice.", "Gladly. A cup of warm tea on a rainy day is a small wonder."),
    ("Do you like autumn?", "Yes, very much. The leaves are so colourful."),
)
"""The answers begin with a few words, which are said while the rest is still being written."""
REMEMBERED = 2
"""Earlier messages that the model sees; with more, it repeats them."""

MOST_SENTENCES, MOST_TOKENS = 2, 64
ONCE_MORE = 1.0
"""The temperature of the second attempt."""

ITSELF = (
    "I am {name}, a very small language model with a few rules. I chat, tell the time, and remember what you tell me.",
    "I am {name}, a program on this computer. My language model is tiny; the setup page has larger ones, under Mind.",
    "I am only {name}, a small program that talks. I have no feelings, and a larger language model would know more.",
)
ENGLISH_ONLY = (
    "I am sorry, I am too small to know other languages. Shall we speak English?",
    "I do not understand that, because I only know English. The setup page has models that know more, under Mind.",
    "My language model is very small and knows only English. Could you say it in English?",
    "Other languages are beyond me. A larger language model knows them.",
    "I only understand English, I am afraid. Would you say that again in English?",
    "That sounded like another language, and English is the only one that I know.",
)
TO_A_QUESTION = (
    "I do not know that. What do you think?",
    "That is more than I know. A larger language model might help.",
    "I have no good answer to that. What makes you ask?",
    "I am not sure, and I would rather not guess.",
    "Good question. I wish I knew.",
    "That is beyond a model as small as I am.",
    "I cannot tell. How would you answer it?",
    "That is where my knowledge ends, I am afraid.",
    "I would only be guessing. What is your own idea?",
    "I really do not know that.",
)
TO_A_STATEMENT = (
    "Tell me more about that.",
    "And how was that for you?",
    "Go on, I am listening.",
    "What happened then?",
    "I am with you. What else?",
    "And what do you make of it?",
    "How did that come about?",
    "That is worth a thought. Please go on.",
    "I hear you. What comes next?",
    "What do you like about it?",
)


async def reply(
    prompt: Prompt,
    written: Callable[[Prompt], AsyncGenerator[str | ToolCall | Truncated, None]],
    openers: Openers,
) -> AsyncGenerator[str | Truncated, None]:
    """Yield whole sentences as they are ready: at most two, of forty words together.

    Truncated follows if the reply was cut off at a smaller `max_tokens`. Each sentence includes the white space after
    it, so that the reader knows at once that the sentence is over.

    Args:
        written: returns what the model writes to a prompt. Closed once it is no longer needed.
        openers: begin what this model says aloud.
    """
    prompt = to_go_on(prompt)
    said = await asyncio.to_thread(answered, prompt)
    if said is not None:
        for piece in re.findall(r"\s*\S+", said):
            yield piece
        return
    sentences = _chatted(prompt, written)
    async with aclosing(openers.opened(prompt, sentences) if prompt.aloud else sentences) as pieces:
        async for piece in pieces:
            yield piece


async def _chatted(
    prompt: Prompt, written: Callable[[Prompt], AsyncGenerator[str | ToolCall | Truncated, None]]
) -> AsyncGenerator[str | Truncated, None]:
    """Yield the model's own reply, sentence by sentence."""
    saying = Saying(prompt, [answer for _, answer in EXAMPLES])
    for temperature in (min(prompt.temperature, 0.6), ONCE_MORE):
        told = words = 0
        cut = False
        sentences = Sentences()
        async with aclosing(written(asked(prompt, temperature))) as pieces:
            async for piece in pieces:
                cut = cut or isinstance(piece, Truncated)
                for sentence in sentences.feed(piece if isinstance(piece, str) else ""):
                    if not told and saying.opens_as_before(sentence):
                        continue
                    words += len(sentence.split())
                    if words > MOST_WORDS or told == MOST_SENTENCES or not saying.fits(sentence):
                        break
                    yield f"{sentence} "
                    told += 1
                else:
                    if not sentences.too_long:
                        continue
                break
            else:
                rest = sentences.finish()
                fits = rest and words + len(rest.split()) <= MOST_WORDS and told < MOST_SENTENCES
                if fits and saying.fits(rest):
                    yield rest
                    told += 1
        if told:
            if cut and prompt.max_tokens < MOST_TOKENS:
                yield Truncated()
            return
    turn = Turn(prompt, prompt.history[-1].text)
    yield turn.choose(TO_A_QUESTION if is_question(turn.said) else TO_A_STATEMENT)


def answered(prompt: Prompt) -> str | None:
    """Return a rule's answer; None if no rule knows it."""
    if not prompt.history:
        return None
    if foreign(prompt.history[-1].text):
        return Turn(prompt, "").choose(ENGLISH_ONLY)
    return known(prompt, itself=ITSELF)


def asked(prompt: Prompt, temperature: float) -> Prompt:
    """Return the prompt in a form that such a small model can follow."""
    examples = [
        message for said, answer in EXAMPLES for message in (Message("user", said), Message("assistant", answer))
    ]
    spoken = [
        replace(without_opener(message), interrupted=False, speaker=USER)
        for message in prompt.history
        if message.role != "system"
    ]
    name = Turn(prompt, "").own_name
    persona = (
        f"You are {name}, a friendly companion. You talk with one person. "
        "Answer with a few words first, then one short sentence."
    )
    return replace(
        prompt,
        persona=persona,
        history=(*examples, *spoken[-1 - REMEMBERED :]),
        recalled=None,
        bare=True,
        temperature=temperature,
        max_tokens=min(prompt.max_tokens, MOST_TOKENS),
    )
