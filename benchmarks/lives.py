"""Does memory distinguish what is true now from what was true once?

    python benchmarks/lives.py                     60 lives in the open wordings, and the same in the held-out ones
    python benchmarks/lives.py --show 20           … with the first mistakes in the open ones, to improve rag/grammar.py

A life is ten months of conversations between somebody and an assistant. They move, change jobs, change their name, get
and lose pets, lose interest in things, correct a slip, and speak of other people, whose lives change, too. A seeded
script makes it from the wordings in lives.toml. After three, six and ten months every fact is asked for. An answer is
right if the returned text holds a turn that states what is true at that date, presented as true, and no turn that
states what was true before without saying that it is past.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from rag import Memory, Recall, SentenceEmbedder

KINDS: dict[str, dict[str, Any]] = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
OWN = ["home", "name", "pet", "likes"]
ONE_OF = ["work", "employer"]
FOUR_OF = ["diet", "marriage", "car", "phone", "habit", "favourite", "appointment", "learning"]
OTHERS = ["their_home", "their_work"]
PEOPLE = [("my sister Clara", "Clara", "my sister"), ("my brother Tom", "Tom", "my brother"),
          ("my friend Mia", "Mia", "my friend Mia"), ("my neighbour Paul", "Paul", "my neighbour"),
          ("my daughter Eva", "Eva", "my daughter"), ("my cousin Leo", "Leo", "my cousin")]  # fmt: skip
BORN = datetime(2025, 1, 6, 18, tzinfo=UTC)
DAYS = 300
ASKED_AFTER = (90, 180, DAYS)
TALK = ["Good evening!", "How are you today?", "It has been raining since noon.", "I slept badly.", "Hello there.",
        "I had soup for lunch.", "The bus was late again.", "I'm a little tired.", "What a long day that was.",
        "I watched the news.", "I finally cleaned the kitchen.", "The neighbours are noisy tonight.",
        "I need a holiday.", "There was a queue at the bakery.", "I lost my umbrella.", "It's quiet."]  # fmt: skip
REPLIES = ["That sounds good.", "I see.", "Tell me more about it.", "I hope that you have a nice evening.",
           "Thanks for telling me.", "Oh, I can imagine.", "That's interesting.", "How was that?", "Fine."]  # fmt: skip


@dataclass
class Fact:
    """One fact about somebody, and its values so far."""

    name: str
    kind: dict[str, Any]
    words: dict[str, str]
    """The terms used in the wordings: the kind of a pet, a person by three names."""
    had: list[str]
    now: str | None = None


@dataclass(frozen=True)
class Told:
    """A turn; if it tells of a fact, also the fact's name and its value, or None if the fact has ended."""

    speaker: str
    text: str
    at: datetime
    conversation: str
    fact: str = ""
    value: str | None = None


class Life:
    """The conversations of one life, in order, and its questions; the same for the same seed and wordings."""

    def __init__(self, seed: int, held_back: bool) -> None:
        self._chance, self._half = random.Random(f"{seed}"), int(held_back)
        names = [*OWN, self._chance.choice(ONE_OF), *self._chance.sample(FOUR_OF, 4), *OTHERS]
        self.facts = [self._fact(name) for name in names]
        spoken_of = [(day, fact, bears) for fact in self.facts for day, bears in self._days()]
        self.told = [
            turn
            for number, (day, fact, bears) in enumerate(sorted(spoken_of, key=lambda each: each[0]))
            for turn in self._talk(f"talk {number}", BORN + timedelta(days=day), fact, bears)
        ]

    def question(self, fact: Fact) -> str:
        return self._worded(fact, "asked", fact.had[-1] if fact.had else "")

    def _fact(self, name: str) -> Fact:
        kind = KINDS[name]
        words = {"k": self._chance.choice(kind.get("kinds", [""]))}
        words["whole"], words["first"], words["kin"] = self._chance.choice(PEOPLE)
        return Fact(name, kind, words, [])

    def _days(self) -> Iterator[tuple[float, bool]]:
        """The days when the subject comes up, and whether the fact is told: early on, later again, and once not."""
        yield self._chance.uniform(0, 60), True
        yield self._chance.uniform(60, DAYS), False
        for _ in range(self._chance.randint(1, 3)):
            yield self._chance.uniform(60, DAYS), True

    def _talk(self, name: str, at: datetime, fact: Fact, bears: bool) -> list[Told]:
        chance, old = self._chance, fact.had[-1] if fact.had else ""
        said: list[tuple[str, str, str, str | None]]
        said = [("user", chance.choice(TALK), "", None), ("assistant", chance.choice(REPLIES), "", None)]
        if bears:
            said += self._happening(fact, old)
        else:
            value = old if "one" in fact.kind else self._other(fact)
            said.append(("user", self._worded(fact, "noise", value, old), "", None))
        said.append(("user", chance.choice(TALK), "", None))
        return [
            Told(speaker, text, at + timedelta(seconds=20 * number), name, about, value)
            for number, (speaker, text, about, value) in enumerate(said)
        ]

    def _happening(self, fact: Fact, old: str) -> Iterator[tuple[str, str, str, str | None]]:
        """State the fact for the first time, or again, or that it has changed, or that it has ended."""
        way = self._way(fact)
        if way == "ended":
            fact.now = None
            yield "user", self._worded(fact, way, old, old), fact.name, None
            return
        again = way == "said" and fact.now is not None
        value = old if again or ("one" in fact.kind and old) else self._other(fact)
        if "corrected" in fact.kind and not again and self._chance.random() < 0.15:
            slip = self._other(fact, value)
            yield "user", self._worded(fact, way, slip, old), fact.name, slip
            yield "user", self._worded(fact, "corrected", value, slip), fact.name, value
        else:
            yield "user", self._worded(fact, way, value, old), fact.name, value
            if "echoed" in fact.kind and self._chance.random() < 0.4:
                yield "assistant", self._worded(fact, "echoed", value), fact.name, value
        fact.now = value
        fact.had.append(value)

    def _way(self, fact: Fact) -> str:
        if not fact.had:
            return "said"
        if fact.now is None:
            return "changed" if "changed" in fact.kind else "said"
        ways = [way for way in ("changed", "changed", "ended") if way in fact.kind]
        if "heir" in fact.kind:
            ways = ["ended"]
        return self._chance.choice(ways) if self._chance.random() < 0.85 else "said"

    def _other(self, fact: Fact, besides: str = "") -> str:
        """A value that the fact never had."""
        values: list[str] = [value for value in fact.kind["values"] if value not in {*fact.had, besides}]
        return self._chance.choice(values)

    def _worded(self, fact: Fact, way: str, value: str, old: str = "") -> str:
        wordings = fact.kind[way]
        words = dict(fact.words)
        names = ["whole", "first", "kin"] if fact.had else ["whole"]
        words["who"] = words[self._chance.choice(names)]
        if "gerunds" in fact.kind and value:
            words["g"] = fact.kind["gerunds"][fact.kind["values"].index(value)]
        chosen: str = self._chance.choice(wordings[self._half :: 2] or wordings)
        text: str = chosen.format(v=value, o=old, **words)
        return text[0].upper() + text[1:]


@dataclass(frozen=True)
class Answer:
    """The result of one question: which relevant turns were returned, and whether as true or as past."""

    fact: str
    question: str
    text: str
    newest: bool
    """Whether a turn that states what is true was returned, and as true."""
    first: bool
    """Whether it comes before all turns that state what was true."""
    stale: tuple[bool, ...]
    """For each returned turn that states what was true: whether it is marked as past."""
    true: tuple[bool, ...]
    """For each returned turn without anything past: whether it is not marked as past."""

    @property
    def right(self) -> bool:
        return self.newest and all(self.stale)


class Recalling(SentenceEmbedder):
    """Lives share their small talk, so embeddings are reused."""

    def __init__(self) -> None:
        super().__init__()
        self._known: dict[str, NDArray[np.float32]] = {}

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        self._known.update(zip(new, super().embed(new), strict=True))
        return np.stack([self._known[text] for text in texts])


def answers(life: Life, folder: Path, embedder: SentenceEmbedder) -> Iterator[Answer]:
    """Ask for each fact at each date, with a memory of only what was said until then."""
    with Memory(folder, embedder=embedder) as memory:
        ids: dict[str, Told] = {}
        for days in ASKED_AFTER:
            now = BORN + timedelta(days=days)
            for turn in life.told[len(ids) :]:
                if turn.at <= now:
                    id = memory.remember(turn.speaker, turn.text, at=turn.at, conversation=turn.conversation)
                    ids[id] = turn
            memory.settle()
            for fact in life.facts:
                if any(turn.fact == fact.name for turn in ids.values()):
                    question = life.question(fact)
                    yield _judged(fact.name, question, memory.recall(question, asker="user", now=now), ids)


def _judged(fact: str, question: str, recall: Recall, told: dict[str, Told]) -> Answer:
    past = {name: _past(name, told) for name in {turn.fact for turn in told.values()}}
    shown = recall.text.splitlines()
    marked = {item.id: f"{item.speaker}: {item.text}" not in shown for item in recall.items}
    own = [(item.id, item.id in past[fact]) for item in recall.items if told[item.id].fact == fact]
    held = [index for index, (id, stale) in enumerate(own) if not stale and not marked[id] and _newest(id, fact, told)]
    before = [index for index, (_, stale) in enumerate(own) if stale]
    return Answer(
        fact,
        question,
        recall.text,
        newest=bool(held),
        first=bool(held) and held[0] < min(before, default=len(own)),
        stale=tuple(marked[id] for id, stale in own if stale),
        true=tuple(
            not marked[item.id]
            for item in recall.items
            if not told[item.id].fact or _newest(item.id, told[item.id].fact, told)
        ),
    )


def _past(fact: str, told: dict[str, Told]) -> set[str]:
    """The turns that state something about the fact that is no longer true."""
    own = [(id, turn.value) for id, turn in told.items() if turn.fact == fact and fact]
    stays = "changed" in KINDS.get(fact, {})  # that Rufus died stays true when there is a new dog
    return {id for id, value in own if value != own[-1][1] and not (stays and value is None)}


def _newest(id: str, fact: str, told: dict[str, Told]) -> bool:
    """Whether nothing else was said about the fact since."""
    ids = list(told)
    since = [told[other] for other in ids[ids.index(id) :]]
    return all(turn.value == told[id].value for turn in since if turn.fact == fact)


def show(title: str, found: Sequence[Answer]) -> None:
    print(f"{title:14}{'questions':>10}{'right':>9}{'newest':>9}{'first':>9}{'stale so':>10}{'true so':>9}")
    for name in [*KINDS, ""]:
        own = [answer for answer in found if name in {answer.fact, ""}]
        columns = [
            np.mean([answer.right for answer in own]),
            np.mean([answer.newest for answer in own]),
            np.mean([answer.first for answer in own]),
            np.mean([said for answer in own for said in answer.stale]),
            np.mean([said for answer in own for said in answer.true]),
        ]
        print(f"{name or 'all':14}{len(own):10}" + "".join(f"{100 * column:9.1f}" for column in columns))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lives", type=int, default=60)
    parser.add_argument("--show", type=int, metavar="N", help="print the first N mistakes in the open wordings")
    options = parser.parse_args()
    embedder = Recalling()
    for held_back in (False,) if options.show else (False, True):
        found: list[Answer] = []
        for seed in range(options.lives):
            with tempfile.TemporaryDirectory() as folder:
                found += answers(Life(seed, held_back), Path(folder), embedder)
        show("held back" if held_back else "open", found)
        for answer in [answer for answer in found if not answer.right or not all(answer.true)][: options.show or 0]:
            print(f"\n{answer.fact}: {answer.question} {answer.newest=} {answer.stale=} {answer.true=}\n{answer.text}")


if __name__ == "__main__":
    main()
