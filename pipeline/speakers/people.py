"""The people whose voices are known, and which of them a voice is. One file in the data folder.

What a voice is like is kept as one direction a person, never as sound. That is biometric data all the same: it is made
only of people who asked for it, or of whom the owner says so, and it can be deleted like words.
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
"""Anybody whose voice is not known."""
RESERVED = frozenset({USER, GUEST, "assistant", "you", "parley", "system"})
"""Names that nobody can have, as the memory means somebody else by them."""

ENOUGH_S = 6.0
"""Seconds of speech from which a voice is learnt."""
LONG_S = 2.0
"""Seconds of speech that tell whose they are by themselves. Of less the last speaker of the talk is supposed."""
KNOWN = 0.78
"""Cosine from which a voice is taken for a person's (benchmarks/speakers.py)."""
CLEARER = 0.02
"""By how much it must be more like theirs than like the next one's."""
LIKELY = 0.68
"""Cosine from which a short sound is taken for the last speaker's."""
SAME = 0.75
"""Cosine from which two things said by strangers in one talk are by the same one."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What was heard of a voice, and for how long."""

    direction: Direction
    seconds: float
    """Of speech."""


@dataclass(frozen=True, slots=True)
class Person:
    name: str
    speaker: str
    """How the memory knows them: the owner of the memory as USER, others by their name."""
    direction: Direction
    seconds: float
    """Of speech that it was learnt from."""
    since: date


class People:
    """Those of one data folder."""

    def __init__(self, data: Path) -> None:
        self._path = data / FILE_NAME
        self._writing = threading.Lock()
        self._known = _read(self._path)

    def all(self) -> tuple[Person, ...]:
        """In the order in which they came; whoever came first is the owner."""
        return self._known

    def learn(self, name: str, heard: Sequence[Heard], today: date) -> Person:
        """A voice, or more of one that is known by this name. Raises OSError.

        While nobody is known to be the owner, it is the owner's.
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
        """What a voice is like; False where there is nobody of this name. What they said stays. Raises OSError."""
        with self._writing:
            kept = tuple(each for each in self._known if not _same(each.name, name))
            gone = len(kept) < len(self._known)
            if gone:
                self._write(kept)
            return gone

    def forget_all(self) -> None:
        """Also of a file that could not be read. Raises OSError."""
        with self._writing:
            self._write(())

    def _write(self, people: tuple[Person, ...]) -> None:
        self._known = people  # first: what is to be forgotten is not known any more, whatever the disk says
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
    """Whose voice it is; None is a guest's.

    Args:
        last: whose voice was heard before in this talk.
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
    """The direction of all of it together."""
    return unit(np.sum([each.seconds * each.direction for each in heard], axis=0))


def _plain(value: object) -> object:
    """What JSON has no form of its own for."""
    return [round(float(x), 6) for x in value] if isinstance(value, np.ndarray) else str(value)


def _same(name: str, other: str) -> bool:
    return name.casefold() == other.casefold()


def _read(path: Path) -> tuple[Person, ...]:
    """A file that cannot be read knows nobody."""
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
