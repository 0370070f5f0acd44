"""Models from the Hugging Face hub: what is to be fetched and how much, then fetched so that a kill costs nothing.

huggingface_hub finds, authorises, transfers and links; HF_ENDPOINT, HF_HUB_OFFLINE and HF_HOME are therefore honoured.
What it leaves out is kept here: a transfer goes into a file whose name is its checksum and goes on there after a kill
(the hub's own begins anew), and nothing is linked into the cache before its checksum is right.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from filelock import FileLock, Timeout
from huggingface_hub import HfApi, constants, get_hf_file_metadata, get_token, hf_hub_download, hf_hub_url
from huggingface_hub.errors import (
    LocalEntryNotFoundError,
)
from huggingface_hub.file_download import http_get, repo_folder_name
from huggingface_hub.utils import (  # type: ignore[attr-defined]  # public by its documentation
    build_hf_headers,
    filter_repo_objects,
)
from tqdm import tqdm

from config.cache import free_disk
from config.fetches import Fetch
from pipeline.hub_errors import DownloadError, TokenNeeded, explained

SPARE = 200_000_000
"""Bytes of disk that a download leaves free."""

_BLOCK = 1 << 20

__all__ = ["DownloadError", "Downloader", "Plan", "Tick", "TokenNeeded", "choose", "keep_token"]


@dataclass(frozen=True, slots=True)
class File:
    repository: str
    commit: str
    path: str
    size: int
    checksum: str
    """sha256 in hex where the hub keeps it as a large file, else git's sha1 of it. Names it in the cache."""

    @property
    def folder(self) -> Path:
        """The repository's, in the cache."""
        return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=self.repository, repo_type="model")

    @property
    def blob(self) -> Path:
        return self.folder / "blobs" / self.checksum

    @property
    def part(self) -> Path:
        """What has come of it so far."""
        return self.blob.with_name(f"{self.checksum}.parley-part")

    @property
    def linked(self) -> bool:
        return (self.folder / "snapshots" / self.commit / self.path).exists()

    @property
    def have(self) -> int:
        """Bytes of it that are here."""
        if self.linked or self.blob.exists():
            return self.size
        return min(self.size, self.part.stat().st_size) if self.part.exists() else 0


@dataclass(frozen=True, slots=True)
class Plan:
    files: tuple[File, ...]

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)

    @property
    def have(self) -> int:
        return sum(file.have for file in self.files)


@dataclass(frozen=True, slots=True)
class Tick:
    """How far it has come."""

    file: int
    """Which of the plan's files."""
    file_have: int
    have: int
    """Bytes of all files."""
    speed: float
    """Bytes a second, of the last seconds."""
    left_s: float | None
    checking: bool = False
    """The file has come, and its checksum is being computed."""


class Pace:
    """Bytes a second over the last WINDOW seconds, by the caller's clock."""

    WINDOW = 5.0

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def speed(self, now: float, count: int) -> float:
        """`count`: bytes fetched since the beginning."""
        self._seen.append((now, count))
        while len(self._seen) > 2 and self._seen[0][0] < now - self.WINDOW:
            self._seen.popleft()
        began, had = self._seen[0]
        return (count - had) / (now - began) if now > began else 0.0


class Downloader:
    """Synchronous: run it in a process or thread of its own.

    Args:
        token: to show at the hub; None takes the one that is kept, or HF_TOKEN.
        clock: seconds, for speed and time left.
    """

    def __init__(self, token: str | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._token: str | bool = token or get_token() or False
        self._clock = clock
        self._api = HfApi(token=self._token)

    def plan(self, fetches: Iterable[Fetch]) -> Plan:
        """Ask for names, sizes and checksums, and whether they may be fetched, before anything is.

        Raises:
            DownloadError: no such model, no way to the hub, no licence, a wrong token, too little disk.
        """
        files = tuple(file for fetch in dict.fromkeys(fetches) for file in self._listed(fetch))
        plan = Plan(files)
        lacking = plan.size - plan.have
        free = free_disk(Path(constants.HF_HUB_CACHE))
        if lacking and free < lacking + SPARE:
            raise DownloadError(
                f"{_size(lacking)} are to be fetched and {constants.HF_HUB_CACHE} has {_size(free)} free: free some "
                "space, or name another folder in HF_HOME."
            )
        return plan

    def fetch(self, plan: Plan, report: Callable[[Tick], None]) -> None:
        """Fetch what is lacking, check it, and link it into the cache.

        Raises:
            DownloadError: the connection is lost, the disk is full, or a file arrived damaged; start again to go on.
        """
        progress = _Progress(plan, report, self._clock)
        for number, file in enumerate(plan.files):
            progress.begin(number)
            if not file.linked:
                with _alone(file):
                    self._fetch_file(file, progress)
            progress.tell()
        for file in plan.files:  # the last word: what the cache calls "main" is whole
            _write_ref(file)

    def _listed(self, fetch: Fetch) -> list[File]:
        name = fetch.repository
        with explained(name, self._token):
            if constants.HF_HUB_OFFLINE:
                return _listed_here(fetch)
            info = self._api.model_info(name, files_metadata=True)
            listed = {each.rfilename: each for each in info.siblings or ()}
            chosen = choose(fetch, listed)
            if not chosen:
                raise DownloadError(
                    f"{name} has none of the files that this engine reads ({', '.join(fetch.weights)}): "
                    "it is a model of another kind, so choose another."
                )
            files: list[File] = []
            for path in chosen:
                about = listed[path]
                checksum, size = about.lfs.sha256 if about.lfs else about.blob_id, about.size
                if not checksum or size is None or (not files and not constants.HF_HUB_OFFLINE):
                    # For the first file always: a repository tells its list to anyone, its files only to some.
                    meta = get_hf_file_metadata(hf_hub_url(name, path, revision=info.sha), token=self._token)
                    checksum, size = checksum or meta.etag, size if size is not None else meta.size
                if not checksum or size is None:
                    raise DownloadError(f"The hub does not tell the size of {path} in {name}: use another mirror.")
                files.append(File(name, info.sha or "main", path, size, checksum))
            return files

    def _fetch_file(self, file: File, progress: _Progress) -> None:
        with explained(file.repository, self._token):
            if not file.blob.exists():
                file.part.parent.mkdir(parents=True, exist_ok=True)
                self._transfer(file, progress)
                progress.tell(checking=True)
                if not right(file):
                    file.part.unlink()
                    raise DownloadError(
                        f"{file.path} of {file.repository} arrived damaged (its checksum is not the hub's): "
                        "start again to fetch it anew."
                    )
                file.part.replace(file.blob)
            hf_hub_download(file.repository, file.path, revision=file.commit, token=self._token)

    def _transfer(self, file: File, progress: _Progress) -> None:
        url = hf_hub_url(file.repository, file.path, revision=file.commit)
        meta = get_hf_file_metadata(url, token=self._token)
        headers = build_hf_headers(token=self._token)
        headers["Accept-Encoding"] = "identity"
        if urlsplit(meta.location).netloc != urlsplit(url).netloc:
            headers.pop("authorization", None)  # the storage behind the hub has its own signature in the address
        with file.part.open("ab") as out:
            if out.tell() > file.size:
                out.truncate(0)
            progress.file_have = out.tell()
            http_get(
                meta.location,
                out,
                resume_size=out.tell(),
                headers=headers,
                expected_size=file.size,
                displayed_filename=file.path,
                tqdm_class=progress.bar(),
            )


def choose(fetch: Fetch, listed: Iterable[str]) -> list[str]:
    """Of a repository's files, those that the engine reads; none where its weights are not among them."""
    names = sorted(listed)
    for pattern in fetch.weights:
        weights = set(filter_repo_objects(names, allow_patterns=[pattern]))
        if weights:
            wanted = (
                weights.union(filter_repo_objects(names, allow_patterns=list(fetch.files))) if fetch.files else weights
            )
            return [name for name in names if name in wanted]
    return []


def right(file: File) -> bool:
    """Whether what has come has the size and the checksum that the hub states."""
    if file.part.stat().st_size != file.size:
        return False
    if len(file.checksum) == 64:
        digest = hashlib.sha256()
    elif len(file.checksum) == 40:
        digest = hashlib.sha1(f"blob {file.size}\0".encode(), usedforsecurity=False)
    else:
        return True  # a mirror's own name for it
    with file.part.open("rb") as content:
        while block := content.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest() == file.checksum


def keep_token(token: str) -> Path:
    """Where huggingface_hub looks for it, so that every engine finds it; readable by its owner only."""
    path = Path(constants.HF_TOKEN_PATH)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)  # an old one's mode would stay
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(token)
    return path


class _Progress:
    def __init__(self, plan: Plan, report: Callable[[Tick], None], clock: Callable[[], float]) -> None:
        self._plan = plan
        self._report = report
        self._clock = clock
        self._pace = Pace()
        self._number = 0
        self._fetched = 0
        self._before = 0
        """Bytes of the files before this one."""
        self._later = plan.have
        """Bytes that are here of this one and those after it, as it was at the start."""
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

    def tell(self, *, checking: bool = False) -> None:
        have = self._before + self.file_have + self._later
        speed = self._pace.speed(self._clock(), self._fetched)
        left = (self._plan.size - have) / speed if speed > 0 else None
        self._report(Tick(self._number, self.file_have, have, speed, left, checking))

    def bar(self) -> type[tqdm]:
        """What http_get believes to be a progress bar."""
        progress = self

        class Bar(tqdm):  # type: ignore[misc]  # tqdm has no types
            def __init__(self, *arguments: Any, **options: Any) -> None:
                options.pop("name", None)
                super().__init__(*arguments, **{**options, "disable": True})

            def update(self, n: float | None = 1) -> None:
                progress.add(int(n or 0))

        return Bar


def _listed_here(fetch: Fetch) -> list[File]:
    """Offline: the files of the snapshot that is here. Raises LocalEntryNotFoundError where there is none."""
    folder = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=fetch.repository, repo_type="model")
    ref = folder / "refs" / "main"
    commit = ref.read_text().strip() if ref.is_file() else ""
    snapshot = folder / "snapshots" / commit
    names = [path.relative_to(snapshot).as_posix() for path in snapshot.rglob("*") if path.is_file()] if commit else []
    chosen = choose(fetch, names)
    if not chosen:
        raise LocalEntryNotFoundError(f"{fetch.repository} is not here")
    return [File(fetch.repository, commit, name, (snapshot / name).stat().st_size, name) for name in chosen]


class _alone:
    """No two downloads into one file. Raises DownloadError where another is at it; a killed one is not."""

    def __init__(self, file: File) -> None:
        file.blob.parent.mkdir(parents=True, exist_ok=True)
        self._file = file
        self._lock = FileLock(f"{file.part}.lock")

    def __enter__(self) -> None:
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise DownloadError(f"{self._file.repository} is being fetched by another Parley already.") from error

    def __exit__(self, *_: object) -> None:
        self._lock.release()
        Path(self._lock.lock_file).unlink(missing_ok=True)


def _write_ref(file: File) -> None:
    ref = file.folder / "refs" / "main"
    if not ref.is_file() or ref.read_text().strip() != file.commit:
        ref.parent.mkdir(parents=True, exist_ok=True)
        ref.write_text(file.commit)


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
