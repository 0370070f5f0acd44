"""The people whose voices are known, and whose voice a sound is. One file in the data folder.

A voice is stored as one direction per person, never as sound. This is still biometric data: it is created only for
people who asked for it, or whom the owner names, and it can be deleted like words.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import numpy as np

from pipeline.disk import rewriting
from pipeline.llm import USER
from pipeline.speakers.encoder import SIZE, Direction, unit

FILE_NAME = "people.json"

GUEST = "guest"
"""Anyone whose voice is not known."""
RESERVED = frozenset({USER, GUEST, "assistant", "you", "parley", "system"})
"""Names that nobody can have, because the memory uses them for somebody else."""

ENOUGH_S = 6.0
"""Seconds of speech from which a voice is learnt."""
LONG_S = 2.0
"""Seconds of speech that identify a speaker by themselves. Less is attributed to the conversation's last speaker."""
KNOWN = 0.78
"""Cosine from which a voice counts as a person's (benchmarks/speakers.py)."""
CLEARER = 0.02
"""How much closer it must be to that person than to the next one."""
LIKELY = 0.68
"""Cosine from which a short sound counts as the last speaker's."""
SAME = 0.75
"""Cosine from which two utterances of strangers in one conversation count as by the same person."""


@dataclass(frozen=True, slots=True)
class Heard:
    """The direction of a voice that was heard, and for how long."""

    direction: Direction
    seconds: float
    """Seconds of speech."""


@dataclass(frozen=True, slots=True)
class Person:
    name: str
    speaker: str
    """The name in the memory: USER for the owner of the memory, otherwise the person's name."""
    direction: Direction
    seconds: float
    """Seconds of speech from which the voice was learnt."""
    since: date


class People:
    """The known people of one data folder."""

    def __init__(self, data: Path) -> None:
        self._path = data / FILE_NAME
        self._writing = threading.Lock()
        self._known = _read(self._path)

    def all(self) -> tuple[Person, ...]:
        """Return them in the order in which they were added; the first one is the owner."""
        return self._known

    def learn(self, name: str, heard: Sequence[Heard], today: date) -> Person:
        """Learn a person's voice, or improve it if the name is known. Raises OSError.

        If no owner is known yet, this person becomes the owner.
        """
        with self._writing:
            old = next((each for each in self._known if _same(each.name, name)), None)
            sounds = [*heard, *([Heard(old.direction, old.seconds)] if old else [])]
            owned = any(each.speaker == USER for each in self._known)
            speaker = old.speaker if old else name if owned else USER
            seconds = sum(each.seconds for each in sounds)
            person = Person(name, speaker, joined(sounds), seconds, old.since if old else today)
            self._write((*(each for each in self._known if each is not old), person))
            return person

    def forget(self, name: str) -> bool:
        """Forget a person's voice; return False if the name is unknown. Their words stay. Raises OSError."""
        with self._writing:
            kept = tuple(each for each in self._known if not _same(each.name, name))
            gone = len(kept) < len(self._known)
            if gone:
                self._write(kept)
            return gone

    def forget_all(self) -> None:
        """Forget all voices, even of a file that could not be read. Raises OSError."""
        with self._writing:
            self._write(())

    def _write(self, people: tuple[Person, ...]) -> None:
        self._known = people  # first, so that a voice is forgotten even if the disk fails
        if not people:
            self._path.unlink(missing_ok=True)
            return
        with rewriting(self._path) as file:
            entries = [
                asdict(person)
                | {"direction": [round(float(x), 6) for x in person.direction], "since": str(person.since)}
                for person in people
            ]
            json.dump(entries, file, ensure_ascii=False)


def who(heard: Heard, people: Sequence[Person], last: Person | None) -> Person | None:
    """Return whose voice it is; None means a guest's.

    Args:
        last: the person who was heard before in this conversation.
    """
    cosines = sorted(((float(heard.direction @ each.direction), each.name, each) for each in people), reverse=True)
    if not cosines:
        return None
    (best, _, person), *others = cosines
    if best >= KNOWN and (not others or best - others[0][0] >= CLEARER):
        return person
    if heard.seconds < LONG_S and last is not None and float(heard.direction @ last.direction) >= LIKELY:
        return last
    return None


def joined(heard: Sequence[Heard]) -> Direction:
    """Return the common direction of everything heard, weighted by its length."""
    return unit(np.sum([each.seconds * each.direction for each in heard], axis=0))


def _same(name: str, other: str) -> bool:
    return name.casefold() == other.casefold()


def _read(path: Path) -> tuple[Person, ...]:
    """Read the people; none if the file cannot be read."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return tuple(map(_person, entries))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return ()


def _person(entry: dict[str, object]) -> Person:
    direction = np.array(entry["direction"], np.float32)
    if direction.shape != (SIZE,) or not np.isfinite(direction).all():
        raise ValueError
    return Person(
        str(entry["name"]), str(entry["speaker"]), unit(direction), float(str(entry["seconds"])),
        date.fromisoformat(str(entry["since"])),
    )  # fmt: skip
