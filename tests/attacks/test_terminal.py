"""Escape sequences in what others say (a server, a model, a file) never reach the terminal."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from config.text import printable
from pipeline.commands import talk
from pipeline.engine import EngineError
from web import logs

EVIL = "\x1b]0;owned\x07\x1b[2Kno\x9b31m\r"


def test_what_is_printable_stays() -> None:
    text = "É \U0001f600\tone\ntwo"
    assert printable(text) == text
    assert printable(EVIL).isprintable()


def test_a_warning_of_the_log() -> None:
    record = logging.LogRecord("pipeline", logging.WARNING, "", 0, "the server said %s", (EVIL,), None)
    assert logs.LineFormatter().format(record).isprintable()


def test_an_error_of_a_talk(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    async def fail(*_: object) -> int:
        raise EngineError(EVIL)

    monkeypatch.setattr(talk, "talk", fail)
    assert talk.main(["--data", str(tmp_path)]) == talk.NOTHING_SAID
    assert capsys.readouterr().err.rstrip("\n").isprintable()
