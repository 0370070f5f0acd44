"""The recordings of real people that the tests play; tests/audio/README.md says where they are from."""

from __future__ import annotations

from pathlib import Path

AUDIO = Path(__file__).resolve().parent.parent / "audio"


def recording(name: str) -> Path:
    return AUDIO / name
