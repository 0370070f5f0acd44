"""Stores uploaded recordings: formats that csm-prepare reads as they are, any other sound as FLAC."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import soundfile

from config.hardware import in_words
from pipeline.audio import MOUTH_RATE
from pipeline.audio.decode import Undecodable, pieces

__all__ = ["RECORDING_BYTES", "NoRoom", "Unfit", "check_disk", "check_voice", "receive"]

RECORDING_BYTES = 700_000_000
"""An hour of stereo at 44.1 kHz."""
VOICE_BYTES = 10_000_000_000
"""All recordings of a voice: 16 hours of such stereo, many times what teaching a voice needs."""
ROOM_BYTES = 2_000_000_000
"""Kept free on the disk: clips, codes and checkpoints need space, and so does everything else on this computer."""
TEXT_BYTES = 20_000
LONGEST_S = 6 * 3600.0
AS_IT_IS = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".aiff", ".aif")


class Unfit(Exception):
    """The file is not a usable recording; the message is one sentence."""


class NoRoom(Exception):
    """The disk, or the voice, has no room for more; the message is one sentence."""


def check_disk(free: int, coming: int) -> None:
    """Raises NoRoom if too little would stay free. Both arguments are in bytes."""
    if free - coming < ROOM_BYTES:
        raise NoRoom(
            f"The disk has {in_words(free)} free, and {in_words(ROOM_BYTES)} must stay free for teaching: "
            "free some space, or send less."
        )


def check_voice(folder: Path, coming: int) -> None:
    """Raises NoRoom if the recordings in the folder would become too large."""
    if sum(path.stat().st_size for path in folder.iterdir()) + coming > VOICE_BYTES:
        raise NoRoom(
            f"The recordings of a voice may take {in_words(VOICE_BYTES)}, and an hour of speech is enough: "
            "remove some first."
        )


def receive(folder: Path, name: str, file: IO[bytes], size: int) -> str:
    """Store a recording, or the text of one with the same name, completely or not at all; returns its name here.

    Raises Unfit, OSError.
    """
    given = Path(name.replace("\\", "/")).name
    suffix = Path(given).suffix.lower()
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", Path(given).stem).strip("-_")[:80] or "recording"
    if not size:
        raise Unfit(f"{given} is empty.")
    if suffix == ".txt":
        return _words(folder, stem, given, file)
    as_it_is = suffix in AS_IT_IS and _is_sound(file)
    kept = suffix if as_it_is else ".flac"
    partial = folder / f".{stem}.partial{kept}"
    try:
        if as_it_is:
            with partial.open("wb") as out:
                shutil.copyfileobj(file, out, 1 << 20)
        else:
            _decoded(file, partial, given)
        path = next(path for path in _free(folder, stem, kept) if not path.exists())
        partial.rename(path)
    finally:
        partial.unlink(missing_ok=True)
    return path.name


def _is_sound(file: IO[bytes]) -> bool:
    try:
        soundfile.info(file)
    except soundfile.SoundFileError:
        return False
    finally:
        file.seek(0)
    return True


def _decoded(file: IO[bytes], path: Path, given: str) -> None:
    try:
        with soundfile.SoundFile(path, "w", MOUTH_RATE, 1, "PCM_16", format="FLAC") as out:
            for piece in pieces(file, MOUTH_RATE, LONGEST_S):
                out.write(piece)
    except Undecodable as error:
        raise Unfit(f"{given} {error}") from error
    except soundfile.LibsndfileError as error:
        raise OSError(28, str(error)) from error  # writing fails for lack of space, and libsndfile does not say why


def _words(folder: Path, stem: str, given: str, file: IO[bytes]) -> str:
    content = file.read(TEXT_BYTES + 1)
    try:
        text = content.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        raise Unfit(f"{given} is not text in UTF-8: save it with that encoding.") from None
    if len(content) > TEXT_BYTES or not text:
        raise Unfit(f"{given} should contain what is said in the recording of the same name, and nothing else.")
    (folder / f"{stem}.txt").write_text(text, encoding="utf-8")
    return f"{stem}.txt"


def _free(folder: Path, stem: str, suffix: str) -> Iterator[Path]:
    yield folder / f"{stem}{suffix}"
    yield from (folder / f"{stem}-{number}{suffix}" for number in range(2, 100_000))
