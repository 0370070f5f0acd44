"""Parts of the discrete-event models: a server that divides its capacity, a process, and when answers began."""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import simpy

Process = Generator[simpy.Event, Any, None]
Rate = Callable[[int], float]
"""The speed of each of that many pieces of work, relative to one alone."""


class Server:
    """A replica, or a machine: a number of pieces of work at once, each slower the more there are; the rest waits."""

    def __init__(self, env: simpy.Environment, rate: Rate, slots: float = math.inf) -> None:
        self._env, self._rate, self._slots = env, rate, slots
        self._inside: list[tuple[float, int, float, simpy.Event]] = []
        """Ordered by the progress at which each is done: (progress, number, work, event)."""
        self._waiting: deque[tuple[float, simpy.Event]] = deque()
        self._numbers = count()
        self._progress = 0.0
        """Seconds of work that a piece present since the beginning would have received."""
        self._since = env.now
        self._version = 0
        self.gone = False

    @property
    def load(self) -> int:
        return len(self._inside) + len(self._waiting)

    def serve(self, work: float) -> simpy.Event:
        """Return an event that fires with True once the work is done, or with False if this server is lost before."""
        done = self._env.event()
        self._advance()
        if len(self._inside) < self._slots:
            self._enter(work, done)
        else:
            self._waiting.append((work, done))
        self._plan()
        return done

    def lose(self) -> None:
        """Lose the server and all its work."""
        self.gone = True
        self._version += 1
        events = [event for *_, event in self._inside] + [event for _, event in self._waiting]
        self._inside.clear()
        self._waiting.clear()
        for event in events:
            event.succeed(False)

    def _enter(self, work: float, done: simpy.Event) -> None:
        heapq.heappush(self._inside, (self._progress + work, next(self._numbers), work, done))

    def _advance(self) -> None:
        if self._inside:
            self._progress += self._rate(len(self._inside)) * (self._env.now - self._since)
        self._since = self._env.now

    def _plan(self) -> None:
        """Schedule a return for when the next piece will be done, unless something changes before."""
        self._version += 1
        if not self._inside:
            return
        left = max(0.0, self._inside[0][0] - self._progress) / self._rate(len(self._inside))
        version = self._version
        self._env.timeout(left).callbacks.append(lambda _: self._reached(version))

    def _reached(self, version: int) -> None:
        if version != self._version:
            return
        self._advance()
        *_, done = heapq.heappop(self._inside)
        done.succeed(True)
        if self._waiting:
            self._enter(*self._waiting.popleft())
        self._plan()


class Line:
    """A process that does one piece of work after the other, in the order in which they came, on shared cores."""

    def __init__(self, env: simpy.Environment, cores: Server, at_once: int = 1) -> None:
        """`at_once`: its threads."""
        self._threads, self._cores = simpy.Resource(env, at_once), cores

    def work(self, seconds: float) -> Process:
        with self._threads.request() as turn:
            yield turn
            yield self._cores.serve(seconds)


@dataclass(slots=True)
class Answered:
    """The result of a simulation: when each answer began, and after how many seconds."""

    turns: list[tuple[float, float]] = field(default_factory=list)

    def within(self, begin: float, end: float) -> list[float]:
        return [seconds for at, seconds in self.turns if begin <= at < end]
