"""How a language model does in conversation: what it was told, the time, small talk, unknowable things, and nonsense.

    python benchmarks/mind.py                                    the smallest model, with and without its guard
    python benchmarks/mind.py --model ollama:llama3.2            any other
    python benchmarks/mind.py --engine builtin                   the rules alone
    python benchmarks/mind.py --set second --show                another set of questions, and every reply

The questions (mind_questions.json) are one conversation. What the user told is in a memory of another day, as in the
product, and is recalled for each. Checks are rules: what was told and the time must be in the reply; if the answer
cannot be known, the reply must say so; no reply may repeat an earlier one, be longer than 40 words, or contain anything
unspeakable.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import cast

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.simulated_user import machine
from config import Settings
from config.engines import CATALOGUE
from config.settings import DEFAULT_PERSONA
from pipeline.engines.catalogue import create
from pipeline.llm import LanguageModel, Message, Prompt, Truncated
from pipeline.llm.placed import PlacedMind
from pipeline.llm.saying import plain
from pipeline.tools.calls import ToolCall
from rag import Memory

QUESTIONS = Path(__file__).with_name("mind_questions.json")
BUDGET_CHARS = 2400
"""The budget for recall, as in the settings."""
MOST_WORDS = 40

ADMITS = re.compile(
    r"\b(?:not|cannot|can't|don't|do not|never|nobody|no|only|nothing|unable|unsure|hidden|beyond|guess|without)\b",
    re.IGNORECASE,
)
"""Matches a reply that says that something is not known."""
CLAIMS = re.compile(
    r"\d|\bthe (?:weather|winner|price) (?:is|was)\b|\byou are holding\b|\bi (?:ate|had)\b", re.IGNORECASE
)
"""Matches a reply that claims an answer all the same."""
UNSPEAKABLE = re.compile(r"[][{}<>*#_|`]|^\W*(?:[-•]|\d+[.)])\s|^\w+:|\n")


@dataclass(frozen=True, slots=True)
class Answer:
    kind: str
    asked: str
    said: str
    first_s: float
    faults: tuple[str, ...]
    """Any of: wrong (not the fact, not the time, invented), again, long, form, empty."""


Written = Callable[[Prompt], AsyncGenerator[str | ToolCall | Truncated, None]]


def expected(pattern: str, now: datetime) -> str:
    """The pattern of a right answer, with the current time filled in."""
    feast = datetime(now.year, 12, 25, tzinfo=now.tzinfo)
    days = (feast.date() - now.date()).days
    tomorrow, yesterday = now + timedelta(days=1), now - timedelta(days=1)
    return pattern.format(
        hour12=(now.hour - 1) % 12 + 1, minute=f"{now.minute:02}", ampm="p.?m" if now.hour >= 12 else "a.?m",
        weekday=f"{now:%A}", month=f"{now:%B}", year=now.year, christmas=days,
        tomorrow=f"{tomorrow.day}|{tomorrow:%A}", yesterday=f"{yesterday:%A}",
    )  # fmt: skip


def faults(kind: str, said: str, right: str, before: set[str]) -> tuple[str, ...]:
    found = []
    if kind in ("fact", "time") and not re.search(right, said, re.IGNORECASE):
        found.append("wrong")
    if kind == "unknown" and (not ADMITS.search(said) or CLAIMS.search(said)):
        found.append("wrong")
    if kind not in ("fact", "time") and plain(said) in before:  # a repeated question has the same true answer
        found.append("again")
    if len(said.split()) > MOST_WORDS:
        found.append("long")
    if UNSPEAKABLE.search(said):
        found.append("form")
    if not plain(said):
        found.append("empty")
    return tuple(found)


async def talk(written: Written, questions: list[list[str]], told: list[str], folder: Path) -> list[Answer]:
    now = datetime(2026, 3, 4, 15, 30).astimezone()
    history: list[Message] = []
    before: set[str] = set()
    answers = []
    with Memory(folder) as memory:
        for text in told:
            memory.remember("user", text, at=now - timedelta(days=2), conversation="before")
        memory.settle()
        for kind, asked, *right in questions:
            now += timedelta(minutes=1)
            history.append(Message("user", asked))
            prompt = Prompt(DEFAULT_PERSONA, tuple(history), memory.recall(asked, budget_chars=BUDGET_CHARS), now)
            said, began, first = "", time.perf_counter(), 0.0
            async with aclosing(written(prompt)) as pieces:
                async for piece in pieces:
                    first = first or time.perf_counter() - began
                    said += piece if isinstance(piece, str) else ""
            wanted = expected(right[0], now) if right else ""
            answers.append(Answer(kind, asked, said, first, faults(kind, said, wanted, before)))
            before.add(plain(said))
            history.append(Message("assistant", said))
    return answers


def row(name: str, answers: list[Answer]) -> str:
    def right(*kinds: str) -> str:
        of = [answer for answer in answers if answer.kind in kinds]
        return f"{sum('wrong' not in answer.faults for answer in of)} of {len(of)}"

    counts = [str(sum(fault in answer.faults for answer in answers)) for fault in ("again", "long", "form", "empty")]
    first = f"{1000 * statistics.median(answer.first_s for answer in answers):.0f}"
    return "| " + " | ".join([name, right("fact", "time"), right("unknown"), *counts, first]) + " |"


HEAD = (
    "| mind | facts and time right | not invented | said before | over 40 words | not to be spoken | empty | "
    "first words, ms (median) |\n|---|---|---|---|---|---|---|---|"
)


async def run(engine: str, model: str, which: str, show: bool) -> None:
    data = json.loads(QUESTIONS.read_text(encoding="utf-8"))
    settings = Settings()
    settings.mind.model = model
    with tempfile.TemporaryDirectory() as scratch:
        mind = create(CATALOGUE["mind", engine], settings, Path(scratch))
        await mind.start(lambda progress: None)
        ways = {f"{engine} {model}".strip(): cast(Written, cast(LanguageModel, mind).reply)}
        if isinstance(mind, PlacedMind):
            ways["the model itself"] = mind.written
        rows = []
        try:
            for number, (name, written) in enumerate(ways.items()):
                answers = await talk(written, data[which], data["told"], Path(scratch) / f"memory{number}")
                rows.append(row(name, answers))
                for answer in answers:
                    if show or answer.faults:
                        print(f"{name[:12]:12} {answer.kind:9} {','.join(answer.faults) or '-':12} "
                              f"{answer.asked!r} -> {answer.said!r}")  # fmt: skip
        finally:
            await mind.stop()
    print(f"\n{machine()}; {len(data[which])} questions, the {which} set.\n\n{HEAD}")
    print("\n".join(rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    minds = [name for stage, name in CATALOGUE if stage == "mind"]
    parser.add_argument("--engine", choices=minds, default="llama")
    parser.add_argument("--model", default="", help="as the settings have it (default: the engine's own)")
    parser.add_argument("--set", choices=("first", "second"), default="first")
    parser.add_argument("--show", action="store_true", help="every reply, not only those at fault")
    arguments = parser.parse_args()
    asyncio.run(run(arguments.engine, arguments.model, arguments.set, arguments.show))


if __name__ == "__main__":
    main()
