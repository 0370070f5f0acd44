"""Write files completely or not at all, and explain a failure in one sentence."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from .errors import CsmError, first_line

__all__ = ["CannotWrite", "make_folder", "reason", "replacing", "writing"]

FULL = 16 << 20
"""Bytes: a disk with less free space counts as full. C libraries report that writing failed, but not why."""
WHAT_TO_DO = {
    (errno.EACCES, errno.EPERM): "you are not allowed to write there. Choose another place, or change its permissions.",
    (errno.EROFS,): "that disk is read-only. Choose a place on another one.",
    (errno.ENOENT,): "it does not exist. Check its name.",
    (errno.ENOSPC, errno.EDQUOT): "the disk is full. Free some space, or choose a place on another disk.",
    (errno.EEXIST, errno.ENOTDIR): "there is a file where a folder should be. Choose another place, or move that file.",
    (errno.EISDIR,): "there is a folder where a file should be. Choose another place, or move that folder.",
    (errno.ENAMETOOLONG,): "the name is too long. Choose a shorter one.",
}


class CannotWrite(CsmError, OSError):
    """A file could not be written. What was there before is unchanged."""


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """Turn any error while writing to `place` into one sentence. Raises CannotWrite.

    Use it only around the writing itself; compute the contents before.
    """
    try:
        yield
    except CannotWrite:
        raise
    except (OSError, RuntimeError, SafetensorError) as error:  # torch and libsndfile raise RuntimeErrors
        raise CannotWrite(f"{place} cannot be written: {reason(error, place)}") from error


def make_folder(folder: Path) -> None:
    """Make the folder if necessary, and check that it can be written before there is anything to lose. Raises
    CannotWrite."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Make folders, and yield a temporary path; that file becomes `path` if the block ends without an error. Another
    process may do the same at the same time.

    Raises CannotWrite.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield partial
            partial.replace(path)
    finally:
        with suppress(OSError):
            partial.unlink()


def reason(error: Exception, place: Path) -> str:
    """Why writing to `place` failed, and what to do."""
    number = _number(error, place)
    known = next((told for numbers, told in WHAT_TO_DO.items() if number in numbers), None)
    said = os.strerror(number) if number else first_line(error)
    return known or f"{said}. Choose another place."


def _number(error: Exception, place: Path) -> int | None:
    """The system's error number, if it can be found out."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    if told := re.search(r"os error (\d+)", str(error)):  # Rust's wording
        return int(told[1])
    there = next((folder for folder in (place, *place.absolute().parents) if folder.is_dir()), Path())
    if shutil.disk_usage(there).free < FULL:
        return errno.ENOSPC
    return None if os.access(there, os.W_OK) else errno.EACCES
