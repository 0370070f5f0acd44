"""What keeps a child process alive: it is launched again whenever it ends, and killed when it only seems to live."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Never

import psutil

from pipeline.engine import EngineError
from pipeline.workers import tied

SOUND_S = 60.0
"""A process that has lived for this long was sound: the next restart is again the first."""


def tied_command(python: Path | str, parent: int, sign: int, module: str, *arguments: str) -> list[str]:
    """Runs `module` as `python -m` does, in a process that ends when this one does."""
    return [str(python), str(tied.__file__), str(parent), str(sign), module, *arguments]


def tied_program(python: Path | str, parent: int, sign: int, program: str, *arguments: str) -> list[str]:
    """Runs a program, by its full path, in a process that ends when this one does."""
    return [str(python), str(tied.__file__), str(parent), str(sign), "--program", program, *arguments]


class Supervision:
    """One child after another."""

    def __init__(
        self,
        back_off_s: Sequence[float],
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`back_off_s` are the waits before the restarts that follow each other; the last one repeats."""
        self.restarts = 0
        self._back_off_s = back_off_s
        self._sleep, self._clock = sleep, clock

    async def keep(
        self,
        death: Callable[[], Awaitable[None]],
        launch: Callable[[], Awaitable[None]],
        failed: Callable[[EngineError], None],
    ) -> Never:
        """From the first launch on, until cancelled. `death` waits until the child is gone; `launch` may fail."""
        failures = 0
        while True:
            born = self._clock()
            await death()
            if self._clock() - born >= SOUND_S:
                failures = 0
            while True:
                await self._sleep(self._back_off_s[min(failures, len(self._back_off_s) - 1)])
                failures += 1
                self.restarts += 1
                try:
                    await launch()
                    break
                except EngineError as error:
                    failed(error)


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """How a process is found hung: it is asked for a sign of life, and sends none."""

    every_s: float = 0.5
    hung_s: float = 5.0
    """How long it may send none and not compute either: stopped, or waiting for what never comes."""
    lost_s: float = 60.0
    """How long it may send none while it computes: C code that keeps Python's lock, a library that is being loaded."""

    async def lacks(self, pid: int, ask: Callable[[], None], heard: Callable[[], bool]) -> None:
        """Ask again and again, until no sign of life has been heard for too long.

        It is counted in questions and not by the clock: a loop that was held up itself has asked less often.
        """
        silent = idle = 0.0
        computed = _computed(pid)
        while silent < self.lost_s and idle < self.hung_s:
            ask()
            await asyncio.sleep(self.every_s)
            if heard():
                silent = idle = 0.0
                continue
            silent += self.every_s
            idle += self.every_s
            if (now := _computed(pid)) != computed:
                computed, idle = now, 0.0


def _computed(pid: int) -> float | None:
    """Seconds of a processor that a process has had; None once it is gone."""
    try:
        process = psutil.Process(pid)
        times = process.cpu_times()
        waiting = process.status() == psutil.STATUS_DISK_SLEEP  # for a slow disk, which is as good as computing
        return float(times.user + times.system) + (time.monotonic() if waiting else 0.0)
    except psutil.Error:
        return None
