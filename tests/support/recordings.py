"""The recordings of real people that the tests play; tests/audio/README.md says where they are from."""

from __future__ import annotations

from pathlib import Path

HEARD_BY_THE_DOCTOR = Path(__file__).resolve().parents[2] / "pipeline" / "doctor" / "weather_question.wav"
AUDIO = Path(__file__).resolve().parent.parent / "audio"


def recording(name: str) -> Path:
    """One of them; the question that the doctor asks lies in the product."""
    return HEARD_BY_THE_DOCTOR if name == HEARD_BY_THE_DOCTOR.name else AUDIO / name
