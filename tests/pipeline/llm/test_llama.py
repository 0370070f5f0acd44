"""llama.cpp with a real model, SmolLM2-135M-Instruct, in its worker process. One worker serves all of these tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from config.engines import CATALOGUE
from config.settings import Settings
from pipeline.engine import EngineError
from pipeline.engines.catalogue import create
from pipeline.llm import Message, Prompt
from pipeline.llm.llama import Llama, Mind
from pipeline.llm.small import SMALL
from pipeline.llm.small import asked as simplified
from pipeline.workers.place import Wanted
from pipeline.workers.process import WINDOW
from pipeline.workers.worker import Worker
from tests.pipeline.llm.test_gguf import TALKS, write
from tests.support.small_models import smollm2

pytestmark = pytest.mark.asyncio(loop_scope="module")

NOW = datetime(2026, 3, 4, 15, 30)
CONTEXT = 512


class TellingMind(Mind):
    """Tells what its server was given and did."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        self.running = self.events = 0
        super().__init__(*args, **settings)
        chat = self._server.chat

        def counted(request: dict[str, Any], take: Callable[[dict[str, Any]], bool]) -> None:
            self.running += 1

            def seen(event: dict[str, Any]) -> bool:
                self.events += 1
                return take(event)

            try:
                chat(request, seen)
            finally:
                self.running -= 1

        self._server.chat = counted

    def told(self) -> tuple[dict[str, Any], int, int]:
        """The last reply's timings, replies under way, and events since the last call."""
        events, self.events = self.events, 0
        return self.timings, self.running, events

    def rendered(self, text: str) -> str:
        messages = [{"role": "system", "content": "Persona."}, {"role": "user", "content": text}]
        prompt: str = self._asked("apply-template", {"messages": messages})["prompt"]
        return prompt


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def worker() -> AsyncIterator[Worker]:
    settings = {"model": str(smollm2()), "context": CONTEXT, "threads": 1}
    worker = Worker(Wanted("llama", f"{__name__}:TellingMind", settings, concurrency=4))
    await worker.start(lambda progress: None)
    yield worker
    await worker.stop()


def prompt(*texts: str, persona: str = "You are kind.", max_tokens: int = 8) -> Prompt:
    roles = ("user", "assistant")
    history = [Message(roles[place % 2], text) for place, text in enumerate(texts)]  # type: ignore[arg-type]
    return Prompt(persona, tuple(history), None, NOW, 0.0, max_tokens)


async def reply(worker: Worker, *texts: str, **settings: Any) -> tuple[list[str], dict[str, Any]]:
    """The pieces that are words, and llama.cpp's own counts."""
    made = [piece async for piece in worker.stream("reply", prompt(*texts, **settings))]
    pieces = [piece for piece in made if piece and isinstance(piece, str)]
    timings, _, _ = await worker.call("told")
    return pieces, timings


async def test_words_come_as_they_are_made_and_at_most_as_many_as_were_asked_for(worker: Worker) -> None:
    pieces, timings = await reply(worker, "Tell me a long story about a ship.", max_tokens=12)
    assert 6 <= len(pieces) <= 12 and timings["predicted_n"] <= 12
    assert "".join(pieces).isprintable() and len("".join(pieces).split()) > 4


async def test_the_model_s_own_template_is_used(worker: Worker) -> None:
    rendered = await worker.call("rendered", "Hello.")
    assert rendered.startswith("<|im_start|>system\nPersona.<|im_end|>\n<|im_start|>user\nHello.<|im_end|>")


async def test_a_reply_that_nobody_wants_any_more_ends_between_two_tokens(worker: Worker) -> None:
    await worker.call("told")
    asked = prompt("Count from one to one hundred.", max_tokens=300)
    async with aclosing(worker.stream("reply", asked)) as pieces:
        async for piece in pieces:
            if piece:
                break
    seen = 0
    async with asyncio.timeout(60):
        while True:
            _, running, events = await worker.call("told")
            seen += events
            if not running:
                break
    assert seen <= 2 * WINDOW, "of three hundred"


async def test_a_turn_reads_only_what_is_new_also_between_two_talkers(worker: Worker) -> None:
    one, other = ("Parley is a patient teacher of sailors. " * 4, "A pirate speaks here, loudly and at night. " * 4)
    _, first = await reply(worker, "What is a sail?", persona=one)
    await reply(worker, "Where is the gold?", persona=other)
    _, again = await reply(worker, "What is a sail?", "A cloth.", "And a mast?", persona=one)
    _, others = await reply(worker, "Where is the gold?", "Hidden.", "On land?", persona=other)
    begun = first["cache_n"] + first["prompt_n"] - 45  # the time and the question, which change, come last
    assert again["cache_n"] >= begun and others["cache_n"] >= begun
    assert again["prompt_n"] < 70 and others["prompt_n"] < 70


@pytest.mark.parametrize("small", [False, True])
async def test_what_was_read_ahead_is_not_read_again(worker: Worker, small: bool) -> None:
    mind = Llama(str(smollm2()), place=lambda wanted: worker)
    mind._parameters = SMALL - 1 if small else SMALL
    persona = f"You are a {'small' if small else 'large'} teacher of sailors, who are patient. " * 3
    await mind.read_ahead(prompt("What is a keel?", "The spine of a ship.", persona=persona))
    asked = prompt("What is a keel?", "The spine of a ship.", "And what is a mast?", persona=persona)
    async for _ in worker.stream("reply", simplified(asked, 0.0) if small else asked):
        pass
    timings, _, _ = await worker.call("told")
    assert timings["cache_n"] > 70
    assert timings["prompt_n"] <= (12 if small else 35), "the question, and the time where it is told"


async def test_two_are_answered_at_a_time(worker: Worker) -> None:
    async with aclosing(worker.stream("reply", prompt("Tell me about the sea.", max_tokens=200))) as one:
        async for piece in one:
            if piece:
                break
        pieces, _ = await reply(worker, "And of the land?")
        assert pieces, "while the first is still being written, or waits for its listener"


async def test_what_does_not_fit_into_the_context_is_left_out_by_its_own_count(worker: Worker) -> None:
    pieces, timings = await reply(worker, *["I went to the market and bought some bread."] * 81, max_tokens=20)
    assert pieces and CONTEXT // 2 < timings["cache_n"] + timings["prompt_n"] <= CONTEXT - 20


async def test_what_can_never_fit_is_said_in_a_sentence(worker: Worker) -> None:
    with pytest.raises(EngineError, match=r"SmolLM2.* can read at once: say it in shorter parts"):
        await reply(worker, "word " * 2 * CONTEXT)
    with pytest.raises(EngineError, match=r"reads and writes 512 tokens: ask for shorter replies"):
        await reply(worker, "Hello.", max_tokens=600)


async def test_a_kind_of_model_that_llama_cpp_does_not_know_is_refused(tmp_path: Path) -> None:
    engine = Llama(str(write(tmp_path / "strange.gguf", {**TALKS, "general.architecture": "strange"})))
    with pytest.raises(
        EngineError, match=r"llama.cpp cannot load strange.gguf, whose architecture is 'strange': choose"
    ):
        await engine.start(lambda progress: None)
    await engine.stop()


async def test_the_catalogue_makes_it_with_the_smallest_model(tmp_path: Path) -> None:
    engine = create(CATALOGUE["mind", "llama"], Settings(), tmp_path)
    await engine.start(lambda progress: None)
    try:
        assert engine.status.state == "ready"
        assert isinstance(engine, Llama)
        assert [piece async for piece in engine.reply(prompt("Hello."))]
    finally:
        await engine.stop()
