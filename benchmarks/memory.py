"""How much of the evidence memory returns, and how fast.

    python benchmarks/memory.py --locomo DIR          share of evidence within 2,400 characters, beside two peers
    python benchmarks/memory.py --fit --locomo DIR --friends DIR --bank DIR
                                                      refit the weights of rag/ranking.py, and cross-validate them
    python benchmarks/memory.py --talks               the same for talks with the companion, in five languages
    python benchmarks/memory.py --speed 10000         recall's latency at that many turns, while one core is busy, and
                                                      while 3,000 turns wait for their vectors

conversations.py describes the folders. An evidence turn counts if the returned text shows all of it. LoCoMo's questions
of category 5 (unanswerable) and those without evidence are left out.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.conversations import CATEGORIES, TALKS, Conversation, Question, friends, locomo, memory_bank, talks
from rag import Memory, Remembered, SentenceEmbedder, indexer
from rag.lexical import EMPTY, Stemmer, words
from rag.packing import pack
from rag.ranking import RELEVANT, WEIGHTS
from rag.retriever import Found

BUDGET = 2400
PARTS = (0.1, 0.2)
"""Budgets as shares of all that was said in the talks beside this file, which are short."""
Floats = NDArray[np.float64]


# The peers


def _filled(order: Iterable[int], turns: Sequence[Remembered]) -> set[str]:
    """Whole turns in the order of a ranking, as lines "speaker: text", until the budget is used."""
    used, shown = 0, set()
    for index in order:
        used += len(f"{turns[index].speaker}: {turns[index].text}\n")
        if used > BUDGET:
            break
        shown.add(turns[index].id)
    return shown


def _bm25(documents: Sequence[Sequence[str]]) -> Callable[[Sequence[str]], Floats]:
    """Okapi BM25, k1 = 1.2, b = 0.75."""
    lengths = np.array([len(document) for document in documents], dtype=float)
    counts: dict[str, dict[int, int]] = {}
    for number, document in enumerate(documents):
        for term in document:
            counts.setdefault(term, {}).setdefault(number, 0)
            counts[term][number] += 1

    def scores(query: Sequence[str]) -> Floats:
        total = np.zeros(len(documents))
        for term in set(query):
            held = counts.get(term, {})
            idf = np.log1p((len(documents) - len(held) + 0.5) / (len(held) + 0.5))
            for number, count in held.items():
                total[number] += idf * count * 2.2 / (count + 1.2 * (0.25 + 0.75 * lengths[number] / lengths.mean()))
        return total

    return scores


def _ranks(scores: Floats) -> Floats:
    ranks = np.empty(len(scores))
    ranks[np.argsort(-scores)] = np.arange(1, len(scores) + 1)
    return ranks


def peers(conversation: Conversation, embedder: SentenceEmbedder) -> Iterator[dict[str, set[str]]]:
    """For each question, what plain cosine, and cosine with BM25 by reciprocal rank fusion, return."""
    spoken = [f"{turn.speaker}: {turn.text}" for turn in conversation.turns]
    vectors = embedder.embed(spoken)
    stemmer = Stemmer()
    bm25 = _bm25([stemmer.stems(word for word in words(text) if word not in EMPTY) for text in spoken])
    for question, vector in zip(
        conversation.questions, embedder.embed([question.text for question in conversation.questions]), strict=True
    ):
        cosine = (vectors @ vector).astype(float)
        lexical = bm25(stemmer.stems(word for word in words(question.text) if word not in EMPTY))
        fused = 1 / (60 + _ranks(cosine)) + 1 / (60 + _ranks(lexical))
        yield {
            "cosine, three turns": {conversation.turns[index].id for index in np.argsort(-cosine)[:3]},
            "cosine": _filled(np.argsort(-cosine), conversation.turns),
            "cosine + BM25": _filled(np.argsort(-fused), conversation.turns),
        }


# Ours


def remembered(conversation: Conversation, folder: Path, embedder: SentenceEmbedder) -> tuple[Memory, dict[str, str]]:
    """Make a memory that holds the conversation; return it and the id of each turn."""
    memory = Memory(folder, owner=conversation.name, embedder=embedder)
    ids = {
        memory.remember(turn.speaker, turn.text, at=turn.at, conversation=turn.conversation): turn.id
        for turn in conversation.turns
    }
    memory.settle()
    return memory, ids


def share(shown: set[str], question: Question) -> float:
    found = [turn in shown for turn in question.evidence]
    return float(any(found)) if question.one_is_enough else float(np.mean(found))


class Table:
    """The mean share of evidence for each way, by category and over all questions."""

    def __init__(self) -> None:
        self._shares: dict[str, list[tuple[int, float]]] = {}

    def add(self, way: str, question: Question, value: float) -> None:
        self._shares.setdefault(way, []).append((question.category, value))

    def mean(self, way: str) -> float:
        return float(np.mean([value for _, value in self._shares[way]]))

    def show(self) -> None:
        print(f"{'':34}" + "".join(f"{name:>14}" for name in CATEGORIES.values()) + f"{'all':>9}")
        for way, shares in self._shares.items():
            cells = [np.mean([v for c, v in shares if c == category] or [np.nan]) for category in CATEGORIES]
            print(f"{way:34}" + "".join(f"{cell:14.3f}" for cell in cells) + f"{self.mean(way):9.3f}")
        print(f"{len(next(iter(self._shares.values())))} questions, {BUDGET:,} characters")


def compared(folder: Path) -> None:
    table, embedder, times = Table(), SentenceEmbedder(), []
    with tempfile.TemporaryDirectory() as place:
        for conversation in locomo(folder):
            for question, found in zip(conversation.questions, peers(conversation, embedder), strict=True):
                for way, shown in found.items():
                    table.add(way, question, share(shown, question))
            memory, ids = remembered(conversation, Path(place), embedder)
            whole = {turn.id: turn for turn in conversation.turns}
            for question in conversation.questions:
                start = time.perf_counter()
                recall = memory.recall(question.text, budget_chars=BUDGET)
                times.append(time.perf_counter() - start)
                assert len(recall.text) <= BUDGET
                handed = {ids[item.id] for item in recall.items}
                shown = {id for id in handed if " ".join(whole[id].text.split()) in recall.text}
                table.add("Parley, turns shown whole", question, share(shown, question))
                table.add("Parley", question, share(handed, question))
            memory.close()
    table.show()
    print(f"recall: median {np.median(times) * 1e3:.1f} ms, p95 {np.percentile(times, 95) * 1e3:.1f} ms")


def talked() -> None:
    """Print the share of evidence in talks/*.toml that two budgets hold, each a part of all that was said."""
    embedder = SentenceEmbedder()
    print(f"{'':10}" + "".join(f"{part:>14.0%}" for part in PARTS) + "   of the talks handed over")
    for language in sorted(file.stem for file in TALKS.glob("*.toml")):
        held = talks(language)
        whole = sum(len(f"{turn.speaker}: {turn.text}\n") for turn in held.turns)
        with tempfile.TemporaryDirectory() as place:
            memory, ids = remembered(held, Path(place), embedder)
            shares = [
                [
                    share({ids[item.id] for item in recall.items}, question)
                    for question in held.questions
                    for recall in [
                        memory.recall(question.text, budget_chars=int(part * whole), now=held.now, asker=question.asker)
                    ]
                ]
                for part in PARTS
            ]
            memory.close()
        print(f"{language:10}" + "".join(f"{np.mean(each):14.3f}" for each in shares))


# Fitting


@dataclass(frozen=True)
class Example:
    conversation: Conversation
    question: Question
    found: Found
    matrix: Floats
    relevant: NDArray[np.bool_]
    ids: list[str]


def examples(conversations: Sequence[Conversation], features: Sequence[str]) -> list[Example]:
    made, embedder = [], SentenceEmbedder()
    with tempfile.TemporaryDirectory() as place:
        for conversation in conversations:
            memory, ids = remembered(conversation, Path(place), embedder)
            for question in conversation.questions:
                found = memory.find(question.text, now=conversation.now, asker=question.asker)
                own = [ids[row.id] for row in found.rows]
                matrix = np.stack([found.features[name] for name in features], axis=1)
                relevant = np.array([id in question.evidence for id in own])
                made.append(Example(conversation, question, found, matrix, relevant, own))
            memory.close()
            print(f"{conversation.name}: {len(conversation.turns)} turns, {len(conversation.questions)} questions")
    return made


def fit(examples: Sequence[Example], penalty: float = 1e-2) -> Floats:
    """Fit weights [features] by a listwise logistic regression: each evidence turn against all other turns."""
    from scipy.optimize import minimize  # type: ignore[import-untyped]

    usable = [example for example in examples if example.relevant.any()]
    longest = max(len(example.ids) for example in usable)
    matrix = np.zeros((len(usable), longest, usable[0].matrix.shape[1]), np.float32)
    relevant, held = np.zeros(matrix.shape[:2], bool), np.zeros(matrix.shape[:2], bool)
    for row, example in enumerate(usable):
        matrix[row, : len(example.ids)] = example.matrix
        relevant[row, : len(example.ids)] = example.relevant
        held[row, : len(example.ids)] = True
    spread = matrix[held].std(axis=0) + 1e-9
    matrix /= spread
    part = relevant / relevant.sum(axis=1, keepdims=True)  # of a question's evidence

    def loss(weights: Floats) -> tuple[float, Floats]:
        scores = np.where(held, matrix @ weights.astype(np.float32), -np.inf)
        scores -= scores.max(axis=1, keepdims=True)
        odds = np.exp(scores)
        whole = odds + (odds * (held & ~relevant)).sum(axis=1, keepdims=True)  # for each evidence turn
        total = (part * (np.log(whole) - np.where(held, scores, 0.0))).sum()
        pull = np.where(relevant, part * (odds / whole - 1), odds * (part / whole).sum(axis=1, keepdims=True))
        slope = np.einsum("qc,qcf->f", np.where(held, pull, 0.0), matrix)
        count = len(usable)
        return total / count + penalty * float(weights @ weights), slope / count + 2 * penalty * weights

    found = minimize(loss, np.zeros(len(spread)), jac=True, method="L-BFGS-B", options={"maxiter": 200})
    return np.asarray(found.x / spread)


def evaluated(example: Example, weights: Floats) -> float:
    scores = example.matrix @ weights
    kept = np.nonzero(scores >= scores.max() - RELEVANT)[0]
    rows = [example.found.rows[index] for index in kept]
    _, taken = pack(rows, scores[kept], example.conversation.budget)
    return share({example.ids[kept[index]] for index in taken}, example.question)


def fitting(sets: Mapping[str, Sequence[Conversation]]) -> None:
    """Print each set's share: with the current weights, with those fitted on all other conversations, and with those
    fitted on the other sets alone. Also print the weights fitted on all."""
    features = list(WEIGHTS)
    made = {name: examples(conversations, features) for name, conversations in sets.items()}
    whole = [example for part in made.values() for example in part]
    committed = np.array(list(WEIGHTS.values()))
    for name, part in made.items():
        apart = {
            id(conversation): fit([example for example in whole if example.conversation is not conversation])
            for conversation in sets[name]
        }
        others = [example for example in whole if example.conversation not in sets[name]]
        ways = {
            "as committed": [evaluated(example, committed) for example in part],
            "without its conversation": [evaluated(example, apart[id(example.conversation)]) for example in part],
        }
        if others:
            unseen = fit(others)
            ways["without its set"] = [evaluated(example, unseen) for example in part]
        reached = np.mean([evaluated_at_best(example) for example in part])
        told = ", ".join(f"{way} {np.mean(shares):.3f}" for way, shares in ways.items())
        print(f"{name}, {len(part)} questions: {told}; among the candidates {reached:.3f}")
    print("WEIGHTS: dict[str, float] = {")
    for name, weight in zip(features, fit(whole), strict=True):
        print(f'    "{name}": {weight:.3f},')
    print("}")


def evaluated_at_best(example: Example) -> float:
    return share(set(example.ids), example.question)


# Speed


class QuickFilling(SentenceEmbedder):
    """Embeds questions with the model; turns that fill the memory get vectors in clusters, made in almost no time."""

    filling = False

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        if not self.filling:
            return super().embed(texts)
        seed = int.from_bytes(texts[0].encode()[-8:])
        chance, centres = np.random.default_rng(seed), np.random.default_rng(0).standard_normal((300, 384))
        vectors = centres[chance.integers(0, 300, len(texts))] + chance.standard_normal((len(texts), 384))
        return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


def _small_talk(count: int) -> Iterator[Remembered]:
    """Turns of twenty words from a vocabulary of 20,000 with the frequencies of language (Zipf), 20 turns per talk."""
    chance = np.random.default_rng(1)
    syllables = [first + second for first in "bdfgklmnprstvz" for second in "aeiou"]
    vocabulary = np.array(["".join(chance.choice(syllables, 3)) for _ in range(20_000)])
    odds = 1 / np.arange(1, 20_001)
    said = vocabulary[chance.choice(20_000, (count, 20), p=odds / odds.sum())]
    start = datetime(2020, 1, 1).astimezone()
    for number in range(count):
        at = start + timedelta(hours=8 * (number // 20), seconds=20 * (number % 20))
        speaker = ("Ann", "Ben")[number % 2]
        yield Remembered(f"{number:032x}", speaker, " ".join(said[number]), at, f"talk {number // 20}")


def speed(count: int, folder: Path) -> None:
    """Fill a memory in `folder` with that many turns, if it holds none yet; then time it, on two cores.

    This runs in separate processes, as in any other program.
    """
    context = multiprocessing.get_context("spawn")
    os.environ["OMP_NUM_THREADS"] = "1"  # as the app's process does (pipeline/engines/memory.py)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[-2:]))
    steps: list[Callable[[int, Path], None]] = [timed, taking_in]
    for step in steps if (folder / "default").exists() else [filled, *steps]:
        taken = context.Process(target=_busy, daemon=True)
        if step is timed:
            taken.start()
        process = context.Process(target=step, args=(count, folder))
        process.start()
        process.join()
        if taken.is_alive():
            taken.terminate()
        if process.exitcode:
            raise SystemExit(process.exitcode)


def _queued() -> float:
    """Seconds that this thread was ready while others had the cores: the noise of a shared machine. Linux only."""
    stat = Path("/proc/thread-self/schedstat")
    return int(stat.read_text().split()[1]) / 1e9 if stat.exists() else 0.0


def _busy() -> None:
    while True:
        pass


def filled(count: int, folder: Path) -> None:
    embedder, start = QuickFilling(), time.perf_counter()
    embedder.filling, indexer.BATCH = True, 1000  # no questions are asked in the meantime
    with tempfile.TemporaryDirectory() as place, Memory(folder, embedder=embedder) as memory:
        file = Path(place) / "turns.jsonl"
        with file.open("w", encoding="utf-8") as out:
            for turn in _small_talk(count):
                out.write(json.dumps({**vars(turn), "at": turn.at.isoformat()}) + "\n")
        memory.import_(file)
        print(f"{count:,} turns imported in {time.perf_counter() - start:.0f} s", flush=True)
        memory.settle()
        size = memory.size().disk_bytes / 1e6
        print(f"their vectors in Chroma after {time.perf_counter() - start:.0f} s; {size:.0f} MB on disk", flush=True)


def timed(count: int, folder: Path, questions: int = 200) -> None:
    """Time opening, remembering, and recalling with and without a turn just remembered."""
    turns, chance, clock = list(_small_talk(count)), np.random.default_rng(2), time.perf_counter
    start = clock()
    with Memory(folder, embedder=QuickFilling()) as memory:
        opened = clock()
        memory.remember("Ann", "The first words of today.", at=turns[-1].at)
        first = clock()
        memory.warm()
        print(f"opened after {opened - start:.2f} s, first turn kept after {first - start:.2f} s", end=", ")
        print(f"all ready after {clock() - start:.2f} s")
        memory.settle()
        times: dict[str, list[float]] = {"recall after a new turn": [], "remember": [], "recall": []}
        for number in range(2 * questions + 20):
            said = turns[int(chance.integers(count))].text.split()
            query = f"When did Ann talk about {said[3]} and {said[9]} with {said[15]} in the garden?"
            start, before = clock(), _queued()
            memory.recall(query, now=turns[-1].at)
            way = "recall after a new turn" if number < questions + 20 else "recall"
            times[way].append(clock() - start)
            alone = times.setdefault(f"{way}, less the queue for a core,", [])
            alone.append(clock() - start - (_queued() - before))
            if number < questions + 20:
                start = clock()
                memory.remember("Ann", " ".join(chance.permutation(said)), at=turns[-1].at)
                times["remember"].append(clock() - start)
                memory.settle()
        for way, taken in times.items():
            middle, slow, longest = np.percentile(taken[-questions:], [50, 95, 100]) * 1e3
            print(f"{way} at {count:,} turns: median {middle:.1f} ms, p95 {slow:.1f} ms, longest {longest:.1f} ms")
    print(f"one core of two is taken; load average {os.getloadavg()[0]:.1f}")


def taking_in(count: int, folder: Path, waiting: int = 3000, questions: int = 100) -> None:
    """Time recall alternately while turns that were just imported get their vectors, and while none is waiting."""
    chance, clock = np.random.default_rng(3), time.perf_counter
    turns = list(_small_talk(waiting + count))[count:]
    with tempfile.TemporaryDirectory() as place, Memory(Path(place) / "memory") as memory:
        file = Path(place) / "turns.jsonl"
        lines = (json.dumps({**vars(turn), "at": turn.at.isoformat()}) for turn in turns)
        file.write_text("\n".join(lines), encoding="utf-8")
        memory.warm()
        start = clock()
        memory.import_(file)
        print(f"{waiting:,} turns imported in {clock() - start:.1f} s", end=", ")
        times, queued = [], []
        for _ in range(questions):
            said = turns[int(chance.integers(waiting))].text.split()
            start, before = clock(), _queued()
            memory.recall(f"When did Ann talk about {said[3]} and {said[9]} in the garden?", now=turns[-1].at)
            times.append(clock() - start)
            queued.append(_queued() - before)
            time.sleep(0.1)
        left = memory.size().waiting
        middle, slow, longest = np.percentile(times, [50, 95, 100]) * 1e3
        alone = np.percentile(np.array(times) - queued, [50, 95]) * 1e3
        print(f"less the time in the queue for a core: median {alone[0]:.1f} ms, p95 {alone[1]:.1f} ms; ", end="")
        print(f"recall while {left:,} wait: median {middle:.1f} ms, p95 {slow:.1f} ms, longest {longest:.1f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--locomo", type=Path, metavar="DIR")
    parser.add_argument("--friends", type=Path, metavar="DIR")
    parser.add_argument("--bank", type=Path, metavar="DIR")
    parser.add_argument("--fit", action="store_true")
    parser.add_argument("--talks", action="store_true")
    parser.add_argument("--speed", type=int, metavar="TURNS")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where --speed's memory stays, to be timed again")
    options = parser.parse_args()
    if options.speed and options.keep is not None:
        speed(options.speed, options.keep)
    elif options.speed:
        with tempfile.TemporaryDirectory() as place:
            speed(options.speed, Path(place))
    elif options.talks:
        talked()
    elif options.locomo is None:
        parser.error("name a folder with --locomo, a number of turns with --speed, or --talks")
    elif options.fit:
        sets = {"LoCoMo": locomo(options.locomo)}
        if options.friends:
            sets["FriendsQA"] = list(friends(options.friends))
        if options.bank:
            sets["MemoryBank"] = list(memory_bank(options.bank))
        fitting(sets)
    else:
        compared(options.locomo)


if __name__ == "__main__":
    main()
