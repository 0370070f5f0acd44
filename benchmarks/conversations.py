"""Conversations with questions about them, and the turns that answer these: from the talks beside this file
(talks/*.toml), and from public sets that the reader downloads.

LoCoMo: Maharana et al., ACL 2024; https://github.com/snap-research/locomo, CC BY-NC 4.0; one JSON file for each
conversation.
FriendsQA: Yang and Choi, SIGDIAL 2019; https://github.com/emorynlp/FriendsQA, Apache-2.0; its folder `dat`.
MemoryBank: Zhong et al., AAAI 2024; https://github.com/zhongwanjun/MemoryBank-SiliconFriend, MIT; its folder
`eval_data/en`. It has questions but no evidence; memorybank.json beside this file adds it for 93 questions.
"""

from __future__ import annotations

import json
import random
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from rag import Remembered

TALKS = Path(__file__).with_name("talks")
CATEGORIES = {1: "several hops", 2: "time", 3: "open", 4: "one hop"}
SCENES = 24
"""Scenes of FriendsQA that form one memory, three days apart: about 500 turns."""
ASKED = 45
"""Questions taken from each such memory, out of about 230."""
MEMORIES = 8
PEOPLE = 5
"""People of MemoryBank who share one memory, as at one microphone; each has ten days of talk with the assistant."""


@dataclass(frozen=True)
class Question:
    text: str
    evidence: tuple[str, ...]
    category: int = 0
    asker: str | None = None
    one_is_enough: bool = False
    """Whether the evidence names the same answer in several places, so that one is enough."""


@dataclass(frozen=True)
class Conversation:
    name: str
    turns: list[Remembered]
    questions: list[Question]
    now: datetime
    """When the questions are asked."""
    budget: int = 2400
    """The most characters that recall may return."""


def _read(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


def locomo(folder: Path) -> list[Conversation]:
    files = sorted(folder.glob("*.json"))
    if not files:
        raise SystemExit(f"No conversations (*.json) in {folder}.")
    return [_of_locomo(file) for file in files]


def _of_locomo(file: Path) -> Conversation:
    held: dict[str, Any] = _read(file)
    sessions = sorted(int(key.split("_")[1]) for key in held if re.fullmatch(r"session_\d+", key))
    turns = []
    for number in sessions:
        start = datetime.strptime(held[f"session_{number}_date_time"], "%I:%M %p on %d %B, %Y").astimezone()
        for index, turn in enumerate(held[f"session_{number}"]):
            at = start + timedelta(seconds=20 * index)
            turns.append(Remembered(turn["dia_id"], turn["speaker"], turn["text"], at, f"session {number}"))
    questions = [
        Question(entry["question"], tuple(entry["evidence"]), entry["category"])
        for entry in held["qa"]
        if entry["category"] in CATEGORIES and entry["evidence"]
    ]
    return Conversation(file.stem, turns, questions, _later(turns))


def _later(turns: list[Remembered]) -> datetime:
    return turns[-1].at + timedelta(days=5)


def friends(folder: Path) -> Iterator[Conversation]:
    """Put several scenes of a series into one memory. A question's evidence is each place that an annotator marked."""
    held = [scene for part in ("dev", "tst") for scene in _read(folder / f"friendsqa_{part}.json")["data"]]
    scenes = [(scene["title"], part) for scene in held for part in scene["paragraphs"]]
    scenes.sort(key=lambda scene: str(scene[0]))
    for number in range(MEMORIES):
        group = scenes[SCENES * number : SCENES * (number + 1)]
        turns, questions = list[Remembered](), list[Question]()
        for index, (title, scene) in enumerate(group):
            start = datetime(2022, 1, 1, 18).astimezone() + timedelta(days=3 * index)
            said = {turn["uid"]: turn for turn in scene["utterances:"] if turn["utterance"].strip()}
            for place, (uid, turn) in enumerate(said.items()):
                speaker = " and ".join(name.split()[0] for name in turn["speakers"] if name.strip()) or "Somebody"
                at = start + timedelta(seconds=20 * place)
                turns.append(Remembered(f"{index}.{uid}", speaker, _joined(turn["utterance"]), at, str(title)))
            for asked in scene["qas"]:
                places = {answer["utterance_id"] for answer in asked["answers"]} & said.keys()
                evidence = tuple(f"{index}.{uid}" for uid in sorted(places))
                if evidence:
                    questions.append(Question(asked["question"], evidence, one_is_enough=True))
        random.Random(SCENES * number).shuffle(questions)
        yield Conversation(f"friends {number}", turns, questions[:ASKED], _later(turns), budget=1200)


def _joined(text: str) -> str:
    """Join words and marks that the set separates: "I do n't know ." becomes ordinary text."""
    text = re.sub(r"\s+([.,!?;:%)])", r"\1", text.strip())
    text = re.sub(r"\s+(n't|'s|'m|'re|'ve|'ll|'d)\b", r"\1", text)
    return re.sub(r"\b([Gg]on|[Ww]an|[Gg]ot) (na|ta)\b", r"\1\2", text.replace("`` ", '"').replace(" ''", '"'))


def memory_bank(folder: Path) -> Iterator[Conversation]:
    asked: dict[str, list[str]] = {}
    for line in (folder / "probing_questions_en.jsonl").read_text(encoding="utf-8").splitlines():
        asked.update((name.strip(), questions) for name, questions in json.loads(line).items())
    answered: dict[str, dict[str, list[str]]] = _read(Path(__file__).with_name("memorybank.json"))
    people = {person["name"].strip(): person for person in _read(folder / "memory_bank_en.json").values()}
    known = [name for name in people if name in answered]
    for number in range(0, len(known), PEOPLE):
        names = known[number : number + PEOPLE]
        turns = [turn for hour, name in enumerate(names, 14) for turn in _days(name, people[name]["history"], hour)]
        questions = [
            Question(asked[name][int(index)].strip('"'), tuple(f"{name} {place}" for place in places), asker=name)
            for name in names
            for index, places in answered[name].items()
        ]
        turns.sort(key=lambda turn: turn.at)
        yield Conversation(f"bank {number // PEOPLE}", turns, questions, _later(turns))


def _days(name: str, history: dict[str, list[dict[str, str]]], hour: int) -> Iterator[Remembered]:
    for day, exchanges in history.items():
        start = datetime.fromisoformat(day).replace(hour=hour).astimezone()
        for index, exchange in enumerate(exchanges):
            for speaker, what, second in ((name, "query", 0), ("Parley", "response", 20)):
                if exchange[what].strip():
                    at = start + timedelta(seconds=40 * index + second)
                    yield Remembered(f"{name} {day[5:]}.{index}.{what[0]}", speaker, exchange[what], at, name + day)


def talks(language: str) -> Conversation:
    """Read the talks in a language, by its two-letter code.

    Raises:
        ValueError: a question's evidence is in no turn, or in more than one.
    """
    held = tomllib.loads((TALKS / f"{language}.toml").read_text(encoding="utf-8"))
    turns = [
        Remembered(f"{number}.{place}", speaker, text, _at(talk["at"], place), f"talk {number}")
        for number, talk in enumerate(held["talks"])
        for place, line in enumerate(talk["turns"])
        for speaker, text in [line.split(": ", 1)]
    ]
    questions = [
        Question(
            question["ask"],
            tuple(dict.fromkeys(_holding(words, turns) for words in question["found"])),
            asker=question.get("asker", held["owner"]),
        )
        for question in held["questions"]
    ]
    return Conversation(held["owner"], turns, questions, held["now"].astimezone())


def _at(start: datetime, place: int) -> datetime:
    return (start + timedelta(seconds=15 * place)).astimezone()


def _holding(words: str, turns: list[Remembered]) -> str:
    holding = [turn.id for turn in turns if words in turn.text]
    if len(holding) != 1:
        raise ValueError(f"{len(holding)} turns hold “{words}”; name a part of one.")
    return holding[0]
