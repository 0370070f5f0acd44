"""What to download, how much of it is here, and the progress of a download."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import constants
from huggingface_hub.file_download import repo_folder_name

from pipeline.models.parcel import Parcel

_COMMIT = re.compile(r"[0-9a-f]{40}|main")
_CHECKSUM = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_PART = re.compile(r"(?!\.{1,2}$)[^/\\:\x00-\x1f\x7f]{1,255}")


@dataclass(frozen=True, slots=True)
class File:
    """A file on the hub. Raises ValueError for values no hub gives, and for paths that lead out of the cache."""

    repository: str
    commit: str
    path: str
    size: int
    checksum: str
    """sha256 in hex if the hub stores it as a large file, otherwise git's sha1. It is the file's name in the cache."""

    def __post_init__(self) -> None:
        sound = all(_PART.fullmatch(part) for part in self.path.split("/"))
        if not (sound and _COMMIT.fullmatch(self.commit) and _CHECKSUM.fullmatch(self.checksum) and self.size >= 0):
            raise ValueError(f"{self.path!r}, {self.commit!r}, {self.checksum!r}")

    @property
    def folder(self) -> Path:
        """The repository's folder in the cache."""
        return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=self.repository, repo_type="model")

    @property
    def blob(self) -> Path:
        return self.folder / "blobs" / self.checksum

    @property
    def part(self) -> Path:
        """The file that holds what has arrived so far."""
        return self.blob.with_name(f"{self.checksum}.parley-part")

    @property
    def link(self) -> Path:
        return self.folder / "snapshots" / self.commit / self.path

    @property
    def linked(self) -> bool:
        return self.link.exists()

    @property
    def have(self) -> int:
        """Bytes of it that are here."""
        if self.linked or self.blob.exists():
            return self.size
        return min(self.size, self.part.stat().st_size) if self.part.exists() else 0

    @property
    def room(self) -> int:
        """Bytes of disk that it still needs."""
        return self.size - self.have


@dataclass(frozen=True, slots=True)
class FetchPlan:
    files: tuple[File | Parcel, ...]

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)

    @property
    def have(self) -> int:
        return sum(file.have for file in self.files)


@dataclass(frozen=True, slots=True)
class Tick:
    """The progress of a download."""

    file: int
    """Index of the current file in the plan."""
    file_have: int
    have: int
    """Bytes of all files that are here."""
    speed: float
    """Bytes a second, over the last seconds."""
    left_s: float | None
    checking: bool = False
    """Whether the file has arrived and its checksum is being computed."""
    waiting: bool = False
    """Whether the connection broke off and is retried after a while."""


class TransferRate:
    """Bytes a second over the last WINDOW seconds, by the caller's clock."""

    WINDOW = 5.0
    SLOWEST = 10_000.0
    """At a lower speed, something such as a package that arrives whole is awaited, and the time left is unknown."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def speed(self, now: float, count: int) -> float:
        """Return bytes a second. `count`: bytes downloaded since the beginning."""
        self._seen.append((now, count))
        while len(self._seen) > 2 and self._seen[0][0] < now - self.WINDOW:
            self._seen.popleft()
        began, had = self._seen[0]
        return (count - had) / (now - began) if now > began else 0.0


class Watch:
    """Counts what arrives and reports it."""

    def __init__(self, plan: FetchPlan, report: Callable[[Tick], None], clock: Callable[[], float]) -> None:
        self._plan = plan
        self._report = report
        self._clock = clock
        self._rate = TransferRate()
        self._number = 0
        self._fetched = 0
        self._before = 0
        """Size of the files before the current one."""
        self._later = plan.have
        """Bytes already here of the files after the current one."""
        self.file_have = 0

    def begin(self, number: int) -> None:
        self._number = number
        files = self._plan.files
        self._before = sum(file.size for file in files[:number])
        self._later = sum(file.have for file in files[number + 1 :])
        self.file_have = files[number].have

    def add(self, count: int) -> None:
        self.file_have += count
        self._fetched += count
        self.tell()

    def reach(self, count: int) -> None:
        """Report that this many bytes of the current file are here now."""
        self._fetched += max(0, count - self.file_have)
        self.file_have = count
        self.tell()

    def tell(self, *, checking: bool = False, waiting: bool = False) -> None:
        have = self._before + self.file_have + self._later
        speed = self._rate.speed(self._clock(), self._fetched)
        left = (self._plan.size - have) / speed if speed >= TransferRate.SLOWEST else None
        self._report(Tick(self._number, self.file_have, have, speed, left, checking, waiting))
