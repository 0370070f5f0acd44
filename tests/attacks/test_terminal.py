"""Escape sequences in what others say (a server, a model, a file) never reach the terminal."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.table import Table
from rich.text import Text

from config import SettingsError
from config.text import printable
from csm.commands.parser import shown
from pipeline.commands import doctor, models, talk
from pipeline.commands.terminal import Terminal
from pipeline.engine import EngineError
from web import logs

EVIL = "\x1b]0;owned\x07\x1b[2Kno\x9b31m\r"


def test_what_is_printable_stays() -> None:
    text = "É \U0001f600\tone\ntwo"
    assert printable(text) == text
    assert printable(EVIL).isprintable()


def test_a_table_a_status_and_a_progress_of_foreign_words(capsys: pytest.CaptureFixture[str]) -> None:
    """Rich's own colours are let through; what is in the words is not."""
    terminal = Terminal(force_terminal=True, width=200, color_system="standard")
    table = Table(EVIL)
    table.add_row(Text(EVIL, "bold"))
    terminal.print(table, EVIL, style="red")
    told = capsys.readouterr().out
    assert "\x1b[31m" in told
    plain = re.sub(r"\x1b\[[0-9;]*m", "", told)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", plain)
    assert "\x1b]0;" not in told and "\x1b[2K" not in told


def test_commands_print_on_such_a_terminal_alone() -> None:
    """Whoever imports rich's Console there only names it as a type."""
    for file in Path(talk.__file__).parent.glob("*.py"):
        assert not re.search(r"\bConsole\(", file.read_text()) or file.name == "terminal.py", file


def test_the_provenance_of_a_file_of_someone_elses() -> None:
    assert shown(EVIL).isprintable()
    assert shown("two\nlines") == "two lines"


@pytest.mark.parametrize("command", [doctor.main, models.main], ids=["doctor", "models"])
def test_what_is_wrong_with_the_settings(
    command: Callable[[list[str]], int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    def unreadable(self: object) -> None:
        raise SettingsError(EVIL)

    monkeypatch.setattr("config.store.SettingsStore.load", unreadable)
    assert command(["--data", str(tmp_path)]) == 1
    assert capsys.readouterr().err.strip("\n").isprintable()


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
