"""What all engines have in common: they start, report their state, and stop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeVar, runtime_checkable

EngineState = Literal["stopped", "loading", "ready", "failed"]

WENT_WRONG = "Something went wrong inside Parley; its log has the details."
"""What is told of a fault that nobody foresaw, once it is in the log."""


class EngineError(Exception):
    """An engine could not do its work; the message is one sentence for the user."""


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a start: a word for the user, and a share in [0, 1] if it is known."""

    what: str
    share: float | None = None


@dataclass(frozen=True, slots=True)
class EngineStatus:
    engine: str
    state: EngineState
    last_error: str | None = None
    progress: Progress | None = None
    memory_bytes: int | None = None
    restarts: int = 0


Report = Callable[[Progress], None]


class Engine(Protocol):
    async def start(self, report: Report) -> None:
        """Load the engine. Raises EngineError with one sentence that says what to do."""

    async def stop(self) -> None:
        """Release everything, including child processes. Safe to call twice, and without start."""

    @property
    def status(self) -> EngineStatus: ...


@runtime_checkable
class Changeable(Protocol):
    """An engine that can become another one of its kind without being reloaded."""

    def can_become(self, arguments: Mapping[str, object]) -> bool:
        """Whether it can become the engine that these arguments of its __init__ would make."""

    async def become(self, arguments: Mapping[str, object]) -> None:
        """Become that engine. Raises EngineError with one sentence that says what to do; it is then unchanged."""


E = TypeVar("E", bound=Engine)


class EngineFace(Generic[E]):
    """Stands in front of an engine: starts and stops it, and reports its status."""

    def __init__(self, engine: E) -> None:
        self.engine = engine

    async def start(self, report: Report) -> None:
        """Load the engine. Raises EngineError with one sentence that says what to do."""
        await self.engine.start(report)

    async def stop(self) -> None:
        await self.engine.stop()

    @property
    def status(self) -> EngineStatus:
        return self.engine.status
