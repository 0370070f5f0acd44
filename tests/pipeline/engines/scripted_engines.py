"""Engines for the tests of the running set: they do nothing, and write down when. Made anew for every test."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.engine import EngineError, EngineState, EngineStatus, Progress, Report


@dataclass
class Script:
    """What is to happen, and what did."""

    diary: list[str] = field(default_factory=list)
    made: list[ScriptedEngine] = field(default_factory=list)
    failing: dict[str, str] = field(default_factory=dict)
    """Sentences, by the engine's name."""
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: set[str] = field(default_factory=set)
    """Names of the engines whose loading waits for the gate."""
    within_reach: set[str] = field(default_factory=set)
    """Models that a running engine can become."""
    lingering: set[str] = field(default_factory=set)
    """Names of the engines whose end waits for it."""


class ScriptedEngine:
    def __init__(self, script: Script, name: str) -> None:
        self.name = name
        self.model = self
        self._script = script
        self._state: EngineState = "stopped"
        self._stopping = asyncio.Event()
        script.made.append(self)

    async def start(self, report: Report) -> None:
        self._stopping.clear()
        self._state = "loading"
        self._script.diary.append(f"start {self.name}")
        report(Progress(f"loading {self.name}", 0.5))
        if self.name in self._script.waiting:
            waits = [asyncio.create_task(event.wait()) for event in (self._script.gate, self._stopping)]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()
        if self._stopping.is_set():
            raise EngineError(f"{self.name} was stopped while it was loading.")
        if sentence := self._script.failing.get(self.name):
            self._state = "failed"
            raise EngineError(sentence)
        self._state = "ready"
        self._script.diary.append(f"ready {self.name}")

    async def stop(self) -> None:
        self._stopping.set()
        if self._state != "stopped":
            self._script.diary.append(f"stop {self.name}")
        self._state = "stopped"
        if self.name in self._script.lingering:
            await self._script.gate.wait()

    def can_become(self, arguments: Mapping[str, object]) -> bool:
        return arguments["model"] in self._script.within_reach

    async def become(self, arguments: Mapping[str, object]) -> None:
        if sentence := self._script.failing.get(str(arguments["model"])):
            raise EngineError(sentence)
        self._script.diary.append(f"{self.name} became {arguments['model']}")

    def die(self) -> None:
        self._state = "loading"

    @property
    def status(self) -> EngineStatus:
        return EngineStatus(self.name, self._state)
