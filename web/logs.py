"""Logs: JSON lines in the data folder for programs, short lines on the terminal for people.

A record about a turn carries the turn's id (`extra={"turn": …, "conversation": …}`). What was said is never in a
record unless settings.log.words asks for it: code that logs words passes them as `extra={"words": …}`, and they are
dropped here otherwise.

Libraries log below the warning level without regard to privacy: frames, addresses with the token in them, headers.
None of that is kept, at any level. Nor is the text of an exception, which may quote what it was about.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from datetime import date, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

from config.text import parsed, printable
from pipeline.disk import rewriting

FILE_NAME = "parley.log"
MAX_BYTES = 5_000_000
KEPT = 3
OURS = {"pipeline", "web", "rag", "config", "csm", "main"}
"""Packages whose records we write ourselves."""
EXTRAS = ("conversation", "turn", "revision", "stage", "engine", "words")


class JsonFormatter(logging.Formatter):
    def __init__(self, *, words: bool) -> None:
        super().__init__()
        self.words = words

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created).astimezone().isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name in EXTRAS:
            value = getattr(record, name, None)
            if value is not None and (name != "words" or self.words):
                line[name] = value
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info) if self.words else _wordless(record.exc_info[1])
        return json.dumps(line, ensure_ascii=False, default=str)


def _wordless(error: BaseException | None) -> str:
    """Return the traceback and type of an error and its causes. Of the texts, only system messages are kept."""
    parts: list[str] = []
    seen = set[int]()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        said = f": {error.strerror}" if isinstance(error, OSError) else ""
        parts.append("".join(traceback.format_tb(error.__traceback__)) + f"{type(error).__qualname__}{said}")
        error = error.__cause__ or error.__context__
    return "\n\nwhich came of:\n\n".join(parts)


def worth_keeping(record: logging.LogRecord) -> bool:
    """Whether a record is ours or a warning. Request lines are never kept: too many, and the first has a token."""
    if record.name == "uvicorn.access":
        return False
    return record.levelno >= logging.WARNING or record.name.partition(".")[0] in OURS


class LineFormatter(logging.Formatter):
    """`12:30:01 warning  the message`: what a person watching the terminal needs."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created)
        return f"{at:%H:%M:%S} {record.levelname.lower():8} {printable(record.getMessage())}"


class LogFile(RotatingFileHandler):
    """A log file that reports once if it cannot be written (a full disk), and stops nobody."""

    _told = False

    @contextmanager
    def let_go(self) -> Iterator[None]:
        """Close the file for the duration: nothing is written, and it may be replaced."""
        with self.lock or nullcontext():
            if self.stream is not None:
                self.stream.close()
                self.stream = None  # reopened for the next record, as after a rollover
            yield

    def handleError(self, record: logging.LogRecord) -> None:
        if not self._told:
            self._told = True
            print(f"The log {self.baseFilename} cannot be written: {sys.exc_info()[1]}.", file=sys.stderr)


def forget(data: Path, *, conversation: str | None = None, day: date | None = None, everything: bool = False) -> None:
    """Remove what was said from the logs: in a conversation, on a day, or all. The other fields stay.

    If words are logged, an exception's text may quote any of them, so it is removed too. Raises OSError.
    """

    def meant(line: dict[str, Any]) -> bool:
        of_day = day is not None and str(line.get("at", ""))[:10] == day.isoformat()
        return everything or of_day or line.get("conversation") == conversation

    with ExitStack() as held:
        for handler in logging.getLogger().handlers:
            if isinstance(handler, LogFile):
                held.enter_context(handler.let_go())
        for file in data.glob(f"{FILE_NAME}*"):
            _forget_in(file, meant)


def _forget_in(file: Path, meant: Callable[[dict[str, Any]], bool]) -> None:
    with file.open(encoding="utf-8", errors="replace") as old, rewriting(file) as new:
        for text in old:
            try:
                line = parsed(text)
            except ValueError:
                continue  # cut off by a power failure: its content cannot be known
            if isinstance(line, dict) and meant(line):
                line = {name: value for name, value in line.items() if name not in ("words", "exception")}
            new.write(json.dumps(line, ensure_ascii=False) + "\n")


def configure(data: Path, *, level: str, words: bool) -> None:
    """Log everything to the file, and warnings or worse to the terminal too; call again to apply other settings."""
    root = logging.getLogger()
    for handler in list(root.handlers):
        if isinstance(handler.formatter, JsonFormatter | LineFormatter):
            root.removeHandler(handler)
            handler.close()
    file = LogFile(data / FILE_NAME, maxBytes=MAX_BYTES, backupCount=KEPT, encoding="utf-8", delay=True)
    file.setFormatter(JsonFormatter(words=words))
    terminal = logging.StreamHandler(sys.stderr)
    terminal.setFormatter(LineFormatter())
    terminal.setLevel(logging.WARNING)
    for handler in (file, terminal):
        handler.addFilter(worth_keeping)
    root.addHandler(file)
    root.addHandler(terminal)
    root.setLevel(level)
