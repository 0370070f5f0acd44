"""What somebody may choose as a language model and is none: each is made at a path, and gives what is entered."""

from __future__ import annotations

from pathlib import Path

from tests.csm.tiny import write_checkpoint
from tests.support.tiny_models import write_llama, write_whisper


def nothing(folder: Path) -> str:
    return str(folder)


def a_file(folder: Path) -> str:
    folder.write_text("{}")
    return str(folder)


def empty(folder: Path) -> str:
    folder.mkdir()
    return str(folder)


def whisper(folder: Path) -> str:
    write_whisper(folder)
    return f"{folder}-transformers"


def csm(folder: Path) -> str:
    return str(write_checkpoint(folder, "transformers"))


def silent(folder: Path) -> str:
    return str(write_llama(folder, template=None))
