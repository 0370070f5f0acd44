"""What "auto" is for the voice, from what was measured on this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from config import precision
from config.engines import CATALOGUE
from config.precision import chosen, keep
from config.settings import Settings, VoiceSettings

MODEL = "sesame/csm-1b"


@pytest.mark.parametrize(
    ("factors", "best"),
    [
        ({"bf16": 2.0, "int8": 0.8, "int4": 0.5}, "int8"),
        ({"bf16": 0.7, "int8": 0.6, "int4": 0.5}, "bf16"),
        ({"bf16": 6.0, "int8": 1.2, "int4": 0.74}, "int4"),
        ({"int4": 1.8}, None),
        ({}, None),
    ],
)
def test_the_finest_that_keeps_pace(tmp_path: Path, factors: dict[str, float], best: str | None) -> None:
    keep(tmp_path / "data", MODEL, factors)
    assert chosen(tmp_path / "data", MODEL) == best


def test_nothing_is_known_of_another_model_or_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen(tmp_path, MODEL) is None
    keep(tmp_path, MODEL, {"int8": 0.5})
    assert chosen(tmp_path, "someone/other") is None
    monkeypatch.setattr(precision, "machine", lambda: "another")
    assert chosen(tmp_path, MODEL) is None


@pytest.mark.parametrize("damage", [b"", b"\xff", b"[]", b"{}", b'{"machine": 1', b"null"])
def test_a_damaged_file_is_as_none(tmp_path: Path, damage: bytes) -> None:
    keep(tmp_path, MODEL, {"int8": 0.5})
    (tmp_path / "voice-speed.json").write_bytes(damage)
    assert chosen(tmp_path, MODEL) is None


def test_the_voice_is_made_with_it(tmp_path: Path) -> None:
    settings, spec = Settings(voice=VoiceSettings(engine="csm")), CATALOGUE["voice", "csm"]
    before = spec.arguments(settings, tmp_path)
    keep(tmp_path, MODEL, {"int8": 0.5})
    after = spec.arguments(settings, tmp_path)
    assert (before["measured"], after["measured"]) == (None, "int8")
    assert before != after, "so that it is loaded anew"
