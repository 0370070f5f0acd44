"""Keeps a child process alive: launches it again whenever it ends, and kills it if it hangs."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Never

import psutil

from pipeline.engine import EngineError
from pipeline.workers import tied

log = logging.getLogger(__name__)

SOUND_S = 60.0
"""Seconds after which a process counts as sound: its next restart is a first one again."""


def tied_command(python: Path | str, parent: int, sign: int, module: str, *arguments: str) -> list[str]:
    """Return a command that runs `module` as `python -m` does, in a process that ends when this one does."""
    return [str(python), str(tied.__file__), str(parent), str(sign), module, *arguments]


def tied_program(python: Path | str, parent: int, sign: int, program: str, *arguments: str) -> list[str]:
    """Return a command that runs a program, by its full path, in a process that ends when this one does."""
    return [str(python), str(tied.__file__), str(parent), str(sign), "--program", program, *arguments]


class BackOff:
    """The waits before restarts: each is longer than the one before, until a child has lived for SOUND_S."""

    def __init__(self, waits_s: Sequence[float], clock: Callable[[], float] = time.monotonic) -> None:
        """`waits_s`: the last one repeats."""
        self._waits_s, self._clock = waits_s, clock
        self._born = clock()
        self.failures = 0
        """Restarts in a row that did not last."""

    def born(self) -> None:
        """A child is started."""
        self._born = self._clock()

    def died(self) -> None:
        """The child, which had been ready, has ended."""
        if self._clock() - self._born >= SOUND_S:
            self.failures = 0

    def next_s(self) -> float:
        """Return how long to wait before the next restart, and count that."""
        wait = self._waits_s[min(self.failures, len(self._waits_s) - 1)]
        self.failures += 1
        return wait


class Supervision:
    """Keeps one child after another running."""

    def __init__(
        self,
        back_off_s: Sequence[float],
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`back_off_s` are the waits before consecutive restarts; the last one repeats."""
        self.restarts = 0
        self._back_off = BackOff(back_off_s, clock)
        self._sleep = sleep

    async def keep(
        self,
        death: Callable[[], Awaitable[None]],
        launch: Callable[[], Awaitable[None]],
        failed: Callable[[EngineError], None],
    ) -> Never:
        """Relaunch the child whenever it ends, until cancelled. `death` waits for its end; `launch` may fail, and is
        tried again."""
        while True:
            self._back_off.born()
            await death()
            self._back_off.died()
            while True:
                await self._sleep(self._back_off.next_s())
                self.restarts += 1
                try:
                    await launch()
                    break
                except EngineError as error:
                    failed(error)
                except Exception as error:
                    log.exception("a process could not be restarted")
                    failed(EngineError(f"The process could not be restarted ({type(error).__name__}: {error})."))


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Detects a hung process: it is asked for a sign of life and sends none."""

    every_s: float = 0.5
    hung_s: float = 5.0
    """How long it may be silent without computing: it is stopped, or waits for something that never comes."""
    lost_s: float = 60.0
    """How long it may be silent while computing: in C code that holds the GIL, or loading a library."""

    async def lacks(
        self, pid: int, ask: Callable[[], None], heard: Callable[[], bool], *, children: bool = False
    ) -> None:
        """Keep asking until no sign of life has come for too long.

        Silence is counted in questions, not by the clock, because a loop that was itself delayed has asked less often.
        With `children`, the process's children compute, and it only passes on what they say.
        """
        silent = idle = 0.0
        computed = _computed(pid, children)
        while silent < self.lost_s and idle < self.hung_s:
            ask()
            await asyncio.sleep(self.every_s)
            if heard():
                silent = idle = 0.0
                continue
            silent += self.every_s
            idle += self.every_s
            if (now := _computed(pid, children)) != computed:
                computed, idle = now, 0.0


def _computed(pid: int, children: bool) -> float | None:
    """Return the CPU seconds that a process, or its children together if it has any, have used; None if that cannot be
    read."""
    try:
        process = psutil.Process(pid)
        each = (children and process.children(recursive=True)) or [process]
        return sum(map(_seconds, each))
    except (psutil.Error, OSError):  # OSError: this process has too many open files
        return None


def _seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    waiting = process.status() == psutil.STATUS_DISK_SLEEP  # on a slow disk, which counts as computing
    return float(times.user + times.system) + (time.monotonic() if waiting else 0.0)
