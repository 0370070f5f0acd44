"""What all commands share: bad input gets one sentence and exit code 2."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from ..errors import CsmError, first_line
from ..writing import reason

__all__ = ["INTERRUPTED", "Arguments", "Parser", "UsageError", "run", "shown"]

Arguments = argparse.Namespace
INTERRUPTED = 130  # as in shells: 128 + SIGINT


def shown(text: str) -> str:
    """Make text that may come from someone else's file safe for a terminal: one line, with no control characters."""
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in " ".join(text.split()))


class UsageError(CsmError):
    """The command cannot be carried out as given."""


class Parser(argparse.ArgumentParser):
    """A parser that prints one sentence instead of a page of usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def run(parser: Parser, act: Callable[[Arguments], int], arguments: Sequence[str] | None) -> int:
    """Run the command; an expected error becomes one sentence."""
    given = parser.parse_args(arguments)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_, **__: print(
                f"{parser.prog}: {shown(str(message))}", file=sys.stderr
            )
            return act(given)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of the sound has closed the pipe. Python would complain again when it closes standard output.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (CsmError, ValueError, OSError) as error:
        if getattr(given, "debug", False):
            raise
        print(f"{parser.prog}: {shown(_told(error))}", file=sys.stderr)
        return 2
    except RuntimeError as error:
        if getattr(given, "debug", False) or not _from_device(error):
            raise
        told = f"The graphics card failed ({first_line(error)}). Start again; if it fails again, take --device cpu."
        print(f"{parser.prog}: {shown(told)}", file=sys.stderr)
        return 2


def _told(error: Exception) -> str:
    """Turn the system's own errors, too, into a sentence that says what to do."""
    if isinstance(error, OSError) and error.errno is not None and isinstance(error.filename, str):
        return f"{error.filename} cannot be used: {reason(error, Path(error.filename))}"
    return str(error)


def _from_device(error: RuntimeError) -> bool:
    """Whether an accelerator failed. torch is not imported for this: a command that lists voices does without it."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(error, torch.AcceleratorError)
