"""Small engines that the tests of the worker run inside its process."""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pipeline.audio import Samples
from pipeline.engine import EngineError, Progress, Report


class Busy(Exception):
    """An exception of the engine's own."""


class Echo:
    """Answers; writes what became of its generators and of itself into `diary`."""

    def __init__(self, report: Report, diary: str = "") -> None:
        report(Progress("weights", 0.5))
        print("an engine that prints while it loads")
        self._diary = diary
        self._open = threading.Event()

    def _note(self, line: str) -> None:
        with Path(self._diary).open("a") as file:
            file.write(line + "\n")

    def echo(self, value: object, *, times: int = 1) -> list[object]:
        print("an engine that prints while it works")
        os.write(1, b"also from C\n")
        return [value] * times

    def process(self) -> int:
        return os.getpid()

    def thread(self) -> int:
        return threading.get_ident()

    def samples(self, count: int) -> Samples:
        return np.arange(count, dtype=np.float32)

    def count(self, upto: int) -> Iterator[int]:
        try:
            for number in range(upto):
                self._last = number
                yield number
        finally:
            if self._diary:
                self._note(f"closed after {self._last}")

    def broken_stream(self) -> Iterator[int]:
        yield 1
        raise Busy("half way")

    def wait(self, sign: str = "") -> str:
        if sign:
            Path(sign).touch()
        self._open.wait()
        return "opened"

    def hold_everything(self, sign: str) -> None:
        """C code that keeps Python's lock, so that no other thread of this process gets on."""
        libc = ctypes.PyDLL(None)
        Path(sign).touch()
        libc.sleep(3600)

    def open(self) -> None:
        self._open.set()

    def hold(self, key: str) -> None:
        while not Path(key).exists():
            time.sleep(0.01)

    def note(self, line: str) -> None:
        self._note(line)

    def refuse(self) -> None:
        raise EngineError("The voice has a cold: give it honey.")

    def be_busy(self) -> None:
        raise Busy("come back later")

    def fail(self) -> None:
        words = " ".join(["secret", "words\n", "and more"])
        raise ZeroDivisionError(words)

    def unpicklable(self) -> object:
        return threading.Lock()

    def exit(self, code: int) -> None:
        os._exit(code)

    def close(self) -> None:
        if self._diary:
            self._note("closed")


class Slow:
    """Never ends loading."""

    def __init__(self, report: Report) -> None:
        report(Progress(str(os.getpid())))
        time.sleep(3600)


class Hungry:
    """Cannot be loaded, for a reason of its own."""

    def __init__(self, report: Report) -> None:
        raise EngineError("The model needs 40 GB of memory: choose a smaller one.")


class Crash:
    def __init__(self, report: Report) -> None:
        os._exit(3)


class OnlyOnce:
    """Loads when `marker` is not there yet, and makes it: every later loading fails until somebody takes it away."""

    def __init__(self, report: Report, marker: str) -> None:
        try:
            Path(marker).touch(exist_ok=False)
        except FileExistsError:
            raise EngineError("The model's file is in use.") from None

    def exit(self) -> None:
        os._exit(1)


class NeedsPackage:
    def __init__(self, report: Report) -> None:
        import a_package_that_nobody_has  # type: ignore[import-not-found]  # noqa: F401


class Talkers:
    """Remembers what each of them said, by a number."""

    def __init__(self, report: Report, diary: str = "") -> None:
        self._said: dict[int, list[str]] = {}
        self._diary = diary

    def say(self, talker: int, word: str) -> list[str]:
        self._said.setdefault(talker, []).append(word)
        return self._said[talker]

    def talkers(self) -> int:
        return len(self._said)

    def forget(self, talker: int) -> None:
        del self._said[talker]
        with Path(self._diary).open("a") as file:
            file.write("forgotten\n")
